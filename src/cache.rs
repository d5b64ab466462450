//! The seam to caches: bytes by key, gone after a while, never needed.

mod memory;
mod redis;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;

/// Keeps bytes for a while. A cache may lose anything at any time; an error is the same as a miss to its callers.
#[async_trait]
pub trait Cache: fmt::Debug + Send + Sync {
    /// The bytes at `key`, if they are there and not too old.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Keeps bytes at `key` for `ttl`.
    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()>;

    /// Drops everything of a tenant: every key that begins with `{tenant}/`.
    async fn forget(&self, tenant: &crate::document::TenantId) -> Result<()>;
}

/// Where answers are cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How long an answer may be served; zero: no cache.
    pub ttl: Duration,
    /// Which backend.
    pub backend: Backend,
}

/// Which cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// In this process.
    Memory {
        /// Bound of what is kept, in bytes.
        max_bytes: u64,
    },
    /// In Redis, for all replicas.
    Redis(crate::redis::Config),
}

/// The cache of answers; `None` if it is switched off by a time to live of zero.
pub async fn build(config: &Config) -> Result<Option<Arc<dyn Cache>>> {
    if config.ttl.is_zero() {
        return Ok(None);
    }
    match &config.backend {
        Backend::Memory { max_bytes } => Ok(Some(Arc::new(memory::MemoryCache::new(*max_bytes)))),
        Backend::Redis(server) => Ok(Some(Arc::new(redis::RedisCache::connect(server).await?))),
    }
}
