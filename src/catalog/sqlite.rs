//! The catalog in one SQLite file, for one machine: one writer, a few readers, write-ahead log.
//!
//! `synchronous=FULL`: what a method has acknowledged survives a power cut. Every change is one `BEGIN IMMEDIATE`
//! transaction that loads a row, applies [`super::state`], and saves it. SQLite has no clock of its own; its time is
//! that of this machine, in milliseconds.

mod archive;
mod documents;
mod generations;
mod idempotency;
mod jobs;
mod keys;
mod rows;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::{Catalog, KEPT, schema};
use crate::error::{Error, Result};

/// The schema's versions.
const VERSIONS: [(&str, &str); 1] = [("catalog", include_str!("migrations/sqlite/0001_catalog.sql"))];

/// Connections that read at once; a read takes well under a millisecond.
const READERS: u32 = 4;
/// Longest wait for a connection, or for the file while another process writes.
const BUSY: Duration = Duration::from_secs(5);
/// Most bytes of the write-ahead log's file once it is empty.
const MAX_LOG: u64 = 64 * 1024 * 1024;

/// One SQLite file.
#[derive(Debug)]
pub(super) struct SqliteCatalog {
    path: PathBuf,
    writer: SqlitePool,
    readers: SqlitePool,
    generations: generations::Generations,
    /// The lock of the one worker process, held until this process ends.
    worker_lock: Mutex<Option<File>>,
}

impl SqliteCatalog {
    /// Opens the file, making it and its folder if they are not there.
    pub(super) async fn open(path: &Path) -> Result<Self> {
        let unusable = |error: std::io::Error| {
            Error::config(format!("RAG_DATABASE_URL: the folder of {} cannot be made", path.display()))
                .with_source(error)
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            tokio::fs::create_dir_all(folder).await.map_err(unusable)?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // What is deleted is overwritten, not only unlinked.
            .pragma("secure_delete", "ON")
            // After a checkpoint the log's file is cut to this; until then it is as large as the largest burst made it.
            .pragma("journal_size_limit", MAX_LOG.to_string())
            .busy_timeout(BUSY)
            .foreign_keys(true);
        let pool = || {
            SqlitePoolOptions::new()
                .acquire_timeout(BUSY)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let unusable = |error: sqlx::Error| {
            Error::config(format!("RAG_DATABASE_URL: {} cannot be opened", path.display())).with_source(error)
        };
        let writer = pool().max_connections(1).connect_with(options.clone()).await.map_err(unusable)?;
        let reading = options.pragma("query_only", "ON");
        let readers = pool().max_connections(READERS).connect_with(reading).await.map_err(unusable)?;
        let generations = generations::Generations::new(path);
        Ok(Self { path: path.to_owned(), writer, readers, generations, worker_lock: Mutex::new(None) })
    }

    /// Begins a transaction that may write; the one writer, so it never fails half-way for being too late.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(database)
    }

    /// The file whose lock says which process works.
    fn worker_lock_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".worker-lock");
        path.into()
    }

    /// Takes the worker lock; false if this process has it already.
    fn lock_worker(&self) -> Result<bool> {
        let mut held = self.worker_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(false);
        }
        let path = self.worker_lock_path();
        let unusable = |error: std::io::Error| {
            Error::config(format!("the worker's lock {} cannot be taken", path.display())).with_source(error)
        };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {
                *held = Some(file);
                Ok(true)
            }
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::config(format!(
                "another process already works on the documents of {}; stop it, or use PostgreSQL for several workers",
                self.path.display()
            ))),
            Err(std::fs::TryLockError::Error(error)) => Err(unusable(error)),
        }
    }
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn migrate(&self) -> Result<()> {
        // In a transaction of ours: two processes that start at once migrate one after the other.
        let mut tx = self.write().await?;
        schema::migrations(VERSIONS)
            .run_direct(None, &mut *tx, false)
            .await
            .map_err(|error| schema::migration(error, &self.path.display().to_string(), database))?;
        tx.commit().await.map_err(database)
    }

    async fn check(&self) -> Result<()> {
        sqlx::query("SELECT 1 FROM tenants LIMIT 1").fetch_optional(&self.readers).await.map_err(database)?;
        Ok(())
    }

    async fn expire(&self) -> Result<()> {
        let before = (now() - KEPT).timestamp_millis();
        let mut tx = self.write().await?;
        for sql in
            ["DELETE FROM idempotency_keys WHERE seen_at < ?", "DELETE FROM retired_documents WHERE retired_at < ?"]
        {
            sqlx::query(sql).bind(before).execute(&mut *tx).await.map_err(database)?;
        }
        tx.commit().await.map_err(database)
    }
}

/// The database's time, as exact as it is stored.
fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(Utc::now().timestamp_millis()).unwrap_or(DateTime::UNIX_EPOCH)
}

/// What an error of the database means to the caller.
fn database(error: sqlx::Error) -> Error {
    // Primary result codes of SQLite: 5 busy, 6 locked, 10 input/output, 13 disk full.
    let passing = match &error {
        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => error
            .code()
            .and_then(|code| code.parse::<u32>().ok())
            .is_some_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13)),
        _ => false,
    };
    if passing {
        Error::unavailable("the catalog is not available", error)
    } else {
        Error::internal("the catalog failed", error)
    }
}

/// Whether exactly the row that the lease names was written.
fn fenced(result: sqlx::sqlite::SqliteQueryResult) -> Result<()> {
    if result.rows_affected() == 1 { Ok(()) } else { Err(super::state::lost_lease()) }
}
