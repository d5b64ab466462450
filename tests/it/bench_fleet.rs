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

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

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
/// Clients of a closed loop, and for how long they ask.
const CLIENTS: usize = 8;
const ROUND: Duration = Duration::from_secs(8);

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
    loop {
        let (_, waiting) = server.get("/v1/documents?status=processing&limit=1").await;
        if waiting["documents"].as_array().is_some_and(Vec::is_empty) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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

/// Rate and latencies of a closed loop.
struct Loop {
    rate: f64,
    p50: f64,
    p99: f64,
}

impl std::fmt::Display for Loop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0}/s, p50 {:.1} ms, p99 {:.1} ms", self.rate, self.p50, self.p99)
    }
}

/// Eight clients, each of which asks again once it has its answer. `fresh`: every question is another.
async fn ask(base: &str, path: &str, fresh: bool) -> Loop {
    let client = reqwest::Client::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let clients = (0..CLIENTS).map(|_| {
        let (client, url, asked) = (client.clone(), format!("{base}{path}"), asked.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while started.elapsed() < ROUND {
                let n = asked.fetch_add(1, Ordering::Relaxed);
                let query = if fresh { format!("harbour invoice {n}") } else { format!("invoice {}", n % 30) };
                let mut body = json!({ "query": query });
                if fresh {
                    body["rerank"] = false.into();
                }
                let sent = Instant::now();
                let response = client.post(&url).header("x-api-key", ADMIN_KEY).json(&body).send().await.unwrap();
                assert_eq!(response.status(), 200);
                response.bytes().await.unwrap();
                times.push(sent.elapsed().as_secs_f64() * 1e3);
            }
            times
        })
    });
    let mut times: Vec<f64> = futures::future::join_all(clients).await.into_iter().flat_map(Result::unwrap).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Loop { rate: times.len() as f64 / started.elapsed().as_secs_f64(), p50: at(0.5), p99: at(0.99) }
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
    for (path, fresh, what) in [("/v1/search", true, "search, not reranked"), ("/v1/query", false, "cached answer")] {
        // The first pass warms connections, and fills the cache.
        for server in [&shared, &local] {
            ask(&server.base, path, fresh).await;
        }
        let (ours, inside) = (ask(&shared.base, path, fresh).await, ask(&local.base, path, fresh).await);
        println!("{what}: shared services {ours}");
        println!("{what}: everything inside {inside}");
        println!("{what}: {:.2} of the rate, {:+.1} ms at the median", ours.rate / inside.rate, ours.p50 - inside.p50);
    }
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
        ask(&balancer.base, "/v1/query", false).await;
        let seen = ask(&balancer.base, "/v1/query", false).await;
        println!("cached answers through the balancer, {} replicas: {seen}", n + 1);
        rates.push(seen.rate);
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
