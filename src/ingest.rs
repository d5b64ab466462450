//! The ingester: submit, replace, change, delete, and the state of every document.

pub mod attributes;
pub mod chunk;
mod contents;
pub mod extract;
mod purge;
pub mod spool;
mod submit;
pub(crate) mod validate;
pub mod worker;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::auth::Identity;
use crate::blob::Blobs;
use crate::cache::Cache;
use crate::catalog::{AttributesPatch, Catalog, DocumentRecord, ListQuery, Status};
use crate::document::{DocumentId, Metadata, Principal};
use crate::error::{Error, ErrorKind, Result};
use crate::vector_store::VectorStore;
use attributes::AttributeWriter;
pub use contents::{ChunkList, ChunkPosition, Original};
use spool::Spooled;

/// How documents are taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Most bytes of one original.
    pub max_document_bytes: u64,
    /// Documents that one process works on at once; 0: no worker in this process.
    pub concurrency: usize,
    /// Files that are read at once, each by a child process.
    pub extract_concurrency: usize,
    /// Tokens of a chunk, context included; at most what the embedding model reads.
    pub chunk_tokens: usize,
    /// Tokens that neighbouring chunks share.
    pub chunk_overlap: usize,
    /// How long a worker's lease is.
    pub lease: Duration,
    /// Longest extraction of one document.
    pub extract_timeout: Duration,
    /// Most memory of an extraction, in bytes.
    pub extract_memory: u64,
    /// The `rag-api` executable that extracts as a child process; `None`: this one.
    pub extract_program: Option<std::path::PathBuf>,
}

/// A document to take in.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The identity; `None`: a fresh one.
    pub document_id: Option<DocumentId>,
    /// The original.
    pub content: Spooled,
    /// The name it was uploaded under.
    pub filename: Option<String>,
    /// The declared media type; `None`: by name.
    pub media_type: Option<String>,
    /// The title.
    pub title: Option<String>,
    /// The metadata.
    pub metadata: Option<Metadata>,
    /// Who may read it besides the owner.
    pub readers: Option<Vec<Principal>>,
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// The document's row.
    pub record: DocumentRecord,
    /// The same bytes were there already: no new version, nothing was queued. Attributes that were given have changed.
    pub unchanged: bool,
}

/// Takes documents in. HTTP and command line use this one; what is not the caller's is `NotFound`.
#[derive(Debug)]
pub struct Ingester {
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) store: Arc<dyn VectorStore>,
    pub(crate) cache: Option<Arc<dyn Cache>>,
    pub(crate) attributes: Arc<AttributeWriter>,
    pub(crate) config: Config,
    /// Rung when there is work, so that a worker in this process need not poll.
    pub(crate) work: Arc<Notify>,
}

impl Ingester {
    /// A document that the caller may read, owns, or administers.
    pub async fn get(&self, caller: &Identity, document: &DocumentId) -> Result<DocumentRecord> {
        let record = self.catalog.get(&caller.tenant, document).await?;
        record.filter(|record| may_see(caller, record)).ok_or_else(|| Error::not_found("document"))
    }

    /// Documents that the caller may read (an admin: all of the tenant), by id, after `after`.
    pub async fn list(
        &self,
        caller: &Identity,
        status: Option<Status>,
        after: Option<DocumentId>,
        limit: u32,
    ) -> Result<Vec<DocumentRecord>> {
        let scope = if caller.is_admin() { None } else { Some(caller.scope()?) };
        self.catalog.list(&caller.tenant, ListQuery { status, scope, after, limit }).await
    }

    /// Changes title, metadata or readers; effective for the next question.
    pub async fn patch(
        &self,
        caller: &Identity,
        document: &DocumentId,
        patch: AttributesPatch,
    ) -> Result<DocumentRecord> {
        validate::patch(&patch)?;
        let owner = owner(caller)?;
        let record = self.attributes.patch(&caller.tenant, document, owner.as_ref(), patch).await?;
        record.ok_or_else(|| Error::not_found("document"))
    }

    /// Deletes a document; when this returns it is gone from every answer, cache and store. Should the store be down,
    /// it is gone from every answer all the same, and the rest follows when the store is back.
    pub async fn delete(&self, caller: &Identity, document: &DocumentId) -> Result<()> {
        let owner = owner(caller)?;
        let job = self.catalog.tombstone(&caller.tenant, document, owner.as_ref(), self.config.lease).await?;
        let job = job.ok_or_else(|| Error::not_found("document"))?;
        crate::hold::at("delete").await;
        if let Some(cache) = &self.cache
            && let Err(error) = cache.forget(&caller.tenant).await
        {
            tracing::warn!(error = %error.chain(), "cached answers could not be dropped; they are never served again");
        }
        let result = purge::purge(&*self.catalog, &self.blobs, &*self.store, &job).await;
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict) {
            // It took longer than the lease, and a worker finishes it.
            return Ok(());
        }
        if result.is_err() {
            // Best effort: without it the worker waits until the lease runs out.
            let _ = self.catalog.release(&job.lease, Duration::from_secs(1), true).await;
            self.work.notify_waiters();
        }
        result
    }

    /// Queues a failed document again.
    pub async fn retry(&self, caller: &Identity, document: &DocumentId) -> Result<DocumentRecord> {
        let owner = owner(caller)?;
        let record = self.catalog.retry(&caller.tenant, document, owner.as_ref()).await?;
        self.work.notify_waiters();
        record.ok_or_else(|| Error::not_found("document"))
    }
}

/// Whose documents the caller may change; `None`: everybody's in its tenant.
fn owner(caller: &Identity) -> Result<Option<Principal>> {
    if caller.is_admin() { Ok(None) } else { caller.owner().map(Some) }
}

fn may_see(caller: &Identity, record: &DocumentRecord) -> bool {
    caller.is_admin() || caller.scope().is_ok_and(|scope| scope.may_read(&record.tenant, &record.readers))
}
