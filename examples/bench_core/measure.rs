//! The measurements, each with its table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rag_api::error::{Error, Result};
use rag_api::vector_store::SearchQuery;
use serde_json::json;

use crate::Bench;
use crate::corpus::{CHUNKS_PER_DOCUMENT, Corpus};
use crate::library::{self, Library};
use crate::load::{Outcome, Server, Wire, closed, get, open, percentile, post, resident};

/// Documents that are written before the next note on the way.
const NOTED: usize = 400;

/// Fills the folder if it is not filled: writes, optimizes, flushes.
pub(crate) async fn fill(bench: &Bench) -> Result<()> {
    let marker = bench.folder.join(format!("filled-{}-{}", bench.chunks, bench.seed));
    if marker.exists() {
        return Ok(());
    }
    let config = library::config(&bench.folder, &bench.settings)?;
    let library = Library::open(&config).await?;
    let corpus = Corpus::new(bench.seed);
    let documents = bench.chunks.div_ceil(CHUNKS_PER_DOCUMENT);
    let started = Instant::now();
    for first in (0..documents).step_by(NOTED) {
        library.write(&corpus, first..(first + NOTED).min(documents)).await?;
        if (first / NOTED).is_multiple_of(10) {
            let chunks = (first + NOTED).min(documents) * CHUNKS_PER_DOCUMENT;
            println!("{chunks} chunks written after {:.1} s", started.elapsed().as_secs_f64());
        }
    }
    println!("written in {:.1} s, {:.0} MiB resident", started.elapsed().as_secs_f64(), resident("self", "VmRSS:"));
    optimize(bench, &library, &corpus).await?;
    let started = Instant::now();
    library.store.flush().await?;
    println!("flushed in {:.2} s", started.elapsed().as_secs_f64());
    std::fs::write(marker, "").map_err(|error| Error::internal("the folder cannot be written", error))
}

/// Optimizes while searches go on, and prints how long those took.
async fn optimize(bench: &Bench, library: &Library, corpus: &Corpus) -> Result<()> {
    let store = library.store.clone();
    let started = Instant::now();
    let optimizing = tokio::spawn(async move { store.optimize().await });
    let scope = rag_api::document::Scope::new("acme".parse()?, vec![rag_api::document::Principal::public()]);
    let mut times = Vec::new();
    while !optimizing.is_finished() {
        let question = corpus.question(times.len());
        let dense = Some(corpus.vector(&question));
        let sparse = Some(library.bm25.query(&question));
        let query = SearchQuery { dense, sparse, filter: None, exclude: Vec::new(), limit: 100 };
        let began = Instant::now();
        library.store.search(&scope, query).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    optimizing.await.map_err(|error| Error::internal("optimizing failed", error))??;
    let seconds = started.elapsed().as_secs_f64();
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|p| percentile(&times, p));
    println!(
        "{} chunks optimized in {seconds:.1} s; searches meanwhile: p50 {p50:.1} ms, p99 {p99:.1} ms, most {most:.1} ms; \
         at most {:.0} MiB resident",
        bench.chunks,
        resident("self", "VmHWM:")
    );
    Ok(())
}

async fn key(bench: &Bench) -> Result<String> {
    let config = library::config(&bench.folder, &bench.settings)?;
    Library::open(&config).await?.key(&config).await
}

/// Searches, each with a question of its own.
fn searches(bench: &Bench, key: &str, from: usize) -> impl Fn(usize) -> Wire + Send + Sync + 'static {
    let (corpus, key) = (Corpus::new(bench.seed), key.to_owned());
    move |number| {
        let body = json!({ "query": corpus.question(from + number), "rerank": false });
        post("/v1/search", &key, &body)
    }
}

fn show(what: &str, outcome: &Outcome) {
    let [p50, p99] = [0.5, 0.99].map(|p| percentile(&outcome.good, p));
    println!(
        "{what:36} {:7} good  {:6} refused  {:9.1}/s  p50 {p50:7.3} ms  p99 {p99:7.3} ms  cpu {:6.3} ms each",
        outcome.good.len(),
        outcome.refused.len(),
        outcome.rate(),
        outcome.cpu_each()
    );
}

/// Distinct searches at concurrency 1 and more, beside the real embedding of one question.
pub(crate) async fn search(bench: &Bench) -> Result<()> {
    let key = key(bench).await?;
    let server = Server::start(&bench.serve_arguments()).await?;
    closed(&server, 1, 200, searches(bench, &key, 0)).await?;
    println!("\n{} chunks; the server has {:.0} MiB resident", bench.chunks, server.memory());
    let health = closed(&server, 1, bench.requests, |_| get("/health")).await?;
    show("/health, 1 connection", &health);
    let alone = closed(&server, 1, bench.requests, searches(bench, &key, 10_000)).await?;
    show("/v1/search, 1 connection", &alone);
    let many = closed(&server, 16, bench.requests, searches(bench, &key, 200_000)).await?;
    show("/v1/search, 16 connections", &many);
    println!("the server has {:.0} MiB resident", server.memory());
    drop(server);
    let config = library::config(&bench.folder, &bench.settings)?;
    let embedding = library::embedding_times(&config, &Corpus::new(bench.seed), 200).await?;
    let [p50, p99] = [0.5, 0.99].map(|p| percentile(&embedding, p));
    println!("the real embedding of one question: p50 {p50:.3} ms, p99 {p99:.3} ms");
    println!("a search / one embedding: {:.2}", percentile(&alone.good, 0.5) / p50);
    Ok(())
}

