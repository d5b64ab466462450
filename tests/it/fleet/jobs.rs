//! A document whose replica dies or sleeps is finished by another, once.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::fleet::Fleet;
use crate::support::held::Held;
use crate::support::qdrant_server::Fault;
use crate::support::{Server, eventually};

/// Short, so that another takes over soon.
const LEASE: (&str, &str) = ("RAG_WORKER_LEASE_SECONDS", "2");

async fn upload(server: &Server, id: &str) {
    let entry = |n: usize| {
        format!("Entry {n}: wind, salt, temperature and the drift of the ice were measured at dawn. ").repeat(8)
            + "\n\n"
    };
    let text: String = (0..40).map(entry).collect();
    let (status, answer) = server.send(Method::PUT, &path(id), &json!({ "text": text })).await.expect("a response");
    assert_eq!(status, 202, "{answer}");
}

/// The document is indexed, in its first version, and every chunk is there once.
async fn whole(server: &Server, id: &str) {
    let path = path(id);
    eventually("it is indexed", || async { server.get(&path).await.1["status"] == "indexed" }).await;
    let (_, record) = server.get(&path).await;
    assert_eq!(record["version"], 1, "{record}");
    let (status, page) = server.get(&format!("{path}/chunks?limit=500")).await;
    assert_eq!(status, 200, "{page}");
    let numbers: Vec<u64> = page["chunks"].as_array().expect("chunks").iter().map(number).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "a chunk is missing or twice");
    assert_eq!(record["chunks"], numbers.len());
    let body = json!({ "query": "the drift of the ice", "top_k": 50, "rerank": false });
    let (_, answer) = server.send(Method::POST, "/v1/search", &body).await.expect("a response");
    let hits = answer["sources"].as_array().expect("sources").iter();
    let hits: Vec<u64> = hits.filter(|source| source["document_id"] == id).map(number).collect();
    assert!(!hits.is_empty() && hits.iter().collect::<BTreeSet<_>>().len() == hits.len(), "found twice: {hits:?}");
}

fn path(id: &str) -> String {
    format!("/v1/documents/{id}")
}

fn number(chunk: &Value) -> u64 {
    chunk["chunk_idx"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_replica_left_another_finishes() {
    let fleet = Fleet::start().await;
    for point in ["extract", "upsert", "before_flip"] {
        let (held, settings) = Held::at(point).await;
        let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
        let first = fleet.replica("first", &[&settings[..], &[LEASE]].concat()).await;
        upload(&first, point).await;
        assert_eq!(held.wait().await, point);
        let second = fleet.replica("second", &[LEASE]).await;
        assert_eq!(first.kill().await.signal(), Some(9), "it lived until then");
        whole(&second, point).await;
        assert!(second.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sleeping_replica_held_another_finishes_and_the_sleeper_changes_nothing() {
    let fleet = Fleet::start().await;
    let first = fleet.replica("first", &[LEASE]).await;
    let writes = fleet.qdrant.calls("upsert").len();
    // The write is under way, and its answer does not come.
    fleet.qdrant.fail("upsert", 0, Fault::Silence);
    upload(&first, "logbook").await;
    eventually("it writes points", || async { fleet.qdrant.calls("upsert").len() > writes }).await;
    first.pause(true);
    let second = fleet.replica("second", &[LEASE]).await;
    whole(&second, "logbook").await;
    let (_, record) = second.get(&path("logbook")).await;
    assert_eq!(record["attempts"], 2, "{record}");
    first.pause(false);
    // It works on as one that has lost the document, and takes others.
    let other = json!({ "text": "The harbour closes at nine." });
    let (status, _) = first.send(Method::PUT, "/v1/documents/harbour", &other).await.expect("a response");
    assert_eq!(status, 202);
    eventually("the other is indexed", || async { first.get("/v1/documents/harbour").await.1["status"] == "indexed" })
        .await;
    whole(&first, "logbook").await;
    let (_, after) = second.get(&path("logbook")).await;
    assert_eq!((&after["attempts"], &after["updated_at"]), (&record["attempts"], &record["updated_at"]));
    for server in [first, second] {
        assert!(server.terminate().await.success());
    }
}
