//! Uploads: small ones at once, large ones in parts while they come.
//!
//! None is conditional ("only if there is nothing"): a key is fresh and random, so there is nothing; and an unconditional
//! write may be repeated when an answer was lost, where a conditional one would meet itself.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};

use super::failed;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a part (S3 wants 5 MiB or more, and 10,000 parts or fewer). What is smaller goes at once.
const PART: usize = 8 << 20;
/// Parts that are on their way at once.
const PARALLEL: usize = 2;

/// Stores what comes; its size.
pub(super) async fn put(
    store: &dyn ObjectStore,
    location: &Location,
    mut content: BoxStream<'_, Result<Bytes>>,
) -> Result<u64> {
    let mut head = Vec::new();
    let mut bytes = 0;
    while let Some(piece) = content.next().await.transpose()? {
        bytes += piece.len();
        head.push(piece);
        if bytes > PART {
            return in_parts(store, location, head, content).await;
        }
    }
    store.put(location, head.into_iter().collect()).await.map_err(failed)?;
    Ok(bytes as u64)
}

async fn in_parts(
    store: &dyn ObjectStore,
    location: &Location,
    head: Vec<Bytes>,
    rest: BoxStream<'_, Result<Bytes>>,
) -> Result<u64> {
    let upload = store.put_multipart(location).await.map_err(failed)?;
    let mut upload = Upload(Some(WriteMultipart::new_with_chunk_size(upload, PART)));
    let mut content = futures::stream::iter(head.into_iter().map(Ok)).chain(rest);
    let mut bytes = 0;
    while let Some(piece) = content.next().await.transpose()? {
        let mut piece: Bytes = piece;
        bytes += piece.len() as u64;
        while !piece.is_empty() {
            let writer = upload.writer()?;
            writer.wait_for_capacity(PARALLEL).await.map_err(failed)?;
            writer.put(piece.split_to(piece.len().min(PART)));
        }
    }
    upload.finish().await?;
    Ok(bytes)
}

/// An upload in parts, which is aborted where it does not finish.
struct Upload(Option<WriteMultipart>);

impl Upload {
    fn writer(&mut self) -> Result<&mut WriteMultipart> {
        self.0.as_mut().ok_or_else(finished)
    }

    /// The end is not left half done where nobody waits for it any more: an object that nothing refers to is found by the
    /// sweep, parts of one are not.
    async fn finish(mut self) -> Result<()> {
        let writer = self.0.take().ok_or_else(finished)?;
        let done = tokio::spawn(writer.finish()).await;
        done.map_err(|error| Error::internal("an upload could not be finished", error))?.map(drop).map_err(failed)
    }
}

fn finished() -> Error {
    Error::new(ErrorKind::Internal, "an upload was finished already")
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (Some(writer), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(async move {
            if let Err(error) = writer.abort().await {
                tracing::warn!(error = %error, "an upload that broke off could not be removed");
            }
        });
    }
}
