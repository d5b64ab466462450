//! What models computed before, in one SQLite file, so that a second run costs no forward pass.
//!
//! Runs may share the file, and may be killed: a write is one transaction. The file may be removed at any time between
//! runs. What cannot be read is computed again, and a failed write is only time lost.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::error::{Error, Result};

/// Bound of the file: the oldest entries go first.
pub const MAX_BYTES: u64 = 2 << 30;
/// How much is written between two looks at the bound; the file may be larger by so much for each run that writes.
const LOOK_EVERY: u64 = 16 << 20;
/// Share of the entries that goes at once, one over this.
const TRIMMED: u32 = 8;
/// Longest wait for another run's write.
const BUSY: Duration = Duration::from_secs(5);
/// Connections: two sessions write while questions read.
const CONNECTIONS: u32 = 4;
/// Bytes of the checksum before each value.
const CHECKSUM: usize = 8;
/// SQLite's codes of a file that is damaged, and of one that is no database.
const DAMAGED: [&str; 2] = ["11", "26"];

/// What an entry is of: a digest of everything that its value depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of these parts, each with its length, so that no two lists of parts are alike.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The file.
#[derive(Debug)]
pub struct Cache {
    pool: SqlitePool,
    bound: u64,
    /// Bytes written since the last look at the bound.
    written: AtomicU64,
}

impl Cache {
    /// Opens the file, and makes it and its folder if they are not there. A file that is no database, or a damaged one,
    /// is replaced by an empty one. It is held at about `bound` bytes ([`MAX_BYTES`] by default).
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Config`] that names the file, where there can be none.
    pub async fn open(path: &Path, bound: u64) -> Result<Self> {
        let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::config(format!(
                "the evaluation cache {} cannot be opened; give --cache DIR or --no-cache",
                path.display()
            ))
            .with_source(error)
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| unusable(error.into()))?;
        }
        let pool = match connect(path).await {
            Err(error) if is_damaged(&error) => {
                for suffix in ["", "-wal", "-shm"] {
                    let mut name = path.as_os_str().to_owned();
                    name.push(suffix);
                    // What is not there need not go, and what stays is found by the next try.
                    let _ = std::fs::remove_file(name);
                }
                connect(path).await
            }
            other => other,
        };
        let cache = Self { pool: pool.map_err(|error| unusable(error.into()))?, bound, written: AtomicU64::new(0) };
        cache.trim().await.map_err(|error| unusable(error.into()))?;
        Ok(cache)
    }

    /// The value of a key, if it is there and whole.
    pub async fn get(&self, key: Key) -> Option<Vec<u8>> {
        let query = sqlx::query_scalar("SELECT value FROM entries WHERE key = ?").bind(key.0.to_vec());
        let stored: Vec<u8> = query.fetch_optional(&self.pool).await.ok().flatten()?;
        let (sum, value) = stored.split_at_checked(CHECKSUM)?;
        (sum == checksum(value)).then(|| value.to_vec())
    }

    /// Keeps a value.
    pub async fn put(&self, key: Key, value: &[u8]) {
        let stored = [&checksum(value)[..], value].concat();
        let bytes = stored.len() as u64;
        let query = sqlx::query("INSERT OR REPLACE INTO entries (key, value) VALUES (?, ?)");
        // What is not kept is computed again.
        let kept = query.bind(key.0.to_vec()).bind(stored).execute(&self.pool).await;
        if let Err(error) = kept {
            tracing::debug!(%error, "the evaluation cache was not written");
        }
        if self.written.fetch_add(bytes, Ordering::Relaxed) + bytes >= LOOK_EVERY.min(self.bound / 4) {
            self.written.store(0, Ordering::Relaxed);
            if let Err(error) = self.trim().await {
                tracing::debug!(%error, "the evaluation cache was not trimmed");
            }
        }
    }

    /// Drops the oldest entries until the bound is held. (Pages that they leave are used again.)
    async fn trim(&self) -> Result<(), sqlx::Error> {
        while self.bytes().await? > self.bound {
            let trimmed = sqlx::query(
                "DELETE FROM entries WHERE id <=
                 (SELECT id FROM entries ORDER BY id LIMIT 1 OFFSET (SELECT count(*) / ? FROM entries))",
            );
            if trimmed.bind(TRIMMED).execute(&self.pool).await?.rows_affected() == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Bytes of the pages in use.
    async fn bytes(&self) -> Result<u64, sqlx::Error> {
        let pages = "SELECT (page_count - freelist_count) * page_size
                     FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let bytes: i64 = sqlx::query_scalar(pages).fetch_one(&self.pool).await?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }
}

async fn connect(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    // Nothing is lost in a power cut that could not be computed again; a damaged file is replaced.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .busy_timeout(BUSY);
    let pool =
        SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(BUSY).connect_with(options).await?;
    let table =
        "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL)";
    sqlx::query(table).execute(&pool).await?;
    Ok(pool)
}

fn is_damaged(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| DAMAGED.contains(&&*code))
}

fn checksum(value: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&Sha256::digest(value)[..CHECKSUM]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn values_come_back_and_damaged_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/cache.db");
        let key = Key::of(&[b"a", b"bc"]);
        assert_ne!(key, Key::of(&[b"ab", b"c"]));
        let cache = Cache::open(&path, MAX_BYTES).await.unwrap();
        assert_eq!(cache.get(key).await, None);
        cache.put(key, b"value").await;
        let other = Cache::open(&path, MAX_BYTES).await.unwrap();
        assert_eq!(other.get(key).await.unwrap(), b"value", "two runs share it");

        sqlx::query("UPDATE entries SET value = x'00112233445566778899'").execute(&cache.pool).await.unwrap();
        assert_eq!(cache.get(key).await, None);
        cache.put(key, b"new").await;
        assert_eq!(other.get(key).await.unwrap(), b"new");
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.db");
        std::fs::write(&path, "no database ".repeat(500)).unwrap();
        let cache = Cache::open(&path, MAX_BYTES).await.unwrap();
        cache.put(Key::of(&[b"k"]), b"v").await;
        assert_eq!(cache.get(Key::of(&[b"k"])).await.unwrap(), b"v");
        let nowhere = Cache::open(Path::new("/proc/nowhere/cache.db"), MAX_BYTES).await.unwrap_err();
        assert!(nowhere.message().contains("/proc/nowhere/cache.db"), "{nowhere}");
    }

    #[tokio::test]
    async fn the_oldest_go_when_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let bound = 400_000;
        let cache = Cache::open(&folder.path().join("cache.db"), bound).await.unwrap();
        let key = |n: u32| Key::of(&[&n.to_le_bytes()]);
        for n in 0..200 {
            cache.put(key(n), &[7; 10_000]).await;
        }
        assert!(cache.bytes().await.unwrap() <= bound + bound / 4);
        assert_eq!(cache.get(key(0)).await, None);
        assert!(cache.get(key(199)).await.is_some());
    }
}
