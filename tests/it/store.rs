//! Vector stores: one conformance suite, run by every backend, and what is the backend's own.
#![cfg(feature = "edge")]

mod agreement;
mod conformance;
mod qdrant;

use std::path::Path;
use std::sync::Arc;

use rag_api::embedding::EmbeddingModel;
use rag_api::error::ErrorKind;
use rag_api::vector_store::{self, Config, SearchQuery, VectorStore, Versions};
use tempfile::TempDir;

use conformance::{DIMENSIONS, conformance, point, vector};
use qdrant::qdrant;

/// A store in a folder of its own.
struct Opened {
    store: Arc<dyn VectorStore>,
    folder: TempDir,
}

fn model() -> EmbeddingModel {
    EmbeddingModel { name: "test-model".to_owned(), dimensions: DIMENSIONS, max_tokens: 256 }
}

fn config(folder: &Path) -> Config {
    Config::Edge { path: folder.to_owned(), collection: "documents".to_owned() }
}

async fn edge() -> Opened {
    let folder = TempDir::new().unwrap();
    let store = vector_store::build(&config(folder.path()), &model()).await.unwrap();
    Opened { store, folder }
}

mod on_edge {
    use super::*;

    conformance!(edge);
}

mod on_qdrant {
    use super::*;

    conformance!(qdrant);
}

async fn count(store: &dyn VectorStore) -> usize {
    let scope = rag_api::document::Scope::new("acme".parse().unwrap(), vec!["user:ada".parse().unwrap()]);
    let query = SearchQuery { dense: Some(vector(1)), limit: 10_000, ..SearchQuery::default() };
    store.search(&scope, query).await.unwrap().dense.len()
}

/// Bytes that the files really take: the engine's are mostly holes.
fn disk_use(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;

    let files =
        walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    files.map(|file| file.metadata().unwrap().blocks() * 512).sum()
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let Opened { store, folder } = edge().await;
    store.upsert((0..40).map(|i| point("a", 1, i, "invoice")).collect()).await.unwrap();
    drop(store);
    for _ in 0..2 {
        let store = vector_store::build(&config(folder.path()), &model()).await.unwrap();
        assert_eq!(count(&*store).await, 40);
    }
}

#[tokio::test]
async fn one_process_at_a_time() {
    let opened = edge().await;
    let error = vector_store::build(&config(opened.folder.path()), &model()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("another process uses the vector store"), "{error}");
}

#[tokio::test]
async fn another_model_is_refused() {
    let Opened { store, folder } = edge().await;
    drop(store);
    for other in [
        EmbeddingModel { name: "other-model".to_owned(), ..model() },
        EmbeddingModel { dimensions: DIMENSIONS * 2, ..model() },
    ] {
        let error = vector_store::build(&config(folder.path()), &other).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("test-model"), "{error}");
        assert!(error.message().contains("RAG_VECTOR_DB_COLLECTION"), "{error}");
        assert!(!error.message().contains('\n'), "{error}");
    }
    let elsewhere = Config::Edge { path: folder.path().to_owned(), collection: "other".to_owned() };
    let other = EmbeddingModel { name: "other-model".to_owned(), ..model() };
    vector_store::build(&elsewhere, &other).await.unwrap();
}

#[tokio::test]
async fn a_collection_name_stays_in_its_folder() {
    let folder = TempDir::new().unwrap();
    for name in ["", "..", "a/b", "a b", &"x".repeat(65)] {
        let config = Config::Edge { path: folder.path().to_owned(), collection: name.to_owned() };
        let error = vector_store::build(&config, &model()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_use_stays_bounded_over_rewrites() {
    const DOCUMENTS: u32 = 20;
    const CHUNKS: u32 = 100;
    let Opened { store, folder } = edge().await;
    let mut sizes = Vec::new();
    for version in 1..=10 {
        for name in (0..DOCUMENTS).map(|i| format!("d{i}")) {
            let text = "An invoice is kept for ten years, and so is the receipt that belongs to it. ".repeat(8);
            store.upsert((0..CHUNKS).map(|i| point(&name, version, i, &text)).collect()).await.unwrap();
            let document = name.parse().unwrap();
            store.delete(&"acme".parse().unwrap(), &document, Versions::Except(version)).await.unwrap();
        }
        store.optimize().await.unwrap();
        store.flush().await.unwrap();
        sizes.push(disk_use(folder.path()));
    }
    // Beside the points there is the engine's log: a few segments of 4 MiB that fill and are dropped.
    let bound = sizes[0] + 3 * 4 * 1024 * 1024;
    assert!(sizes.iter().all(|size| *size <= bound), "bytes after each rewrite: {sizes:?}");
    drop(store);
    let store = vector_store::build(&config(folder.path()), &model()).await.unwrap();
    assert_eq!(count(&*store).await, (DOCUMENTS * CHUNKS) as usize);
}
