//! Originals in a bucket, on a server that checks signatures.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use rag_api::blob::{Blobs, build};
use rag_api::error::{ErrorKind, Result};

use super::{conformance, key, read};
use crate::support::eventually;
use crate::support::s3::{S3Server, SHARED};

/// Bytes of the longest document id that is tried: the server has whole keys, encoded, as names of files.
const LONGEST: usize = 64;

async fn open(server: &S3Server, url: &str) -> Arc<Blobs> {
    build(&server.config(url, &[])).await.unwrap_or_else(|error| panic!("{}", error.chain()))
}

async fn refusal(server: &S3Server, url: &str, changes: &[(&str, &str)]) -> String {
    let error = build(&server.config(url, changes)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.chain());
    assert!(!error.message().contains('\n'), "{error}");
    error.message().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_originals() {
    let bucket = SHARED.make_bucket();
    let blobs = open(&SHARED, &format!("s3://{bucket}")).await;
    conformance::check(&blobs, LONGEST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_a_store_of_its_own() {
    let bucket = SHARED.make_bucket();
    let (one, two) = (format!("s3://{bucket}/rag/one"), format!("s3://{bucket}/rag/two"));
    let (one, two) = (open(&SHARED, &one).await, open(&SHARED, &two).await);
    conformance::check(&one, LONGEST).await;
    let key = key();
    one.put(&key, Bytes::from_static(b"x")).await.unwrap();
    assert!(SHARED.folder(&bucket).join("rag/one").join(&key).is_file());
    assert_eq!(read(&two, &key).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(two.older_than(Duration::ZERO).next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_for_the_extraction_goes_with_its_value() {
    let blobs = open(&SHARED, &format!("s3://{}", SHARED.make_bucket())).await;
    let key = key();
    blobs.put(&key, Bytes::from_static(b"whole")).await.unwrap();
    let copy = blobs.local_file(&key).await.unwrap();
    let path = copy.path().to_owned();
    assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    blobs.remove_unfinished(Duration::from_secs(3600)).await.unwrap();
    assert!(path.exists(), "it may be at work still");
    drop(copy);
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_page_is_listed() {
    let bucket = SHARED.make_bucket();
    let blobs = open(&SHARED, &format!("s3://{bucket}/p")).await;
    let folder = SHARED.folder(&bucket).join("p/acme/d");
    std::fs::create_dir_all(&folder).unwrap();
    for n in 0..2_345 {
        std::fs::write(folder.join(format!("{n:04}")), "x").unwrap();
    }
    let listed = async || blobs.older_than(Duration::ZERO).try_collect::<Vec<_>>().await.unwrap();
    eventually("they are old", async || listed().await.len() == 2_345).await;
    assert!(listed().await.iter().any(|key| key == "acme/d/2344"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_stops_the_start_and_says_why() {
    let bucket = SHARED.make_bucket();
    let url = format!("s3://{bucket}");
    let line = refusal(&SHARED, "s3://not-there", &[]).await;
    assert!(line.starts_with("RAG_STORAGE_URL: there is no bucket not-there at http://127.0.0.1:"), "{line}");
    for wrong in [("AWS_SECRET_ACCESS_KEY", "swordfish"), ("AWS_ACCESS_KEY_ID", "AKIASWORDFISH")] {
        let line = refusal(&SHARED, &url, &[wrong]).await;
        assert!(
            line.contains(&format!("does not let us list and write in {bucket}: check AWS_ACCESS_KEY_ID")),
            "{line}"
        );
        assert!(!line.to_lowercase().contains("swordfish"), "{line}");
    }
    let line = refusal(&SHARED, &url, &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9")]).await;
    assert_eq!(line, format!("RAG_STORAGE_URL: the bucket {bucket} at http://127.0.0.1:9 cannot be used"));
}

/// An upload whose request is dropped is aborted, so that its parts are not kept (and paid for).
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_dropped_is_aborted() {
    let server = S3Server::start();
    let blobs = open(&server, &format!("s3://{}", server.make_bucket())).await;
    let key = key();
    let endless = stream::iter(0..12).map(|_| Ok(Bytes::from(vec![7; 1 << 20]))).chain(stream::pending()).boxed();
    let mut upload = Box::pin(blobs.put_stream(&key, endless));
    let begun = eventually("a part is there", async || server.unfinished_uploads() > 0);
    tokio::select! {
        _ = &mut upload => panic!("it has no end"),
        () = begun => {}
    }
    drop(upload);
    eventually("its parts are gone", async || server.unfinished_uploads() == 0).await;
    assert_eq!(read(&blobs, &key).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_mid_download_is_an_error_and_no_half_file() {
    let mut server = S3Server::start();
    let blobs = open(&server, &format!("s3://{}", server.make_bucket())).await;
    let key = key();
    blobs.put(&key, Bytes::from(vec![7; 64 << 20])).await.unwrap();
    let mut blob = blobs.get(&key).await.unwrap();
    let first = blob.stream.next().await.expect("a part").unwrap();
    assert!(!first.is_empty());
    server.kill();
    let rest: Result<Vec<Bytes>> = blob.stream.try_collect().await;
    assert_eq!(rest.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(blobs.local_file(&key).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(blobs.put(&super::key(), Bytes::new()).await.unwrap_err().kind(), ErrorKind::Unavailable);
}
