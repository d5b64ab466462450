//! Originals, over `object_store`: a local folder, or a bucket of an S3-compatible store.
//!
//! A key is `{tenant}/{document}/{random}`, made by [`key`] from checked identifiers; no part of it is ever a file name
//! or a path that a user sent. A key is written once and never again, so that a reader never meets half of two files.
//! Content is passed on as it comes, both ways: of no original there is more in memory than a few parts.

mod folder;
pub mod s3;
mod upload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use crate::document::{DocumentId, TenantId};
use crate::error::{Error, Result};
use folder::Folder;

/// Where originals are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// A local folder; it is made.
    File {
        /// The folder.
        path: PathBuf,
    },
    /// A bucket; it must be there.
    S3(s3::Bucket),
}

/// A stored original.
pub struct Blob {
    /// Its size.
    pub bytes: u64,
    /// Its content.
    pub stream: BoxStream<'static, Result<Bytes>>,
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// A file with an original's content, to be read only.
#[derive(Debug)]
pub struct LocalFile {
    path: PathBuf,
    /// Removes it with this value, where it is a copy.
    _copy: Option<tempfile::TempPath>,
}

impl LocalFile {
    /// Where it is, while this value lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Keeps originals.
#[derive(Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// Set if the store is a folder of this machine.
    folder: Option<Folder>,
}

/// A fresh key for a version of a document.
pub fn key(tenant: &TenantId, document: &DocumentId) -> String {
    format!("{tenant}/{document}/{}", Uuid::now_v7())
}

impl Blobs {
    /// Stores an original. When this returns it survives a power cut: in a folder, the file and every folder on the way
    /// to it are synced.
    pub async fn put(&self, key: &str, content: Bytes) -> Result<()> {
        self.put_stream(key, stream::iter([Ok(content)]).boxed()).await.map(drop)
    }

    /// Stores an original as it comes; its size. Whatever breaks off leaves nothing.
    pub async fn put_stream(&self, key: &str, content: BoxStream<'_, Result<Bytes>>) -> Result<u64> {
        upload::put(&*self.store, &location(key)?, content).await
    }

    /// An original; [`crate::error::ErrorKind::NotFound`] if there is none.
    pub async fn get(&self, key: &str) -> Result<Blob> {
        let found = self.store.get(&location(key)?).await.map_err(failed)?;
        Ok(Blob { bytes: found.meta.size, stream: found.into_stream().map(|part| part.map_err(failed)).boxed() })
    }

    /// A file with the original, for the extraction's child process, which only reads it: the original itself where the
    /// store is a folder, else a copy. [`crate::error::ErrorKind::NotFound`] if there is none.
    pub async fn local_file(&self, key: &str) -> Result<LocalFile> {
        match &self.folder {
            Some(folder) => {
                let location = location(key)?;
                self.store.head(&location).await.map_err(failed)?;
                Ok(LocalFile { path: folder.path_of(&location)?, _copy: None })
            }
            None => {
                let copy = s3::copy(self.get(key).await?).await?;
                Ok(LocalFile { path: copy.to_path_buf(), _copy: Some(copy) })
            }
        }
    }

    /// Deletes an original, and its folders if they are empty then. Nothing there is fine.
    pub async fn delete(&self, key: &str) -> Result<()> {
        match self.store.delete(&location(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The keys of originals that were stored longer ago than `age`, page by page as they are asked for.
    pub fn older_than(&self, age: Duration) -> BoxStream<'static, Result<String>> {
        let limit = Utc::now() - age;
        let key = move |object: object_store::Result<object_store::ObjectMeta>| async move {
            match object {
                Ok(object) if object.last_modified < limit => Some(Ok(object.location.to_string())),
                Ok(_) => None,
                Err(error) => Some(Err(failed(error))),
            }
        };
        self.store.list(None).filter_map(key).boxed()
    }

    /// Removes what did not finish, because the process was killed, and that nobody has written to for `age`: uploads in
    /// a folder, else copies on this machine. (Parts that an upload left in a bucket are the bucket's to remove.)
    pub async fn remove_unfinished(&self, age: Duration) -> Result<()> {
        let folder = self.folder.clone();
        let work = tokio::task::spawn_blocking(move || match folder {
            Some(folder) => folder.remove_unfinished(age),
            None => s3::remove_copies(age),
        });
        let removed = work.await.map_err(|error| Error::internal("the sweep of originals failed", error))?;
        removed.map_err(|error| Error::unavailable("the originals are not available", error))
    }

    /// Writes and deletes a small object: the store is there and may be written.
    pub async fn check(&self) -> Result<()> {
        // Two parts, and every key has three: this is nobody's original.
        let probe = format!(".check/{}", Uuid::now_v7());
        self.put(&probe, Bytes::from_static(b"check")).await?;
        self.delete(&probe).await
    }
}

/// Opens the store of originals. A folder is made; a bucket is written to once, so that one that is not there or not
/// ours stops the start.
pub async fn build(config: &Config) -> Result<Arc<Blobs>> {
    let blobs = match config {
        Config::File { path } => {
            let folder = Folder::open(path).await?;
            Blobs { store: folder.store(), folder: Some(folder) }
        }
        Config::S3(bucket) => {
            let store = s3::open(bucket)?;
            s3::check(&*store, bucket).await?;
            Blobs { store, folder: None }
        }
    };
    Ok(Arc::new(blobs))
}

/// A key as a place; keys come from [`key`], by way of the catalog.
fn location(key: &str) -> Result<Location> {
    Location::parse(key).map_err(|error| Error::internal("an original has a key that is none", error))
}

fn failed(error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::not_found("original").with_source(error),
        error => Error::unavailable("the originals are not available", error),
    }
}
