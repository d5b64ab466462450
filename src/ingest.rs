//! The ingester: submit, replace, change, delete, and the state of every document.

pub mod chunk;
pub mod extract;
pub mod worker;

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;

use crate::auth::Identity;
use crate::catalog::{AttributesPatch, DocumentRecord, Status};
use crate::document::{Chunk, DocumentId, Metadata, Principal};
use crate::error::Result;

/// How documents are taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Most bytes of one original.
    pub max_document_bytes: u64,
    /// Documents that one process works on at once; 0: no worker in this process.
    pub concurrency: usize,
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
}

/// A document to take in.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The identity; `None`: a fresh one.
    pub document_id: Option<DocumentId>,
    /// The bytes of the original.
    pub bytes: Bytes,
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
    /// The client's `Idempotency-Key`, with the number of the part where a request has several.
    pub idempotency_key: Option<String>,
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// The document's row.
    pub record: DocumentRecord,
    /// The same bytes and attributes were there already; nothing was queued.
    pub unchanged: bool,
}

/// An original to send.
pub struct Original {
    /// Its row.
    pub record: DocumentRecord,
    /// Its media type.
    pub media_type: String,
    /// The name it was uploaded under.
    pub filename: Option<String>,
    /// Its size.
    pub bytes: u64,
    /// Its content.
    pub stream: BoxStream<'static, Result<Bytes>>,
}

impl std::fmt::Debug for Original {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Original").field("record", &self.record).finish_non_exhaustive()
    }
}

/// Takes documents in. HTTP and command line use this one; what is not the caller's is `NotFound`.
#[derive(Debug)]
pub struct Ingester {}

impl Ingester {
    /// `POST`: always creates; with an `Idempotency-Key` the same request again gives the same document.
    pub async fn create(&self, caller: &Identity, upload: Upload) -> Result<Submitted> {
        let _ = (caller, upload);
        todo!()
    }

    /// `PUT`: creates or replaces `upload.document_id`.
    pub async fn put(&self, caller: &Identity, upload: Upload) -> Result<Submitted> {
        let _ = (caller, upload);
        todo!()
    }

    /// A document that the caller may read, owns, or administers.
    pub async fn get(&self, caller: &Identity, document: &DocumentId) -> Result<DocumentRecord> {
        let _ = (caller, document);
        todo!()
    }

    /// Documents that the caller may read (an admin: all of the tenant), by id, after `after`.
    pub async fn list(
        &self,
        caller: &Identity,
        status: Option<Status>,
        after: Option<DocumentId>,
        limit: u32,
    ) -> Result<Vec<DocumentRecord>> {
        let _ = (caller, status, after, limit);
        todo!()
    }

    /// Changes title, metadata or readers; effective for the next question.
    pub async fn patch(
        &self,
        caller: &Identity,
        document: &DocumentId,
        patch: AttributesPatch,
    ) -> Result<DocumentRecord> {
        let _ = (caller, document, patch);
        todo!()
    }

    /// Deletes a document; when this returns it is gone from every answer, cache and store.
    pub async fn delete(&self, caller: &Identity, document: &DocumentId) -> Result<()> {
        let _ = (caller, document);
        todo!()
    }

    /// Queues a failed document again.
    pub async fn retry(&self, caller: &Identity, document: &DocumentId) -> Result<DocumentRecord> {
        let _ = (caller, document);
        todo!()
    }

    /// The original of what is served (of the newest version, if nothing is), for readers only.
    pub async fn original(&self, caller: &Identity, document: &DocumentId) -> Result<Original> {
        let _ = (caller, document);
        todo!()
    }

    /// Chunks of what is served from `from` on, for readers only; the number of all chunks beside them.
    pub async fn chunks(
        &self,
        caller: &Identity,
        document: &DocumentId,
        from: u32,
        limit: usize,
    ) -> Result<(Vec<Chunk>, u32)> {
        let _ = (caller, document, from, limit);
        todo!()
    }
}
