//! A vector store whose calls are timed.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use uuid::Uuid;

use super::{ChunkPage, DocumentAttributes, Found, Point, SearchQuery, SearchResults, VectorStore, Versions};
use crate::document::{Chunk, DocumentId, Scope, TenantId, Version};
use crate::error::Result;
use crate::telemetry::metrics;

/// Times every call, failed ones too, by its operation.
#[derive(Debug)]
pub struct MeteredStore {
    inner: Arc<dyn VectorStore>,
}

impl MeteredStore {
    /// Times the calls of `inner`.
    pub fn new(inner: Arc<dyn VectorStore>) -> Self {
        Self { inner }
    }
}

async fn timed<T>(operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    let result = call.await;
    metrics::STORE_LATENCY.record(started.elapsed().as_secs_f64(), &[("operation", operation)]);
    result
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl VectorStore for MeteredStore {
    async fn upsert(&self, points: Vec<Point>) -> Result<()> {
        timed("upsert", self.inner.upsert(points)).await
    }

    async fn flush(&self) -> Result<()> {
        timed("flush", self.inner.flush()).await
    }

    async fn search(&self, scope: &Scope, query: SearchQuery) -> Result<SearchResults> {
        timed("search", self.inner.search(scope, query)).await
    }

    async fn passages(&self, scope: &Scope, ids: &[Uuid], question: Option<&[f32]>) -> Result<Vec<Found>> {
        timed("passages", self.inner.passages(scope, ids, question)).await
    }

    async fn delete(&self, tenant: &TenantId, document: &DocumentId, versions: Versions) -> Result<()> {
        timed("delete", self.inner.delete(tenant, document, versions)).await
    }

    async fn set_attributes(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        attributes: &DocumentAttributes,
    ) -> Result<()> {
        timed("set_attributes", self.inner.set_attributes(tenant, document, version, attributes)).await
    }

    async fn chunks(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        page: ChunkPage,
    ) -> Result<Vec<Chunk>> {
        timed("chunks", self.inner.chunks(tenant, document, version, page)).await
    }

    async fn points(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        page: ChunkPage,
    ) -> Result<Vec<Point>> {
        timed("points", self.inner.points(tenant, document, version, page)).await
    }

    async fn check(&self) -> Result<()> {
        timed("check", self.inner.check()).await
    }

    async fn optimize(&self) -> Result<bool> {
        timed("optimize", self.inner.optimize()).await
    }
}
