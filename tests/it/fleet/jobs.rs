//! A document whose replica dies or sleeps is finished by another, once.

use std::os::unix::process::ExitStatusExt;

use reqwest::Method;
use serde_json::json;

use crate::support::eventually;
use crate::support::fleet::Fleet;
use crate::support::held::Held;
use crate::support::logbook::{upload, whole};
use crate::support::qdrant_server::Fault;

/// Short, so that another takes over soon.
const LEASE: (&str, &str) = ("RAG_WORKER_LEASE_SECONDS", "2");

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_replica_left_another_finishes() {
    let fleet = Fleet::start().await;
    for point in ["extract", "upsert", "before_flip"] {
        let (held, settings) = Held::at(point).await;
        let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
        let first = fleet.replica("first", &[&settings[..], &[LEASE]].concat()).await;
        assert_eq!(upload(&first, point, 1).await, Some(202));
        assert_eq!(held.wait().await, point);
        let second = fleet.replica("second", &[LEASE]).await;
        assert_eq!(first.kill().await.signal(), Some(9), "it lived until then");
        whole(&second, point, 1).await;
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
    assert_eq!(upload(&first, "logbook", 1).await, Some(202));
    eventually("it writes points", || async { fleet.qdrant.calls("upsert").len() > writes }).await;
    first.pause(true);
    let second = fleet.replica("second", &[LEASE]).await;
    whole(&second, "logbook", 1).await;
    let (_, record) = second.get("/v1/documents/logbook").await;
    assert_eq!(record["attempts"], 2, "{record}");
    first.pause(false);
    // It works on as one that has lost the document, and takes others.
    let other = json!({ "text": "The harbour closes at nine." });
    let (status, _) = first.send(Method::PUT, "/v1/documents/harbour", &other).await.expect("a response");
    assert_eq!(status, 202);
    eventually("the other is indexed", || async { first.get("/v1/documents/harbour").await.1["status"] == "indexed" })
        .await;
    whole(&first, "logbook", 1).await;
    let (_, after) = second.get("/v1/documents/logbook").await;
    assert_eq!((&after["attempts"], &after["updated_at"]), (&record["attempts"], &record["updated_at"]));
    for server in [first, second] {
        assert!(server.terminate().await.success());
    }
}
