//! Originals in a folder.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rag_api::blob::{Blobs, Config, build};
use rag_api::error::ErrorKind;

use super::{conformance, key, read};

async fn open(path: &Path) -> Arc<Blobs> {
    build(&Config::File { path: path.to_owned() }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_keeps_originals() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not/there/yet");
    let blobs = open(&path).await;
    conformance::check(&blobs, rag_api::document::MAX_IDENTIFIER).await;
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "nothing is left, not even a folder");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "and nothing outside");

    let key = key();
    blobs.put(&key, Bytes::from_static(b"x")).await.unwrap();
    let file = blobs.local_file(&key).await.unwrap();
    assert!(file.path().starts_with(path.canonicalize().unwrap()), "no copy");
    drop(file);
    assert_eq!(read(&blobs, &key).await.unwrap(), b"x");
}

#[tokio::test]
async fn what_a_killed_upload_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path()).await;
    let key = key();
    blobs.put(&key, Bytes::from_static(b"whole")).await.unwrap();
    let unfinished = folder.path().join(format!("{key}#1"));
    std::fs::write(&unfinished, "ha").unwrap();
    blobs.remove_unfinished(Duration::from_secs(3600)).await.unwrap();
    assert!(unfinished.exists(), "it may be at work still");
    blobs.remove_unfinished(Duration::ZERO).await.unwrap();
    assert!(!unfinished.exists());
    assert_eq!(read(&blobs, &key).await.unwrap(), b"whole");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "a file").unwrap();
    let error = build(&Config::File { path }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().starts_with("RAG_STORAGE_URL: "));
}
