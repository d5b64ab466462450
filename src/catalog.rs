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

mod sqlite;
mod state;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::document::{DocumentId, Failure, Metadata, Principal, Scope, TenantId, Version};
use crate::error::Result;

/// Where a document stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its newest content waits for a worker, or is with one.
    Processing,
    /// Its newest content is served.
    Indexed,
    /// Its newest content could not be read; an older one, if there is one, is still served.
    Failed,
}

impl Status {
    /// The name in the API and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::Indexed => "indexed",
            Self::Failed => "failed",
        }
    }
}

/// What a worker is doing with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Waits for a worker.
    Queued,
    /// Text is read out of the file.
    Extract,
    /// Text is cut into chunks.
    Chunk,
    /// Chunks are embedded and written.
    Embed,
    /// The new version is made durable and current.
    Publish,
}

impl Stage {
    /// The name in the API, in the catalog and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Extract => "extract",
            Self::Chunk => "chunk",
            Self::Embed => "embed",
            Self::Publish => "publish",
        }
    }
}

/// Steps done of a stage, and their number where it is known (else 0).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub done: u32,
    /// Steps in all.
    pub total: u32,
}

/// An original file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The name it was uploaded under.
    pub filename: Option<String>,
    /// Its kind, as declared or by its name; what it really is, its bytes decide.
    pub media_type: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes, lower-case hexadecimal.
    pub sha256: String,
    /// Where [`crate::blob`] keeps it.
    pub blob: String,
}

/// The content that answers come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Its version.
    pub version: Version,
    /// Its original.
    pub content: Content,
    /// How many chunks it has.
    pub chunks: u32,
}

/// A document's row.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentRecord {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its identity within the tenant.
    pub document_id: DocumentId,
    /// The user who made it; always among the readers.
    pub owner: Principal,
    /// Who may read it, sorted and unique.
    pub readers: Vec<Principal>,
    /// Its title.
    pub title: String,
    /// Its metadata.
    pub metadata: Metadata,
    /// Counts changes of readers, title and metadata.
    pub access_version: u64,
    /// The newest version that was accepted.
    pub version: Version,
    /// The newest version's original.
    pub content: Content,
    /// What is served now, if anything is.
    pub served: Option<Served>,
    /// Where the newest version stands.
    pub status: Status,
    /// What is being done with it.
    pub stage: Stage,
    /// How far that is.
    pub progress: Progress,
    /// How often a worker has begun.
    pub attempts: u32,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// When the document was made.
    pub created_at: DateTime<Utc>,
    /// When anything of it changed last.
    pub updated_at: DateTime<Utc>,
}

/// A document to write.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDocument {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its identity.
    pub document_id: DocumentId,
    /// Who makes it; only the owner may replace it, unless `as_admin`.
    pub owner: Principal,
    /// The caller holds the admin scope of this tenant.
    pub as_admin: bool,
    /// Who may read it, besides the owner; `None` keeps what a replaced document has.
    pub readers: Option<Vec<Principal>>,
    /// Its title; `None` keeps what a replaced document has, else the empty string.
    pub title: Option<String>,
    /// Its metadata; `None` keeps what a replaced document has.
    pub metadata: Option<Metadata>,
    /// Its original, already stored at `content.blob`.
    pub content: Content,
}

/// Whether a document of this id may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// It must be new, else [`crate::error::ErrorKind::Conflict`].
    Create,
    /// It is made, or replaced.
    CreateOrReplace,
}

/// What [`DocumentCatalog::put`] did.
#[derive(Debug, Clone, PartialEq)]
pub enum Put {
    /// A new document.
    Created(DocumentRecord),
    /// A new version of a document; the second value is the blob of a version that was never served and is now
    /// superseded, to be deleted.
    Replaced(DocumentRecord, Option<String>),
    /// The newest version has these very bytes and the same attributes, and has not failed: nothing was written.
    Unchanged(DocumentRecord),
}

/// A change of what can change without new content; `None` keeps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttributesPatch {
    /// The new title.
    pub title: Option<String>,
    /// The new metadata, whole.
    pub metadata: Option<Metadata>,
    /// The new readers besides the owner.
    pub readers: Option<Vec<Principal>>,
}

/// What decides whether a hit may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visibility {
    /// The version that is served.
    pub version: Version,
    /// Who may read it.
    pub readers: Vec<Principal>,
}

/// Which documents to list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListQuery {
    /// Only of this status.
    pub status: Option<Status>,
    /// Only those that this scope may read; `None`: all of the tenant (for an admin).
    pub scope: Option<Scope>,
    /// Only after this id.
    pub after: Option<DocumentId>,
    /// Most documents.
    pub limit: u32,
}

/// How many documents there are, for the metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CatalogStats {
    /// Number of documents by status.
    pub by_status: HashMap<Status, u64>,
    /// How long the oldest waiting document has waited.
    pub oldest_queued: Option<Duration>,
}

