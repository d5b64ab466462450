//! A vector store behind two breakers: one for what questions need, one for what changes documents.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::Breaker;
use crate::document::{Chunk, DocumentId, Scope, TenantId, Version};
use crate::error::Result;
use crate::vector_store::{
    ChunkPage, DocumentAttributes, Found, Point, SearchQuery, SearchResults, VectorStore, Versions,
};

/// Asks the store only while a breaker is closed. A store that cannot be written (a full disk) can still be searched, so
/// that writes which fail say nothing about reads. `check` and `optimize` go past it: readiness wants to know how the
/// store is, not what the breaker thinks, and housekeeping is no sign of either.
#[derive(Debug)]
pub struct BreakerStore {
    inner: Arc<dyn VectorStore>,
    reads: Breaker,
    writes: Breaker,
}

impl BreakerStore {
    /// Puts `inner` behind breakers for searches and for changes.
    pub fn new(inner: Arc<dyn VectorStore>, reads: Breaker, writes: Breaker) -> Self {
        Self { inner, reads, writes }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl VectorStore for BreakerStore {
    async fn upsert(&self, points: Vec<Point>) -> Result<()> {
        self.writes.run(self.inner.upsert(points)).await
    }

    async fn flush(&self) -> Result<()> {
        self.writes.run(self.inner.flush()).await
    }

    async fn search(&self, scope: &Scope, query: SearchQuery) -> Result<SearchResults> {
        self.reads.run(self.inner.search(scope, query)).await
    }

    async fn passages(&self, scope: &Scope, ids: &[Uuid], question: Option<&[f32]>) -> Result<Vec<Found>> {
        self.reads.run(self.inner.passages(scope, ids, question)).await
    }

    async fn delete(&self, tenant: &TenantId, document: &DocumentId, versions: Versions) -> Result<()> {
        self.writes.run(self.inner.delete(tenant, document, versions)).await
    }

    async fn set_attributes(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        attributes: &DocumentAttributes,
    ) -> Result<()> {
        self.writes.run(self.inner.set_attributes(tenant, document, version, attributes)).await
    }

    async fn chunks(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        page: ChunkPage,
    ) -> Result<Vec<Chunk>> {
        self.reads.run(self.inner.chunks(tenant, document, version, page)).await
    }

    async fn points(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        page: ChunkPage,
    ) -> Result<Vec<Point>> {
        self.reads.run(self.inner.points(tenant, document, version, page)).await
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn optimize(&self) -> Result<bool> {
        self.inner.optimize().await
    }
}
