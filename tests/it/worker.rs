//! `rag-api worker`, as the real binary: what probes and scrapers of a process without the API see.

use reqwest::StatusCode;

use crate::support::{Server, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_answers_probes_and_scrapers_and_ends_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let worker = Server::start_worker(dir.path()).await;
    let status = async |path: &str| reqwest::get(format!("{}{path}", worker.base)).await.unwrap().status();
    assert_eq!(status("/health").await, StatusCode::OK);
    let (code, ready) = worker.get("/ready").await;
    assert_eq!((code, ready["status"].as_str()), (200, Some("ready")), "{ready}");
    assert_eq!(status("/v1/documents").await, StatusCode::NOT_FOUND, "the API is not here");
    eventually("the gauges of the queue are there", || async {
        let metrics = reqwest::get(format!("{}/metrics", worker.base)).await.unwrap().text().await.unwrap();
        metrics.contains("rag_ingest_queue_age_seconds")
    })
    .await;
    assert!(worker.terminate().await.success());
}
