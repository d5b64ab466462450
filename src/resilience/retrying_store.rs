//! A vector store that tries again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Deadline, Retry};
use crate::document::{Chunk, DocumentId, Scope, TenantId, Version};
use crate::error::Result;
use crate::vector_store::{
    ChunkPage, DocumentAttributes, Found, Point, SearchQuery, SearchResults, VectorStore, Versions,
};

/// Tries again what the store could not do for the moment: every call is idempotent. `check` and `optimize` are not
/// repeated: readiness wants to know how the store is, and housekeeping comes again by itself.
#[derive(Debug)]
pub struct RetryingStore {
    inner: Arc<dyn VectorStore>,
    retry: Retry,
    reads: Duration,
    writes: Duration,
}

impl RetryingStore {
    /// No try begins later than `reads` after the first of a call that reads, and `writes` of one that writes.
    pub fn new(inner: Arc<dyn VectorStore>, retry: Retry, reads: Duration, writes: Duration) -> Self {
        Self { inner, retry, reads, writes }
    }

    fn reading(&self) -> Deadline {
        Deadline::after(self.reads)
    }

    fn writing(&self) -> Deadline {
        Deadline::after(self.writes)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl VectorStore for RetryingStore {
    async fn upsert(&self, points: Vec<Point>) -> Result<()> {
        self.retry.run(self.writing(), || self.inner.upsert(points.clone())).await
    }

    async fn flush(&self) -> Result<()> {
        self.retry.run(self.writing(), || self.inner.flush()).await
    }

    async fn search(&self, scope: &Scope, query: SearchQuery) -> Result<SearchResults> {
        self.retry.run(self.reading(), || self.inner.search(scope, query.clone())).await
    }

    async fn passages(&self, scope: &Scope, ids: &[Uuid], question: Option<&[f32]>) -> Result<Vec<Found>> {
        self.retry.run(self.reading(), || self.inner.passages(scope, ids, question)).await
    }

    async fn delete(&self, tenant: &TenantId, document: &DocumentId, versions: Versions) -> Result<()> {
        self.retry.run(self.writing(), || self.inner.delete(tenant, document, versions)).await
    }

    async fn set_attributes(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        attributes: &DocumentAttributes,
    ) -> Result<()> {
        self.retry.run(self.writing(), || self.inner.set_attributes(tenant, document, version, attributes)).await
    }

    async fn chunks(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        page: ChunkPage,
    ) -> Result<Vec<Chunk>> {
        self.retry.run(self.reading(), || self.inner.chunks(tenant, document, version, page)).await
    }

    async fn points(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        page: ChunkPage,
    ) -> Result<Vec<Point>> {
        self.retry.run(self.reading(), || self.inner.points(tenant, document, version, page)).await
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn optimize(&self) -> Result<bool> {
        self.inner.optimize().await
    }
}
