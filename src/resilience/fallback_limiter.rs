//! A rate limiter that has another to turn to: a shared one that is down neither opens the doors nor shuts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::limit::{Decision, Quota, RateLimiter};
use crate::telemetry::metrics;

/// Asks `shared`, and where that fails, `local`. A request that `shared` counted before it failed is counted twice.
#[derive(Debug)]
pub struct FallbackLimiter {
    shared: Arc<dyn RateLimiter>,
    local: Arc<dyn RateLimiter>,
    degraded: AtomicBool,
}

impl FallbackLimiter {
    /// `local` takes over where `shared` fails.
    pub fn new(shared: Arc<dyn RateLimiter>, local: Arc<dyn RateLimiter>) -> Self {
        metrics::LIMITS_LOCAL.set(0.0, metrics::NONE);
        Self { shared, local, degraded: AtomicBool::new(false) }
    }

    /// Says so where it changed; `failure` is of the shared one.
    fn note(&self, failure: Option<&Error>) {
        let degraded = failure.is_some();
        if self.degraded.swap(degraded, Ordering::Relaxed) == degraded {
            return;
        }
        metrics::LIMITS_LOCAL.set(f64::from(u8::from(degraded)), metrics::NONE);
        match failure {
            Some(error) => tracing::warn!(error = error.chain(), "limits are counted by this process alone"),
            None => tracing::info!("limits are counted together again"),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl RateLimiter for FallbackLimiter {
    async fn take(&self, bucket: &str, quota: Quota) -> Result<Decision> {
        let shared = self.shared.take(bucket, quota).await;
        self.note(shared.as_ref().err());
        match shared {
            Ok(decision) => Ok(decision),
            Err(_) => self.local.take(bucket, quota).await,
        }
    }
}
