//! The seam to caches: bytes by key, gone after a while, never needed.

mod memory;
mod redis;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::document::{TenantId, hex};
use crate::error::{Error, Result};
use crate::resilience::Deadline;
use crate::telemetry::metrics;

/// Longest wait for a cache: what it holds is not worth more time than making it again.
pub const LIMIT: Duration = Duration::from_millis(250);

/// Keeps bytes for a while. A cache may lose anything at any time; an error is the same as a miss to its callers.
#[async_trait]
pub trait Cache: fmt::Debug + Send + Sync {
    /// The bytes at `key`, if they are there and not too old.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    /// Keeps bytes at `key` for `ttl`.
    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()>;

    /// Drops everything of a tenant: every key that begins with `{tenant}/`.
    async fn forget(&self, tenant: &TenantId) -> Result<()>;
}

/// The key of something that depends on `whole`: its tenant first, so that all of a tenant can be forgotten, then its
/// kind, then everything that it depends on, hashed.
pub(crate) fn key(tenant: &TenantId, kind: &str, whole: &impl Serialize) -> Result<String> {
    let whole =
        serde_json::to_vec(whole).map_err(|error| Error::internal("a question cannot be made a cache key", error))?;
    Ok(format!("{tenant}/{kind}/{}", hex(&Sha256::digest(whole))))
}

/// What is kept at a key, counted as a look-up of the cache `name`. What `decode` makes nothing of is a miss; a cache that
/// fails or takes longer than [`LIMIT`] is an error.
pub(crate) async fn look_up<T>(
    cache: &dyn Cache,
    name: &'static str,
    key: &str,
    decode: impl FnOnce(&[u8]) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let found = Deadline::after(LIMIT).run("the cache", cache.get(key)).await;
    let found = found.and_then(|bytes| bytes.map_or(Ok(None), |bytes| decode(&bytes)));
    let result = match &found {
        Ok(Some(_)) => "hit",
        Ok(None) => "miss",
        Err(_) => "error",
    };
    metrics::CACHE.add(1, &[("cache", name), ("result", result)]);
    found
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