/// Documents.
#[async_trait]
pub trait DocumentCatalog: fmt::Debug + Send + Sync {
    /// Writes a document and queues it, in one transaction. Replacing clears the lease of whoever processes an older
    /// version. A document of another owner is [`crate::error::ErrorKind::NotFound`] unless `as_admin`.
    /// A new document takes the version after the last one that ever had its id.
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
        patch: AttributesPatch,
    ) -> Result<Option<DocumentRecord>>;

    /// Marks a document deleted; it is gone from every method but the purge (job [`Work::Purge`]). Takes the row's
    /// lease over, so that the caller can purge at once: `None` if there is no such document.
    async fn tombstone(&self, tenant: &TenantId, document: &DocumentId, lease: Duration) -> Result<Option<Job>>;

    /// Queues a failed document again, with its attempts at 0. `None` if there is no such document;
    /// [`crate::error::ErrorKind::Conflict`] if it has not failed.
    async fn retry(&self, tenant: &TenantId, document: &DocumentId) -> Result<Option<DocumentRecord>>;

    /// Served version and readers of each of these documents that is served and not deleted, in one query.
    async fn visibility(&self, tenant: &TenantId, documents: &[DocumentId]) -> Result<HashMap<DocumentId, Visibility>>;

    /// Counts every change of what a question of this tenant may see: flips, deletions, changes of attributes.
    async fn generation(&self, tenant: &TenantId) -> Result<u64>;

    /// Counts for the metrics.
    async fn stats(&self) -> Result<CatalogStats>;
}

/// The right to write one row, until it runs out; every write carries the token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Whose document.
    pub tenant: TenantId,
    /// Which document.
    pub document_id: DocumentId,
    /// The fencing token.
    pub token: Uuid,
}

/// What is to be done with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    /// Read, cut, embed and publish the newest version.
    Process,
    /// Bring readers, title and metadata of the served version to the vector store.
    Attributes,
    /// Delete the points of every version but the served one (all points, if nothing is served), and the originals
    /// in [`Job::garbage`]. Never claimed while a newer version waits or is processed.
    Cleanup,
    /// Delete all points of a document, and the originals in [`Job::garbage`]. [`Job::record`] may already be a new
    /// document of the same id, which waits for the end of the purge: its original is not garbage.
    Purge,
}

/// A claimed row.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The right to write it.
    pub lease: Lease,
    /// What is to be done.
    pub work: Work,
    /// The row when it was claimed.
    pub record: DocumentRecord,
    /// Originals that are to be deleted by [`Work::Cleanup`] and [`Work::Purge`].
    pub garbage: Vec<String>,
}

/// A version that is ready to be served: its points are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The version.
    pub version: Version,
    /// How many chunks it has.
    pub chunks: u32,
    /// The attributes that its points have.
    pub access_version: u64,
    /// The title that its points have; the row takes it where it has none.
    pub title: String,
}

/// What [`JobQueue::publish`] did.
#[derive(Debug, Clone, PartialEq)]
pub enum Publish {
    /// The version is current.
    Published,
    /// Attributes changed since `access_version`: write them to the new points, then publish again.
    AttributesMoved(DocumentRecord),
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

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyScope {
    /// Ask and search.
    Query,
    /// Upload and manage documents.
    Ingest,
    /// Manage keys; implies the others.
    Admin,
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The public part of the key.
    pub id: String,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// What its owner calls it.
    pub name: String,
    /// The tenant it acts in.
    pub tenant: TenantId,
    /// The user it acts as.
    pub user: String,
    /// The groups it acts as.
    pub groups: Vec<String>,
    /// What it may do.
    pub scopes: Vec<KeyScope>,
    /// Whether it works.
    pub active: bool,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
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

    /// Writes name, groups, scopes, active and expiry of a key; false if there is none.
    async fn update_key(&self, key: &KeyRecord) -> Result<bool>;

    /// Removes a key; false if there is none.
    async fn delete_key(&self, tenant: &TenantId, id: &str) -> Result<bool>;
}

/// What is known of an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idempotency {
    /// Never seen; it is noted now with this fingerprint.
    New,
    /// Seen with the same fingerprint: the same request again.
    Repeated,
    /// Seen with another fingerprint.
    Mismatch,
}

/// Idempotency keys, kept for 24 hours.
#[async_trait]
pub trait IdempotencyStore: fmt::Debug + Send + Sync {
    /// Notes `key` (unique in its tenant and user) with the fingerprint of its request.
    async fn idempotency(&self, tenant: &TenantId, user: &str, key: &str, fingerprint: &str) -> Result<Idempotency>;
}

/// The whole catalog: one database behind four small traits.
#[async_trait]
pub trait Catalog: DocumentCatalog + JobQueue + KeyStore + IdempotencyStore {
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
}

/// Opens the catalog and brings its schema up to date.
pub async fn build(config: &Config) -> Result<Arc<dyn Catalog>> {
    let catalog: Arc<dyn Catalog> = match config {
        Config::Sqlite { path } => Arc::new(sqlite::SqliteCatalog::open(path).await?),
    };
    catalog.migrate().await?;
    Ok(catalog)
}
