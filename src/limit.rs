//! The seam to rate limiters: one token per request and key, GCRA.

mod memory;
mod redis;
mod share;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;

/// A limit: so many requests in a window, refilled evenly (GCRA; a burst of the whole limit is allowed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    /// Requests.
    pub requests: u32,
    /// In so long.
    pub window: Duration,
}

/// What a limiter said, and the numbers of the `RateLimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// The quota's requests.
    pub limit: u32,
    /// Requests left at once.
    pub remaining: u32,
    /// Until the whole quota is there again.
    pub reset: Duration,
    /// Until one request is allowed again; zero if this one was.
    pub retry_after: Duration,
}

/// Counts requests per bucket (a key's id and a class, such as `query`).
#[async_trait]
pub trait RateLimiter: fmt::Debug + Send + Sync {
    /// Takes one request from `bucket`.
    async fn take(&self, bucket: &str, quota: Quota) -> Result<Decision>;
}

/// The limits per key, and where they are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Questions and searches.
    pub query: Quota,
    /// Uploads and changes of documents.
    pub ingest: Quota,
    /// Which backend.
    pub backend: Backend,
}

/// Which limiter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// In this process.
    Memory,
    /// In Redis, for all replicas.
    Redis {
        /// Which Redis.
        server: crate::redis::Config,
        /// Among how many replicas a limit is divided while Redis is down.
        replicas: u32,
    },
}

/// The limiter that every key's requests are counted by.
pub async fn build(config: &Config) -> Result<Arc<dyn RateLimiter>> {
    match &config.backend {
        Backend::Memory => Ok(Arc::new(memory::MemoryLimiter::new())),
        Backend::Redis { server, .. } => Ok(Arc::new(redis::RedisLimiter::connect(server).await?)),
    }
}

/// What limits while the limiter of [`build`] is down: this process alone, with its share. `None` if that one cannot be.
pub fn build_share(config: &Config) -> Option<Arc<dyn RateLimiter>> {
    match config.backend {
        Backend::Memory => None,
        Backend::Redis { replicas, .. } => {
            Some(Arc::new(share::ShareLimiter::new(Arc::new(memory::MemoryLimiter::new()), replicas)))
        }
    }
}
