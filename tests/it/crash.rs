//! Nothing is lost: the real binary is killed at every step of a document's life, and started again.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::held::Held;
use crate::support::logbook::{found, text, upload, whole};
use crate::support::{Server, eventually};

/// Kills at each point.
const ROUNDS: usize = 3;
const SIGKILL: i32 = 9;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_survives_a_kill_at_every_step() {
    let points = ["blob", "row", "extract", "upsert", "flush", "before_flip", "after_flip"];
    let mut kills = Kills::default();
    for point in points {
        let data = tempfile::tempdir().unwrap();
        let mut acknowledged = BTreeSet::new();
        for round in 0..ROUNDS {
            let id = format!("doc-{round}");
            let (server, held) = held_server(data.path(), point).await;
            if upload_until_held(&server, &id, 1, &held, point).await {
                acknowledged.insert(id);
            }
            kills.kill(server, point).await;
        }
        let server = Server::start(data.path(), &[]).await;
        for id in &acknowledged {
            whole(&server, id, 1).await;
        }
        // One that was not acknowledged is there whole, or not at all.
        for round in 0..ROUNDS {
            let id = format!("doc-{round}");
            match server.get(&format!("/v1/documents/{id}")).await.0 {
                200 => whole(&server, &id, 1).await,
                status => {
                    assert_eq!(status, 404);
                    assert!(!acknowledged.contains(&id), "{id} was acknowledged and is lost");
                }
            }
        }
        server.kill().await;
    }
    kills.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_survives_a_kill_at_every_step() {
    let points = ["blob", "row", "extract", "upsert", "flush", "before_flip", "after_flip", "cleanup"];
    let mut kills = Kills::default();
    for point in points {
        let data = tempfile::tempdir().unwrap();
        let mut version = 1;
        let server = Server::start(data.path(), &[]).await;
        assert_eq!(upload(&server, "doc", version).await, Some(202));
        whole(&server, "doc", version).await;
        server.kill().await;
        for _ in 0..ROUNDS {
            let (server, held) = held_server(data.path(), point).await;
            // Before the new version is current the old one answers, whole.
            whole(&server, "doc", version).await;
            let next = version + 1;
            let acknowledged = upload_until_held(&server, "doc", next, &held, point).await;
            kills.kill(server, point).await;
            let server = Server::start(data.path(), &[]).await;
            let (_, record) = server.get("/v1/documents/doc").await;
            let newest = record["version"].as_u64().unwrap();
            assert!(newest == next || (newest == version && !acknowledged), "{point}: {record}");
            version = newest;
            whole(&server, "doc", version).await;
            server.kill().await;
        }
    }
    kills.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_survives_a_kill_at_every_step() {
    let points = ["delete", "delete_points", "delete_blobs"];
    let mut kills = Kills::default();
    for point in points {
        let data = tempfile::tempdir().unwrap();
        for round in 0..ROUNDS {
            let id = format!("doc-{round}");
            let server = Server::start(data.path(), &[]).await;
            assert_eq!(upload(&server, &id, 1).await, Some(202));
            whole(&server, &id, 1).await;
            server.kill().await;

            let (server, held) = held_server(data.path(), point).await;
            let path = format!("/v1/documents/{id}");
            let deletion = server.send(Method::DELETE, &path, &Value::Null);
            tokio::select! {
                answer = deletion => panic!("the deletion was not held: {answer:?}"),
                reached = held.wait() => assert_eq!(reached, point),
            }
            // It holds from the moment it is recorded.
            assert_eq!(server.get(&path).await.0, 404);
            kills.kill(server, point).await;

            let server = Server::start(data.path(), &[]).await;
            assert_eq!(server.get(&path).await.0, 404);
            assert!(found(&server, &id).await.is_empty(), "{point}: a deleted document is found");
            eventually("no original is left", || async { originals(data.path()) == 0 }).await;
            server.kill().await;
        }
    }
    kills.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_survive_a_kill_in_optimize() {
    // Small chunks: optimizing rewrites a segment of 500 points and more when a fifth of them is deleted.
    let small = [("RAG_CHUNK_TOKENS", "48"), ("RAG_CHUNK_OVERLAP_TOKENS", "0")];
    let data = tempfile::tempdir().unwrap();
    let mut kills = Kills::default();
    let mut version = 0;
    for _ in 0..ROUNDS {
        let server = Server::start(data.path(), &small).await;
        for _ in 0..2 {
            version += 1;
            let text = text("doc", version).repeat(6);
            let body = json!({ "text": text, "title": "Log" });
            assert_eq!(server.send(Method::PUT, "/v1/documents/doc", &body).await.unwrap().0, 202);
            whole(&server, "doc", version).await;
        }
        server.kill().await;
        let (server, held) = held_server(data.path(), "optimize").await;
        // Optimizing has begun, and goes on while the process dies.
        assert_eq!(held.wait().await, "optimize");
        kills.kill(server, "optimize").await;
        let server = Server::start(data.path(), &small).await;
        whole(&server, "doc", version).await;
        server.kill().await;
    }
    kills.check();
}

/// A server that stops at a point, and the ear that hears it.
async fn held_server(data: &Path, point: &str) -> (Server, Held) {
    let (held, settings) = Held::at(point).await;
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    (Server::start(data, &settings).await, held)
}

/// Uploads a version and waits until the point is reached; whether the upload was acknowledged before. (The request
/// itself may be what is held.)
async fn upload_until_held(server: &Server, id: &str, version: u64, held: &Held, point: &str) -> bool {
    let upload = upload(server, id, version);
    tokio::pin!(upload);
    let arrived = held.wait();
    tokio::pin!(arrived);
    tokio::select! {
        answer = &mut upload => {
            assert_eq!(arrived.await, point);
            answer == Some(202)
        }
        reached = &mut arrived => {
            assert_eq!(reached, point);
            false
        }
    }
}

/// Files among the originals.
fn originals(data: &Path) -> usize {
    let files = walkdir::WalkDir::new(data.join("originals")).into_iter().filter_map(Result::ok);
    files.filter(|entry| entry.file_type().is_file()).count()
}

/// How often a process that had told that it is at a point was ended by SIGKILL, and by nothing else before.
#[derive(Default)]
struct Kills(BTreeMap<&'static str, usize>);

impl Kills {
    async fn kill(&mut self, server: Server, point: &'static str) {
        let status = server.kill().await;
        *self.0.entry(point).or_default() += usize::from(status.signal() == Some(SIGKILL));
    }

    fn check(&self) {
        for (point, times) in &self.0 {
            println!("killed at {point}: {times} times");
            assert_eq!(*times, ROUNDS, "not every process lived until it was killed at {point}");
        }
    }
}
