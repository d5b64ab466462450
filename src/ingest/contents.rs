//! What readers get of a document itself: its original and its chunks.
//!
//! While they read, a newer version may be published and the old one's points and original deleted. The row is looked at
//! again then, so that a reader gets the old or the new version, never a mix and never a gap.

use bytes::Bytes;
use futures::stream::BoxStream;

use super::Ingester;
use crate::auth::Identity;
use crate::blob::Blobs;
use crate::catalog::{DocumentCatalog, DocumentRecord};
use crate::document::{Chunk, DocumentId, Principal, Scope, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::vector_store::{ChunkPage, VectorStore};

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

/// A chunk of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPosition {
    /// The version.
    pub version: Version,
    /// The number of the chunk.
    pub chunk_idx: u32,
}

/// Chunks of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkList {
    /// In order.
    pub chunks: Vec<Chunk>,
    /// Where the next page begins, unless this is the last one.
    pub next: Option<ChunkPosition>,
}

impl Ingester {
    /// The original of what is served (of the newest version, if nothing is), for readers only.
    pub async fn original(&self, caller: &Identity, document: &DocumentId) -> Result<Original> {
        self.contents(caller.scope()?).original(document).await
    }

    /// Chunks of what is served, at most `limit`, for readers only. `from` is where the page before ended;
    /// [`ErrorKind::Invalid`] at `/cursor` if another version is served by now.
    pub async fn chunks(
        &self,
        caller: &Identity,
        document: &DocumentId,
        from: Option<ChunkPosition>,
        limit: usize,
    ) -> Result<ChunkList> {
        self.contents(caller.scope()?).chunks(document, from, limit).await
    }

    fn contents(&self, scope: Scope) -> Contents<'_> {
        Contents { scope, documents: &*self.catalog, blobs: &self.blobs, store: &*self.store }
    }
}

/// What a reader may read.
struct Contents<'a> {
    scope: Scope,
    documents: &'a dyn DocumentCatalog,
    blobs: &'a Blobs,
    store: &'a dyn VectorStore,
}

impl Contents<'_> {
    async fn original(&self, document: &DocumentId) -> Result<Original> {
        let mut missing = None;
        loop {
            let record = self.readable(document).await?;
            let content = record.served.as_ref().map_or(&record.content, |served| &served.content).clone();
            let found = self.blobs.get(&content.blob).await;
            let gone = found.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound);
            if gone && missing.as_ref() != Some(&content.blob) {
                missing = Some(content.blob);
                continue;
            }
            let blob = found?;
            let (media_type, filename) = (content.media_type, content.filename);
            return Ok(Original { record, media_type, filename, bytes: blob.bytes, stream: blob.stream });
        }
    }

    async fn chunks(&self, document: &DocumentId, from: Option<ChunkPosition>, limit: usize) -> Result<ChunkList> {
        let mut short = None;
        loop {
            let record = self.readable(document).await?;
            let served = record.served.as_ref();
            if from.is_some_and(|from| served.is_none_or(|served| served.version != from.version)) {
                return Err(Error::invalid(
                    "/cursor",
                    "the document was replaced since this cursor was given; begin again without one",
                ));
            }
            let Some(served) = served else { return Ok(ChunkList { chunks: Vec::new(), next: None }) };
            let first = from.map_or(0, |from| from.chunk_idx);
            let page = ChunkPage { from: first, limit };
            let chunks = self.store.chunks(&record.tenant, document, served.version, page).await?;
            let expected = limit.min(served.chunks.saturating_sub(first) as usize);
            if chunks.len() < expected && short != Some(served.version) {
                short = Some(served.version);
                continue;
            }
            let next = chunks.last().map(|last| last.chunk_idx + 1).filter(|next| *next < served.chunks);
            let next = next.map(|chunk_idx| ChunkPosition { version: served.version, chunk_idx });
            return Ok(ChunkList { chunks, next });
        }
    }

    /// A document whose text the caller may read; no scope but its readers opens it.
    async fn readable(&self, document: &DocumentId) -> Result<DocumentRecord> {
        let record = self.documents.get(self.scope.tenant(), document).await?;
        let record = record.filter(|record| self.scope.may_read(&record.tenant, readers(record)));
        record.ok_or_else(|| Error::not_found("document"))
    }
}

/// Who may read what is shown of a document: what is served, else the newest version.
fn readers(record: &DocumentRecord) -> &[Principal] {
    record.served.as_ref().map_or(&record.readers, |served| &served.attributes.readers)
}

#[cfg(test)]
mod tests;
