//! A rate limiter behind a breaker: one that is down costs nothing, instead of a timeout for every request.

use std::sync::Arc;

use async_trait::async_trait;

use super::Breaker;
use crate::error::Result;
use crate::limit::{Decision, Quota, RateLimiter};

/// Asks the limiter only while its breaker is closed.
#[derive(Debug)]
pub struct BreakerLimiter {
    inner: Arc<dyn RateLimiter>,
    breaker: Breaker,
}

impl BreakerLimiter {
    /// Puts `inner` behind `breaker`.
    pub fn new(inner: Arc<dyn RateLimiter>, breaker: Breaker) -> Self {
        Self { inner, breaker }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl RateLimiter for BreakerLimiter {
    async fn take(&self, bucket: &str, quota: Quota) -> Result<Decision> {
        self.breaker.run(self.inner.take(bucket, quota)).await
    }
}
