//! What a collection's folder says about itself, and the lock that one process holds on it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind as IoErrorKind, Write};
use std::path::Path;

use crate::embedding::EmbeddingModel;
use crate::error::{Error, Result};
use crate::vector_store::identity::Identity;

const IDENTITY_FILE: &str = "collection.json";
const LOCK_FILE: &str = "lock";

/// Takes the folder for this process, until the returned file is dropped. The engine's own lock comes too late: it
/// repairs segments before it takes it.
pub(super) fn lock(folder: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK_FILE));
    let file = file.map_err(|error| cannot(folder, "open the lock of", error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::config(format!(
            "another process uses the vector store in {}: stop it, or give this one another folder in RAG_VECTOR_DB_URL",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) => Err(cannot(folder, "lock", error)),
    }
}

/// Notes in a new folder what its vectors are made with; refuses a folder whose vectors were made with anything else.
pub(super) fn claim(folder: &Path, model: &EmbeddingModel) -> Result<()> {
    let wanted = Identity::of(model);
    let path = folder.join(IDENTITY_FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == IoErrorKind::NotFound => {
            return write(folder, &path, &wanted).map_err(|error| cannot(folder, "write to", error));
        }
        Err(error) => return Err(cannot(folder, "read", error)),
    };
    let way_out =
        format!("set another RAG_VECTOR_DB_COLLECTION or remove {}, and run `rag-api reindex`", folder.display());
    let found: Identity = serde_json::from_slice(&text).map_err(|error| {
        Error::config(format!("{} is damaged or of a newer version: {way_out}", path.display())).with_source(error)
    })?;
    match found.conflict(&wanted) {
        None => Ok(()),
        Some(what) => Err(Error::config(format!("the vector store in {} {what}: {way_out}", folder.display()))),
    }
}

/// Writes the file whole or not at all, and durably: a folder without it would be taken for a new one.
fn write(folder: &Path, path: &Path, identity: &Identity) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&mut file, identity)?;
    file.flush()?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

pub(super) fn cannot(folder: &Path, what: &str, error: std::io::Error) -> Error {
    Error::config(format!("cannot {what} the vector store's folder {}: {error}", folder.display())).with_source(error)
}
