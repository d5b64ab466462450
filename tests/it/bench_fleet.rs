//! What a fleet costs: `cargo bench --profile dev --bench fleet -- [workers] [search] [replicas] [claims]`.
//!
//! Everything runs on this machine: PostgreSQL, Redis, a server that speaks S3, Qdrant's protocol over its embedded engine
//! (in this process), HAProxy, and the replicas as processes. Each figure stands beside one of the same run.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "the helpers of tests are shared; a benchmark prints, and ends where something is missing"
)]

#[path = "../../examples/bench_core/load.rs"]
mod load;
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use load::{Outcome, Target, percentile, post};
use rag_api::catalog::{self, Content, NewDocument, PutMode};
use rag_api::config::LoadOptions;
use reqwest::Method;
use serde_json::json;
use support::balancer::Balancer;
use support::fleet::Fleet;
use support::keeper::free_port;
use support::{ADMIN_KEY, Server};

/// Documents of a round, and chunks of each.
const DOCUMENTS: usize = 300;
const CHUNKS: usize = 3;
/// Clients of a closed loop, and what they ask in all.
const CLIENTS: usize = 8;
const SEARCHES: usize = 2_000;
const ANSWERS: usize = 10_000;

#[tokio::main]
async fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|other| other == name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores");
    if wanted("workers") {
        workers().await;
    }
    if wanted("search") {
        search().await;
    }
    if wanted("replicas") {
        replicas().await;
    }
    if wanted("claims") {
        claims().await;
    }
}

/// A text of so many chunks, like no other.
fn text(n: usize) -> String {
    let words = ["wind", "salt", "ice", "dawn", "harbour", "invoice", "ledger", "engine", "orchard", "signal"];
    let word = |i: usize| words[(n * 7 + i * i + i / 3) % words.len()];
    (0..CHUNKS * 150).map(|i| format!("{} ", word(i))).collect::<String>() + &format!("number {n}.")
}

async fn upload(server: &Server, count: usize) {
    for n in 0..count {
        let path = format!("/v1/documents/doc-{n}");
        let (status, answer) = server.send(Method::PUT, &path, &json!({ "text": text(n) })).await.unwrap();
        assert_eq!(status, 202, "{answer}");
    }
}

