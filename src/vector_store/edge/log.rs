//! The engine's log on disk: what was written there survives a power cut, and is applied again when the store is opened.
//!
//! The engine's own flush also writes out every file of every segment: some 90 calls to the disk, a third of a second on
//! a busy one, for each document that is published. The log is two or three files.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;

/// How often the files are looked through before it is given up: each time, another one was begun meanwhile.
const MAX_PASSES: usize = 100;

/// Makes everything that was logged before the call durable. The engine writes its log through memory maps, whose
/// changed pages belong to the file, so that syncing the file writes them, whoever has it open.
///
/// A file of the log that is full is renamed, perhaps while its name is looked for: only a pass that began and ended with
/// the same names has seen all of them.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    let mut names = names(folder)?;
    for _ in 0..MAX_PASSES {
        for name in &names {
            match File::open(folder.join(name)) {
                Ok(file) => file.sync_data()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let before = std::mem::replace(&mut names, self::names(folder)?);
        if before == names {
            return File::open(folder)?.sync_all();
        }
    }
    Err(io::Error::other("its files change faster than they can be written out"))
}

/// Bytes of the log, whether or not they are used.
pub(super) fn bytes(folder: &Path) -> io::Result<u64> {
    let length = |name| folder.join(name).metadata().map_or(0, |metadata| metadata.len());
    Ok(names(folder)?.into_iter().map(length).sum())
}

fn names(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{EdgeStore, LOG_FOLDER, samples};
    use crate::document::{Principal, Scope};
    use crate::vector_store::{Point, SearchQuery, SparseVector, VectorStore};

    fn point(number: u32) -> Point {
        let sparse = SparseVector { indices: vec![1], values: vec![1.0] };
        samples::point("acme", number, &"text ".repeat(200), sparse)
    }

    fn copy(from: &std::path::Path, to: &std::path::Path) {
        for entry in walkdir::WalkDir::new(from) {
            let entry = entry.unwrap();
            let target = to.join(entry.path().strip_prefix(from).unwrap());
            if entry.file_type().is_dir() {
                std::fs::create_dir_all(target).unwrap();
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_flushed_is_whole_in_the_log() {
        let (folder, after_the_cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = EdgeStore::open(folder.path(), &samples::model()).unwrap();
        store.upsert(vec![point(0)]).await.unwrap();
        store.checkpoint().await.unwrap();
        // A power cut that leaves the segments as they were, and the log as it was flushed: more than one file of it.
        copy(folder.path(), after_the_cut.path());
        store.upsert((1..6_000).map(point).collect()).await.unwrap();
        store.flush().await.unwrap();
        let log = std::path::Path::new("shard").join(LOG_FOLDER);
        assert!(super::names(&folder.path().join(&log)).unwrap().len() > 2);
        copy(&folder.path().join(&log), &after_the_cut.path().join(&log));

        let store = EdgeStore::open(after_the_cut.path(), &samples::model()).unwrap();
        let scope = Scope::new("acme".parse().unwrap(), vec![Principal::public()]);
        let query = SearchQuery { dense: Some(vec![1.0, 0.0]), limit: 10_000, ..SearchQuery::default() };
        assert_eq!(store.search(&scope, query).await.unwrap().dense.len(), 6_000);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_log_that_has_grown_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = EdgeStore::open(folder.path(), &samples::model()).unwrap();
        store.upsert((0..30_000).map(point).collect()).await.unwrap();
        let before = super::bytes(&store.log).unwrap();
        assert!(before > super::super::LOG_LIMIT, "{before}");
        store.flush().await.unwrap();
        let after = super::bytes(&store.log).unwrap();
        assert!(after < before / 2, "{before} {after}");
    }
}