/// Answers out of the cache beside `/health`, in turns, so that both have the same machine.
pub(crate) async fn query(bench: &Bench) -> Result<()> {
    let key = key(bench).await?;
    let server = Server::start(&bench.serve_arguments()).await?;
    let corpus = Corpus::new(bench.seed);
    let bodies: Vec<_> = (0..20)
        .map(|number| post("/v1/query", &key, &json!({ "query": corpus.question(number), "rerank": false })))
        .collect();
    let bodies: Arc<[Wire]> = bodies.into();
    let cached = |number: usize, bodies: &[Wire]| bodies[number % bodies.len()].clone();
    let warm = bodies.clone();
    closed(&server, 1, 40, move |number| cached(number, &warm)).await?;
    let mut best: f64 = 0.0;
    for connections in [1, 4, 16] {
        for _ in 0..2 {
            let health = closed(&server, connections, bench.requests * 2, |_| get("/health")).await?;
            let bodies = bodies.clone();
            let query = closed(&server, connections, bench.requests * 2, move |number| cached(number, &bodies)).await?;
            show(&format!("/health, {connections} connections"), &health);
            show(&format!("/v1/query cached, {connections} connections"), &query);
            let ratio = query.rate() / health.rate();
            println!("cached / health: {ratio:.2}, by cpu {:.2}", health.cpu_each() / query.cpu_each());
            best = best.max(ratio);
        }
    }
    println!("best ratio {best:.2}");
    Ok(())
}

/// The most that the server can do, three times that, and what comes after.
pub(crate) async fn overload(bench: &Bench) -> Result<()> {
    let key = key(bench).await?;
    let server = Server::start(&bench.serve_arguments()).await?;
    closed(&server, 1, 200, searches(bench, &key, 0)).await?;
    let mut peak: f64 = 0.0;
    for connections in [4, 16, 48] {
        let outcome =
            closed(&server, connections, bench.requests, searches(bench, &key, connections * 100_000)).await?;
        show(&format!("/v1/search, {connections} connections"), &outcome);
        peak = peak.max(outcome.rate());
    }
    let before = server.memory();
    let lasting = Duration::from_secs(bench.seconds);
    let over = open(&server, 480, 3.0 * peak, lasting, searches(bench, &key, 10_000_000)).await?;
    let during = server.memory();
    show(&format!("3 × {peak:.0}/s for {} s", bench.seconds), &over);
    let offered = (over.good.len() + over.refused.len()) as f64 / over.seconds;
    let [p50, p99] = [0.5, 0.99].map(|p| percentile(&over.refused, p));
    println!("offered {offered:.0}/s; refusals: p50 {p50:.1} ms, p99 {p99:.1} ms");
    println!("goodput / peak: {:.2}; memory {before:.0} → {during:.0} MiB", over.rate() / peak);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = closed(&server, 16, bench.requests, searches(bench, &key, 90_000_000)).await?;
    show("5 s later, 16 connections", &after);
    println!("after / peak: {:.2}", after.rate() / peak);
    Ok(())
}

/// Writes the corpus ten times over, and starts a server on what is left.
pub(crate) async fn start(bench: &Bench) -> Result<()> {
    let config = library::config(&bench.folder, &bench.settings)?;
    let documents = bench.chunks.div_ceil(CHUNKS_PER_DOCUMENT);
    let corpus = Corpus::new(bench.seed);
    for (how, flush, optimize) in
        [("left as they are", false, false), ("flushed", true, false), ("optimized", true, true)]
    {
        let library = Library::open(&config).await?;
        let started = Instant::now();
        for round in 0..10 {
            library.write(&corpus, 0..documents).await?;
            if flush {
                library.store.flush().await?;
            }
            if optimize && round % 3 == 2 {
                library.store.optimize().await?;
            }
        }
        println!("ten rewrites, {how}: {:.1} s", started.elapsed().as_secs_f64());
        drop(library);
        let size = folder_size(&bench.folder.join("vectors"));
        let opening = Instant::now();
        drop(Library::open(&config).await?);
        let opened = opening.elapsed().as_secs_f64();
        let starting = Instant::now();
        let server = Server::start(&bench.serve_arguments()).await?;
        let ready = starting.elapsed().as_secs_f64();
        let memory = server.memory();
        println!(
            "  {size} MiB on disk; stores open in {opened:.2} s; a server is ready in {ready:.2} s, {memory:.0} MiB"
        );
    }
    Ok(())
}

fn folder_size(folder: &std::path::Path) -> u64 {
    let files = walkdir::WalkDir::new(folder).into_iter().flatten().filter_map(|entry| entry.metadata().ok());
    files.filter(|file| file.is_file()).map(|file| file.len()).sum::<u64>() / 1024 / 1024
}