async fn all_indexed(server: &Server) {
    support::eventually("all are indexed", || async {
        let (_, waiting) = server.get("/v1/documents?status=processing&limit=1").await;
        waiting["documents"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
}

/// One worker on one core, and two on one core each, over the same documents.
async fn workers() {
    let mut seconds = Vec::new();
    for count in [1, 2] {
        let fleet = Fleet::start().await;
        let api = fleet.replica("api", &[("RAG_WORKER_CONCURRENCY", "0")]).await;
        upload(&api, DOCUMENTS).await;
        let mut running = Vec::new();
        for core in 0..count {
            running.push(fleet.pinned_worker(&format!("worker{core}"), core).await);
        }
        let started = Instant::now();
        all_indexed(&api).await;
        seconds.push(started.elapsed().as_secs_f64());
        println!(
            "workers: {count} pinned to a core each: {DOCUMENTS} documents in {:.1} s",
            seconds[seconds.len() - 1]
        );
    }
    println!("workers: two take {:.2} of the time of one (at most 0.6)", seconds[1] / seconds[0]);
}

/// A replica, or a balancer before some.
struct Asked {
    address: String,
    pid: Option<String>,
}

impl Asked {
    fn replica(server: &Server) -> Self {
        let pid = server.pid().as_raw_nonzero().to_string();
        Self { address: server.base.trim_start_matches("http://").to_owned(), pid: Some(pid) }
    }
}

impl Target for Asked {
    fn address(&self) -> &str {
        &self.address
    }

    fn cpu_seconds(&self) -> f64 {
        self.pid.as_deref().map_or(0.0, load::cpu_seconds)
    }
}

/// Searches without reranking, each for something else.
async fn searches(asked: &Asked) -> Outcome {
    let body = |n: usize| json!({ "query": format!("harbour invoice {n}"), "rerank": false });
    load::closed(asked, CLIENTS, SEARCHES, move |n| post("/v1/search", ADMIN_KEY, &body(n))).await.unwrap()
}

/// Thirty questions again and again.
async fn cached(asked: &Asked) -> Outcome {
    let body = |n: usize| json!({ "query": format!("invoice {}", n % 30) });
    load::closed(asked, CLIENTS, ANSWERS, move |n| post("/v1/query", ADMIN_KEY, &body(n))).await.unwrap()
}

fn say(what: &str, seen: &Outcome) {
    assert!(seen.refused.is_empty(), "{what}: {} refused", seen.refused.len());
    let at = |share: f64| percentile(&seen.good, share);
    let (rate, each) = (seen.rate(), seen.cpu_each());
    let cpu = if each > 0.0 { format!(", {each:.2} ms of processor time each") } else { String::new() };
    println!("{what}: {rate:.0}/s, p50 {:.1} ms, p99 {:.1} ms{cpu}", at(0.5), at(0.99));
}

/// A replica over what is shared, beside one with everything inside.
async fn search() {
    let fleet = Fleet::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (shared, local) = (fleet.replica("one", &[]).await, Server::start(folder.path(), &[]).await);
    for server in [&shared, &local] {
        upload(server, 60).await;
        all_indexed(server).await;
    }
    let (shared, local) = (Asked::replica(&shared), Asked::replica(&local));
    // The first pass warms connections, and fills the cache.
    for asked in [&shared, &local] {
        searches(asked).await;
        cached(asked).await;
    }
    compare("search, not reranked", [searches(&shared).await, searches(&local).await]);
    compare("cached answer", [cached(&shared).await, cached(&local).await]);
}

fn compare(what: &str, [shared, local]: [Outcome; 2]) {
    say(&format!("{what}, shared services"), &shared);
    say(&format!("{what}, everything inside"), &local);
    let (rate, each) = (shared.rate() / local.rate(), shared.cpu_each() / local.cpu_each());
    println!("{what}: {rate:.2} of the rate, {each:.2} times the replica's processor time");
}

/// One replica and two, behind the balancer.
async fn replicas() {
    let fleet = Fleet::start().await;
    let ports = [free_port(), free_port()];
    let mut running = Vec::new();
    let mut rates = Vec::new();
    for (n, port) in ports.iter().enumerate() {
        let listen = format!("127.0.0.1:{port}");
        running.push(fleet.replica(&format!("replica{n}"), &[("RAG_LISTEN", &listen)]).await);
        if n == 0 {
            upload(&running[0], 60).await;
            all_indexed(&running[0]).await;
        }
        let balancer = Balancer::start(&ports[..=n]);
        let asked = Asked { address: balancer.address.clone(), pid: None };
        cached(&asked).await;
        let seen = cached(&asked).await;
        say(&format!("cached answers through the balancer, {} of 2 replicas", n + 1), &seen);
        rates.push(seen.rate());
    }
    println!("two replicas have {:.2} of the rate of one, on the same cores", rates[1] / rates[0]);
}

/// How many documents a second can be handed to workers.
async fn claims() {
    let url = support::postgres::database().await;
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite:{}", folder.path().join("catalog.db").display());
    for url in [url, sqlite] {
        let environment =
            vec![("HOME".to_owned(), "/nowhere".to_owned()), ("RAG_DATABASE_URL".to_owned(), url.clone())];
        let options = LoadOptions { environment: Some(environment), ..LoadOptions::default() };
        let catalog = catalog::build(&rag_api::config::load(options).unwrap().config.catalog).await.unwrap();
        for n in 0..400 {
            catalog.put(document(n), PutMode::CreateOrReplace).await.unwrap();
        }
        let started = Instant::now();
        let claimed = AtomicUsize::new(0);
        let worker = async || {
            while let Some(job) = catalog.claim(Duration::from_secs(3600)).await.unwrap() {
                drop(job);
                claimed.fetch_add(1, Ordering::Relaxed);
            }
        };
        tokio::join!(worker(), worker(), worker(), worker());
        let rate = claimed.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
        println!("claims by four workers: {} {rate:.0}/s", url.split(':').next().unwrap());
    }
}

fn document(n: usize) -> NewDocument {
    let content = Content {
        blob: format!("acme/doc-{n}/original"),
        sha256: format!("{n:064}"),
        bytes: 10,
        filename: None,
        media_type: "text/plain".to_owned(),
    };
    NewDocument {
        tenant: "acme".parse().unwrap(),
        document_id: format!("doc-{n}").parse().unwrap(),
        owner: "user:ada".parse().unwrap(),
        readers: None,
        title: None,
        metadata: None,
        content,
        request: None,
        as_admin: false,
    }
}
