//! A folder of this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;

use crate::error::{Error, Result};

/// The folder with the originals; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    files: Arc<LocalFileSystem>,
    path: PathBuf,
}

impl Folder {
    /// Opens it; makes it if it is not there.
    pub(super) async fn open(path: &Path) -> Result<Self> {
        let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::config(format!("RAG_STORAGE_URL: the folder {} cannot be used", path.display())).with_source(error)
        };
        tokio::fs::create_dir_all(path).await.map_err(|error| unusable(error.into()))?;
        let files = LocalFileSystem::new_with_prefix(path).map_err(|error| unusable(error.into()))?;
        let files = files.with_fsync(true).with_automatic_cleanup(true);
        Ok(Self { files: Arc::new(files), path: path.to_owned() })
    }

    pub(super) fn store(&self) -> Arc<dyn ObjectStore> {
        self.files.clone()
    }

    /// The file of an original.
    pub(super) fn path_of(&self, location: &Location) -> Result<PathBuf> {
        self.files.path_to_filesystem(location).map_err(super::failed)
    }

    /// Removes what uploads left that did not finish. The store writes `KEY#1` and renames it to `KEY`, and lists only
    /// whole objects.
    pub(super) fn remove_unfinished(&self, age: Duration) -> std::io::Result<()> {
        remove_unfinished(&self.path, age)
    }
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
