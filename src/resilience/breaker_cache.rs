//! A cache behind a breaker: one that is down costs nothing, instead of a timeout for every question.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Breaker;
use crate::cache::Cache;
use crate::document::TenantId;
use crate::error::Result;

/// Asks the cache only while its breaker is closed.
#[derive(Debug)]
pub struct BreakerCache {
    inner: Arc<dyn Cache>,
    breaker: Breaker,
}

impl BreakerCache {
    /// Puts `inner` behind `breaker`.
    pub fn new(inner: Arc<dyn Cache>, breaker: Breaker) -> Self {
        Self { inner, breaker }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Cache for BreakerCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.breaker.run(self.inner.get(key)).await
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.breaker.run(self.inner.put(key, value, ttl)).await
    }

    async fn forget(&self, tenant: &TenantId) -> Result<()> {
        self.breaker.run(self.inner.forget(tenant)).await
    }
}
