//! A replica's share of limits that all replicas have together.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Decision, Quota, RateLimiter};
use crate::error::Result;

/// Takes from `inner` with the `replicas`th part of each quota, but never less than one request.
#[derive(Debug)]
pub(super) struct ShareLimiter {
    inner: Arc<dyn RateLimiter>,
    replicas: u32,
}

impl ShareLimiter {
    pub(super) fn new(inner: Arc<dyn RateLimiter>, replicas: u32) -> Self {
        Self { inner, replicas }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl RateLimiter for ShareLimiter {
    async fn take(&self, bucket: &str, quota: Quota) -> Result<Decision> {
        let requests = (quota.requests / self.replicas).max(quota.requests.min(1));
        self.inner.take(bucket, Quota { requests, ..quota }).await
    }
}
