//! Every replica is restarted behind a load balancer, and no client notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::ADMIN_KEY;
use crate::support::balancer::Balancer;
use crate::support::fleet::Fleet;
use crate::support::keeper::free_port;
use crate::support::llm_server::{LlmServer, Script};

/// How long a model takes for an answer, in six pieces.
const ANSWER: Duration = Duration::from_secs(3);

/// What clients saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    served: AtomicUsize,
    failed: std::sync::Mutex<Vec<String>>,
}

impl Seen {
    fn note(&self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => drop(self.served.fetch_add(1, Ordering::SeqCst)),
            Err(problem) => self.failed.lock().unwrap().push(problem),
        }
    }

    /// Sends a request every `pace`, whatever becomes of those before, until it is told to stop; then waits for all.
    async fn load<F>(self: Arc<Self>, pace: Duration, request: impl Fn() -> F)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let mut ticks = tokio::time::interval(pace);
        let mut running = tokio::task::JoinSet::new();
        while !self.stop.load(Ordering::SeqCst) {
            ticks.tick().await;
            let (seen, request) = (self.clone(), request());
            running.spawn(async move { seen.note(request.await) });
        }
        running.join_all().await;
    }
}

async fn post(client: reqwest::Client, url: String, body: Value) -> Result<String, String> {
    let response = client.post(url).header("x-api-key", ADMIN_KEY).json(&body).send().await;
    let response = response.map_err(|error| format!("{error:?}"))?;
    let status = response.status();
    let text = response.text().await.map_err(|error| format!("cut off: {error:?}"))?;
    if status == 200 { Ok(text) } else { Err(format!("{status}: {text}")) }
}

async fn search(client: reqwest::Client, base: String) -> Result<(), String> {
    let body = json!({ "query": "How long are invoices kept?", "rerank": false });
    let text = post(client, format!("{base}/v1/search"), body).await?;
    if text.contains("\"retention\"") { Ok(()) } else { Err(format!("nothing found: {text}")) }
}

async fn stream(client: reqwest::Client, base: String) -> Result<(), String> {
    let body = json!({ "query": "How long are invoices kept?", "stream": true });
    let text = post(client, format!("{base}/v1/query"), body).await?;
    match text.contains("event: done") && !text.contains("event: error") {
        true => Ok(()),
        false => Err(format!("a stream without its end: {text}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request_and_drops_no_stream() {
    let fleet = Fleet::start().await;
    let answer = vec!["Invoices ", "are ", "kept ", "for ", "ten years", " [1]."];
    let llm = LlmServer::start([Script::SaySlowly(ANSWER / 6, answer)]).await;
    let changes = [
        ("RAG_LLM_MODEL", "openai:any"),
        ("RAG_OPENAI_BASE_URL", llm.base_url.as_str()),
        ("RAG_CACHE_TTL_SECONDS", "0"),
        ("RAG_DRAIN_DELAY_SECONDS", "5"),
    ];
    let ports = [free_port(), free_port()];
    let addresses = ports.map(|port| format!("127.0.0.1:{port}"));
    let start = async |n: usize| {
        let listen = [("RAG_LISTEN", addresses[n].as_str())];
        fleet.replica(&format!("replica{n}"), &[&changes[..], &listen].concat()).await
    };
    let replicas = [start(0).await, start(1).await];
    let document = json!({ "text": "Invoices are kept for ten years.", "document_id": "retention" });
    let (status, _) = replicas[0].send(reqwest::Method::POST, "/v1/documents", &document).await.expect("a response");
    assert_eq!(status, 202);
    crate::support::eventually("it is indexed", || async {
        replicas[0].get("/v1/documents/retention").await.1["status"] == "indexed"
    })
    .await;

    let balancer = Balancer::start(&ports);
    let base = format!("http://{}", balancer.address);
    let client = reqwest::Client::new();
    crate::support::eventually("the balancer has found them", || async {
        search(client.clone(), base.clone()).await.is_ok()
    })
    .await;
    let (searches, streams) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let search = || search(client.clone(), base.clone());
    let stream = || stream(client.clone(), base.clone());
    let restart = async {
        let mut fresh = Vec::new();
        for (n, replica) in replicas.into_iter().enumerate() {
            let status = replica.terminate().await;
            assert!(status.success(), "{status}");
            fresh.push(start(n).await);
        }
        searches.stop.store(true, Ordering::SeqCst);
        streams.stop.store(true, Ordering::SeqCst);
        fresh
    };
    let loads = (
        searches.clone().load(Duration::from_millis(50), search),
        streams.clone().load(Duration::from_millis(200), stream),
    );
    let _replicas = tokio::join!(restart, loads.0, loads.1).0;
    for (what, seen) in [("searches", &searches), ("streams", &streams)] {
        let (served, failed) = (seen.served.load(Ordering::SeqCst), seen.failed.lock().unwrap());
        println!("{what}: {served} served, {} failed", failed.len());
        assert!(failed.is_empty() && served > 10, "{what}: {served} served; {failed:?}");
    }
}
