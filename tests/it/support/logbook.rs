//! A document of many chunks whose every paragraph can be told from all others, and what is left of it.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Server, eventually};

/// Fewest chunks of a document.
const CHUNKS: usize = 20;

/// Uploads a version of a document; the status, if there was an answer.
pub(crate) async fn upload(server: &Server, id: &str, version: u64) -> Option<u16> {
    let body = json!({ "text": text(id, version), "title": format!("Log of {id}") });
    let answer = server.send(Method::PUT, &format!("/v1/documents/{id}"), &body).await;
    answer.ok().map(|(status, _)| status)
}

/// A text of well over [`CHUNKS`] chunks, each paragraph with a word of its own.
pub(crate) fn text(id: &str, version: u64) -> String {
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
pub(crate) async fn whole(server: &Server, id: &str, version: u64) {
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
pub(crate) async fn found(server: &Server, id: &str) -> Vec<String> {
    let body = json!({ "query": format!("expedition entry of {id}"), "top_k": 50, "rerank": false });
    let (status, answer) = server.send(Method::POST, "/v1/search", &body).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let sources = answer["sources"].as_array().unwrap().iter();
    let own = sources.filter(|source| source["document_id"] == id);
    own.map(|source| source["id"].as_str().unwrap().to_owned()).collect()
}
