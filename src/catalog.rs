//! The seam to the catalog: documents (each its own job), keys and idempotency, in SQL.
//!
//! The catalog row is the state machine of a document, and the truth that the vector store follows:
//!
//! ```text
//!            submit                    claim … finish (flip)
//!   (none) ────────▶ processing ─────────────────────────────▶ indexed ──▶ (cleanup of old versions)
//!                        │  ▲ replace, retry                     │
//!                        ▼  │                                    │ delete
//!                      failed                                    ▼
//!                                                     tombstone ──▶ purge ──▶ (none)
//! ```
//!
//! A version that is being processed never disturbs the one that is served. Every write of a worker carries its lease
//! token (fencing): after a lost lease it changes nothing and returns [`crate::error::ErrorKind::Conflict`].

mod key_records;
mod postgres;
mod records;
mod schema;
mod sqlite;
mod state;
mod stored;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::config::Secret;
use crate::document::{DocumentId, Failure, Principal, TenantId};
use crate::error::Result;
pub use key_records::{Idempotency, KeyPatch, KeyRecord, KeyScope, RequestNote, RequestPart};
pub use records::{
    Attributes, AttributesPatch, CatalogStats, Content, DocumentRecord, Job, Lease, ListQuery, NewDocument, Progress,
    Publication, Publish, Put, PutMode, Restore, Served, Stage, Status, Visibility, Work,
};

/// How long idempotency keys and version numbers of deleted documents are kept.
const KEPT: Duration = Duration::from_hours(24);

/// Documents.
///
/// Where a method takes an `owner`, a document of anybody else is as if it were not there; `None` is for an admin. It is
/// looked at in the transaction that writes: the document may have been deleted and made again by another user since the
/// caller saw it.
#[async_trait]
pub trait DocumentCatalog: fmt::Debug + Send + Sync {
    /// Writes a document and queues it, in one transaction. Replacing clears the lease of whoever processes an older
    /// version. A document of another owner is [`crate::error::ErrorKind::NotFound`] unless `as_admin`.
    /// A new document takes the version after the last one that ever had its id; one with the bytes of its newest
    /// version, which has not failed, takes the new attributes and no new version.
    ///
    /// A part of a request that is done already gives the document that is there now;
    /// [`crate::error::ErrorKind::NotFound`] if it is gone.
    ///
    /// Of all errors only [`crate::error::ErrorKind::Timeout`] leaves open whether it was written.
    async fn put(&self, document: NewDocument, mode: PutMode) -> Result<Put>;

    /// A document that is not deleted.
    async fn get(&self, tenant: &TenantId, document: &DocumentId) -> Result<Option<DocumentRecord>>;

    /// Documents by id, those after `query.after`.
    async fn list(&self, tenant: &TenantId, query: ListQuery) -> Result<Vec<DocumentRecord>>;

    /// Changes attributes; the change holds from now on, and is pending for the vector store (job
    /// [`Work::Attributes`]). `None` if there is no such document.
    async fn patch(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        owner: Option<&Principal>,
        patch: AttributesPatch,
    ) -> Result<Option<DocumentRecord>>;

    /// Marks a document deleted; it is gone from every method but the purge (job [`Work::Purge`]). Takes the row's
    /// lease over, so that the caller can purge at once: `None` if there is no such document.
    async fn tombstone(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        owner: Option<&Principal>,
        lease: Duration,
    ) -> Result<Option<Job>>;

    /// Queues a failed document again, with its attempts at 0. `None` if there is no such document;
    /// [`crate::error::ErrorKind::Conflict`] if it has not failed.
    async fn retry(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        owner: Option<&Principal>,
    ) -> Result<Option<DocumentRecord>>;

    /// Served version, and who may read it, of each of these documents that is served and not deleted, in one query.
    async fn visibility(&self, tenant: &TenantId, documents: &[DocumentId]) -> Result<HashMap<DocumentId, Visibility>>;

    /// Counts every change of what a question of this tenant may see: flips, deletions, changes of attributes.
    async fn generation(&self, tenant: &TenantId) -> Result<u64>;

    /// Counts a change that only the store has seen until now.
    async fn count_change(&self, tenant: &TenantId) -> Result<()>;

    /// Counts for the metrics.
    async fn stats(&self) -> Result<CatalogStats>;
}

/// Work on documents. All times are the database's.
#[async_trait]
pub trait JobQueue: fmt::Debug + Send + Sync {
    /// Called once by a starting worker. Where only one worker process can be (SQLite), it takes the lock that makes
    /// sure of it and frees leases that a crash left behind; elsewhere it does nothing.
    async fn recover(&self) -> Result<()>;

    /// Claims the oldest row that has work and no lease, and counts the attempt if the work is [`Work::Process`].
    async fn claim(&self, lease: Duration) -> Result<Option<Job>>;

    /// Prolongs a lease.
    async fn renew(&self, lease: &Lease, duration: Duration) -> Result<()>;

    /// Notes how far the work is.
    async fn progress(&self, lease: &Lease, stage: Stage, progress: Progress) -> Result<()>;

