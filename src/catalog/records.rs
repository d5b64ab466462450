//! What the catalog takes and gives: the rows of documents and jobs, and the words for what may happen to them.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::RequestPart;
use crate::document::{DocumentId, Failure, Metadata, Principal, Scope, TenantId, Version};

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
    /// Who may read it, and what it is called.
    pub attributes: Attributes,
}

/// What can be changed of a document without a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Who may read it, sorted and unique.
    pub readers: Vec<Principal>,
    /// Its title: the one that was given, else the one that was found in the file.
    pub title: String,
    /// Its metadata.
    pub metadata: Metadata,
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
    /// Who may read its newest version, sorted and unique.
    pub readers: Vec<Principal>,
    /// The title that was given; empty: each version has the one that is found in its file.
    pub title: String,
    /// The metadata of its newest version.
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

impl DocumentRecord {
    /// The title to show: the one that was given, else that of the served version's file.
    pub fn shown_title(&self) -> &str {
        match (&self.served, self.title.is_empty()) {
            (Some(served), true) => &served.attributes.title,
            _ => &self.title,
        }
    }
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
    /// The part of a request with an `Idempotency-Key` that makes it; it is done in the same transaction.
    pub request: Option<RequestPart>,
}

/// A document of an export, to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Restore {
    /// What is written, by an admin: its owner replaces that of a document that is there.
    pub document: NewDocument,
    /// Whether one of its id may be there.
    pub mode: PutMode,
    /// The version that it had; it has a higher one where that one is taken.
    pub version: Version,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Whether a document of this id may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// It must be new, else [`crate::error::ErrorKind::Conflict`].
    Create,
    /// It is made, or replaced.
    CreateOrReplace,
}

/// What [`super::DocumentCatalog::put`] did.
#[derive(Debug, Clone, PartialEq)]
pub enum Put {
    /// A new document.
    Created(DocumentRecord),
    /// A new version of a document; the second value is the blob of a version that was never served and is now
    /// superseded, to be deleted.
    Replaced(DocumentRecord, Option<String>),
    /// The newest version has these very bytes and has not failed; title, metadata or readers are new. The change holds
    /// from now on, as one of [`super::DocumentCatalog::patch`] does.
    Patched(DocumentRecord),
    /// The newest version has these very bytes and the same attributes, and has not failed; or the part of the request
    /// was done before. Nothing was written.
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
    /// No worker had this document before, nor was there another version of it: nothing of it can be in the vector
    /// store. An attempt that was taken back counts as one.
    pub fresh: bool,
    /// How often in a row it was given back for what may pass.
    pub setbacks: u32,
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
    /// The title that its points have; it is shown where the row has none.
    pub title: String,
}

/// What [`super::JobQueue::publish`] did.
#[derive(Debug, Clone, PartialEq)]
pub enum Publish {
    /// The version is current.
    Published,
    /// Attributes changed since `access_version`: write them to the new points, then publish again.
    AttributesMoved(Box<DocumentRecord>),
}
