//! Originals, over `object_store`: a local folder.
//!
//! A key is `{tenant}/{document}/{random}`, made by [`key`] from checked identifiers; no part of it is ever a file name
//! or a path that a user sent. A key is written once and never again, so that a reader never meets half of two files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use crate::document::{DocumentId, TenantId};
use crate::error::{Error, Result};

/// Where originals are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// A local folder; it is made.
    File {
        /// The folder.
        path: PathBuf,
    },
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

/// Keeps originals.
#[derive(Debug)]
pub struct Blobs {
    store: LocalFileSystem,
    folder: PathBuf,
}

/// A fresh key for a version of a document.
pub fn key(tenant: &TenantId, document: &DocumentId) -> String {
    format!("{tenant}/{document}/{}", Uuid::now_v7())
}

impl Blobs {
    /// Stores an original. When this returns it survives a power cut: the file and every folder on the way to it are
    /// synced.
    pub async fn put(&self, key: &str, content: Bytes) -> Result<()> {
        self.store.put(&location(key)?, content.into()).await.map_err(failed)?;
        Ok(())
    }

    /// An original; [`crate::error::ErrorKind::NotFound`] if there is none.
    pub async fn get(&self, key: &str) -> Result<Blob> {
        let found = self.store.get(&location(key)?).await.map_err(failed)?;
        Ok(Blob { bytes: found.meta.size, stream: found.into_stream().map(|part| part.map_err(failed)).boxed() })
    }

    /// A file with the original, for the extraction's child process, which only reads it.
    /// [`crate::error::ErrorKind::NotFound`] if there is none.
    pub async fn local_file(&self, key: &str) -> Result<PathBuf> {
        let location = location(key)?;
        self.store.head(&location).await.map_err(failed)?;
        self.store.path_to_filesystem(&location).map_err(failed)
    }

    /// Deletes an original, and its folders if they are empty then. Nothing there is fine.
    pub async fn delete(&self, key: &str) -> Result<()> {
        match self.store.delete(&location(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The keys of originals that were stored longer ago than `age`.
    pub async fn older_than(&self, age: Duration) -> Result<Vec<String>> {
        let limit = Utc::now() - age;
        let mut listing = self.store.list(None);
        let mut keys = Vec::new();
        while let Some(object) = listing.next().await {
            let object = object.map_err(failed)?;
            if object.last_modified < limit {
                keys.push(object.location.to_string());
            }
        }
        Ok(keys)
    }

    /// Removes what uploads left that did not finish, because the process was killed, and that nobody has written to for
    /// `age`. The store writes `KEY#1` and renames it to `KEY`, and lists only whole objects.
    pub async fn remove_unfinished(&self, age: Duration) -> Result<()> {
        let folder = self.folder.clone();
        let work = tokio::task::spawn_blocking(move || remove_unfinished(&folder, age));
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

/// Opens the store of originals.
pub async fn build(config: &Config) -> Result<Arc<Blobs>> {
    match config {
        Config::File { path } => Ok(Arc::new(Blobs { store: open_folder(path).await?, folder: path.clone() })),
    }
}

async fn open_folder(path: &Path) -> Result<LocalFileSystem> {
    let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::config(format!("RAG_STORAGE_URL: the folder {} cannot be used", path.display())).with_source(error)
    };
    tokio::fs::create_dir_all(path).await.map_err(|error| unusable(error.into()))?;
    let folder = LocalFileSystem::new_with_prefix(path).map_err(|error| unusable(error.into()))?;
    Ok(folder.with_fsync(true).with_automatic_cleanup(true))
}

fn remove_unfinished(folder: &Path, age: Duration) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_unfinished(&entry.path(), age)?;
            continue;
        }
        let name = entry.file_name();
        let unfinished =
            name.to_string_lossy().rsplit_once('#').is_some_and(|(_, number)| number.parse::<u64>().is_ok());
        if unfinished && entry.metadata()?.modified()?.elapsed().is_ok_and(|past| past >= age) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;
    use crate::error::ErrorKind;

    async fn read(blobs: &Blobs, key: &str) -> Result<Vec<u8>> {
        let blob = blobs.get(key).await?;
        let parts: Vec<Bytes> = blob.stream.try_collect().await?;
        let content = parts.concat();
        assert_eq!(content.len() as u64, blob.bytes);
        Ok(content)
    }

    #[tokio::test]
    async fn an_original_is_what_was_stored_until_it_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not/there/yet");
        let blobs = build(&Config::File { path: path.clone() }).await.unwrap();
        blobs.check().await.unwrap();
        // Every character that an identifier may have, at its greatest length.
        let document = format!("a:b@c+d_e-f..g{}", "x".repeat(crate::document::MAX_IDENTIFIER - 14));
        let (tenant, document) = ("acme".parse().unwrap(), document.parse().unwrap());
        let (one, two) = (key(&tenant, &document), key(&tenant, &document));
        let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        blobs.put(&one, large.clone().into()).await.unwrap();
        blobs.put(&two, Bytes::new()).await.unwrap();
        assert!(read(&blobs, &one).await.unwrap() == large);
        assert!(read(&blobs, &two).await.unwrap().is_empty());
        let file = blobs.local_file(&one).await.unwrap();
        assert!(file.starts_with(path.canonicalize().unwrap()) && std::fs::read(file).unwrap() == large);

        blobs.delete(&one).await.unwrap();
        blobs.delete(&one).await.unwrap();
        assert_eq!(read(&blobs, &one).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(blobs.local_file(&one).await.unwrap_err().kind(), ErrorKind::NotFound);
        blobs.delete(&two).await.unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "nothing is left, not even a folder");
    }

    #[tokio::test]
    async fn what_a_killed_upload_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = build(&Config::File { path: folder.path().to_owned() }).await.unwrap();
        let key = key(&"acme".parse().unwrap(), &"d".parse().unwrap());
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
    async fn a_key_never_leaves_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = build(&Config::File { path: folder.path().join("originals") }).await.unwrap();
        for key in ["../outside", "a/../../outside", "/etc/passwd/..", "a//b"] {
            assert_eq!(
                blobs.put(key, Bytes::from_static(b"x")).await.unwrap_err().kind(),
                ErrorKind::Internal,
                "{key}"
            );
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
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
}
