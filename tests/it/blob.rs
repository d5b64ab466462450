//! Originals, in a folder and in a bucket.

mod bucket;
mod conformance;
mod folder;

use bytes::Bytes;
use futures::TryStreamExt;
use rag_api::blob::Blobs;
use rag_api::error::Result;

/// All of an original.
async fn read(blobs: &Blobs, key: &str) -> Result<Vec<u8>> {
    let blob = blobs.get(key).await?;
    let parts: Vec<Bytes> = blob.stream.try_collect().await?;
    let content = parts.concat();
    assert_eq!(content.len() as u64, blob.bytes);
    Ok(content)
}

/// A fresh key.
fn key() -> String {
    rag_api::blob::key(&"acme".parse().unwrap(), &"d".parse().unwrap())
}
