//! Nothing is lost: the real binary is killed at every step of a document's life, and started again.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::held::Held;
use crate::support::{Server, eventually};

/// Kills at each point.
const ROUNDS: usize = 3;
const SIGKILL: i32 = 9;
/// Fewest chunks of a test document.
const CHUNKS: usize = 20;

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

/// Uploads a version of a document; the status, if there was an answer.
async fn upload(server: &Server, id: &str, version: u64) -> Option<u16> {
    let body = json!({ "text": text(id, version), "title": format!("Log of {id}") });
    let answer = server.send(Method::PUT, &format!("/v1/documents/{id}"), &body).await;
    answer.ok().map(|(status, _)| status)
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

/// A text of well over [`CHUNKS`] chunks, each paragraph with a word of its own.
fn text(id: &str, version: u64) -> String {
    let paragraph = |n: usize| {
        let about = "The expedition measured wind, salt, temperature and the drift of the ice at dawn, noon and dusk, \
                     and wrote down what the instruments showed together with the names of those who read them. ";
        format!("Entry {n} of {id}, edition {version}, marker {}.\n{}\n\n", marker(id, version, n), about.repeat(4))
    };
    (0..CHUNKS + 5).map(paragraph).collect()
}

fn marker(id: &str, version: u64, n: usize) -> String {
    format!("m{}v{version}n{n}x", id.replace('-', ""))
}

/// The document becomes indexed by itself; its chunks are there once each, in order, and hold all of the text.
async fn whole(server: &Server, id: &str, version: u64) {
    let path = format!("/v1/documents/{id}");
    eventually(&format!("{id} is indexed"), || async { server.get(&path).await.1["status"] == "indexed" }).await;
    let (_, record) = server.get(&path).await;
    assert_eq!(record["version"], version, "{record}");
    let chunks = chunks(server, &path).await;
    assert!(chunks.len() >= CHUNKS, "only {} chunks", chunks.len());
    assert_eq!(record["chunks"], chunks.len());
    let numbers: Vec<u64> = chunks.iter().map(|chunk| chunk["chunk_idx"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..chunks.len() as u64).collect::<Vec<_>>(), "a chunk is missing or twice");
    let all: String = chunks.iter().map(|chunk| chunk["text"].as_str().unwrap()).collect();
    for n in 0..CHUNKS + 5 {
        assert!(all.contains(&marker(id, version, n)), "entry {n} of {id} is missing");
    }
    let hits = found(server, id).await;
    assert!(!hits.is_empty(), "{id} is not found");
    let unique: BTreeSet<&String> = hits.iter().collect();
    assert_eq!(unique.len(), hits.len(), "a chunk is found twice: {hits:?}");
}

/// All chunks of a document, page by page.
async fn chunks(server: &Server, path: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let (status, page) = server.get(&format!("{path}/chunks?limit=500{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        all.extend(page["chunks"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// The chunks of a document that a search finds.
async fn found(server: &Server, id: &str) -> Vec<String> {
    let body = json!({ "query": format!("expedition entry of {id}"), "top_k": 50, "rerank": false });
    let (status, answer) = server.send(Method::POST, "/v1/search", &body).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let sources = answer["sources"].as_array().unwrap().iter();
    let own = sources.filter(|source| source["document_id"] == id);
    own.map(|source| source["id"].as_str().unwrap().to_owned()).collect()
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