    /// Makes a version the served one and gives the lease back, in one transaction, if attributes are still at
    /// `access_version`: status `indexed`, generation counted, cleanup queued if an older version was served.
    async fn publish(&self, lease: &Lease, publication: &Publication) -> Result<Publish>;

    /// The newest version failed for good: status `failed`; what was served stays served.
    async fn fail(&self, lease: &Lease, failure: &Failure) -> Result<()>;

    /// Gives the lease back; the row may be claimed again after `delay`. `refund` takes the counted attempt back (a
    /// worker that shuts down, a dependency that is down).
    async fn release(&self, lease: &Lease, delay: Duration, refund: bool) -> Result<()>;

    /// [`Work::Attributes`] of `access_version` is done.
    async fn attributes_done(&self, lease: &Lease, access_version: u64) -> Result<()>;

    /// [`Work::Cleanup`] is done.
    async fn cleanup_done(&self, lease: &Lease) -> Result<()>;

    /// [`Work::Purge`] is done: the row goes.
    async fn purge_done(&self, lease: &Lease) -> Result<()>;
}

/// Keys.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// Writes a new key; [`crate::error::ErrorKind::Conflict`] if its id is taken.
    async fn insert_key(&self, key: &KeyRecord) -> Result<()>;

    /// A key by its id, of any tenant.
    async fn key(&self, id: &str) -> Result<Option<KeyRecord>>;

    /// The keys of a tenant by id, those after `after`, at most `limit`.
    async fn keys(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>>;

    /// Changes what the patch names and nothing else, in one step; the changed key, `None` if there is none.
    async fn patch_key(&self, tenant: &TenantId, id: &str, patch: &KeyPatch) -> Result<Option<KeyRecord>>;

    /// Removes a key; false if there is none.
    async fn delete_key(&self, tenant: &TenantId, id: &str) -> Result<bool>;
}

/// Idempotency keys, kept for 24 hours.
#[async_trait]
pub trait IdempotencyStore: fmt::Debug + Send + Sync {
    /// Notes `key` (unique in its tenant and user) with the fingerprint of its whole request, if it is not noted, and
    /// says how far that request got. [`DocumentCatalog::put`] marks its parts as done.
    async fn idempotency(&self, tenant: &TenantId, user: &str, key: &str, fingerprint: &str) -> Result<Idempotency>;
}

/// What backups read and write, of all tenants, and what a new vector store is filled from.
#[async_trait]
pub trait Archive: fmt::Debug + Send + Sync {
    /// Documents that are not deleted, of all tenants, by tenant and id: those after `after`, at most `limit`.
    async fn all_documents(&self, after: Option<&(TenantId, DocumentId)>, limit: u32) -> Result<Vec<DocumentRecord>>;

    /// Keys of all tenants by id: those after `after`, at most `limit`.
    async fn all_keys(&self, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>>;

    /// Writes a document as [`DocumentCatalog::put`] does for an admin, the same bytes too as a new version, and takes
    /// its lease, so that the caller can bring its points and publish it, or hand it back to be processed. `None`:
    /// another has the row at this moment, or what was there is purged first; the document waits for a worker.
    async fn restore(&self, document: &Restore, lease: Duration) -> Result<Option<Job>>;

    /// Queues what is served again, as a new version of the same content. False: nothing is served, or the document
    /// is being processed.
    async fn rebuild(&self, tenant: &TenantId, document: &DocumentId) -> Result<bool>;
}

/// The whole catalog: one database behind five small traits.
#[async_trait]
pub trait Catalog: DocumentCatalog + JobQueue + KeyStore + IdempotencyStore + Archive {
    /// Brings the schema up to date.
    async fn migrate(&self) -> Result<()>;

    /// Reaches the database once.
    async fn check(&self) -> Result<()>;

    /// Removes what time has made useless: old idempotency keys, version numbers of long-deleted documents.
    async fn expire(&self) -> Result<()>;
}

/// Which database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// One SQLite file, WAL mode.
    Sqlite {
        /// The file; its folder is made.
        path: std::path::PathBuf,
    },
    /// A PostgreSQL database, which several processes may share.
    Postgres(PostgresConfig),
}

/// A PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    /// Its URL, with the password if there is one; see [`check_postgres_url`].
    pub url: Secret,
    /// Most connections of this process.
    pub max_connections: u32,
    /// Longest time that one statement takes, and that a call waits for a connection. A call may take three times that,
    /// a start waits six times that for the database.
    pub timeout: Duration,
}

/// Whether a PostgreSQL URL can be used; else what is wrong with it, without its password.
pub fn check_postgres_url(url: &str) -> Result<(), String> {
    postgres::options(url).map(drop)
}

/// Opens the catalog and brings its schema up to date.
pub async fn build(config: &Config) -> Result<Arc<dyn Catalog>> {
    let catalog: Arc<dyn Catalog> = match config {
        Config::Sqlite { path } => Arc::new(sqlite::SqliteCatalog::open(path).await?),
        Config::Postgres(config) => Arc::new(postgres::PostgresCatalog::new(config)?),
    };
    catalog.migrate().await?;
    Ok(catalog)
}
