//! A cache in this process, bounded in bytes.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use moka::Expiry;

use super::Cache;
use crate::document::TenantId;
use crate::error::Result;

/// What an entry costs beside its key and value, about: two nodes of moka's lists, its hash table's slot, headers.
const OVERHEAD: usize = 256;

#[derive(Debug, Clone)]
struct Entry {
    value: Bytes,
    ttl: Duration,
}

/// Each entry lives as long as its own `put` said, however often it is read.
struct PerEntry;

impl Expiry<Box<str>, Entry> for PerEntry {
    fn expire_after_create(&self, _: &Box<str>, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(&self, _: &Box<str>, entry: &Entry, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.ttl)
    }
}

/// The cache of one process.
#[derive(Debug)]
pub(super) struct MemoryCache {
    entries: moka::future::Cache<Box<str>, Entry>,
}

impl MemoryCache {
    pub(super) fn new(max_bytes: u64) -> Self {
        #[expect(clippy::borrowed_box, reason = "the type of the cache's weigher")]
        let weigh =
            |key: &Box<str>, entry: &Entry| u32::try_from(key.len() + entry.value.len() + OVERHEAD).unwrap_or(u32::MAX);
        let entries = moka::future::Cache::builder()
            .name("answers")
            .max_capacity(max_bytes)
            .weigher(weigh)
            .expire_after(PerEntry)
            .build();
        Self { entries }
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.entries.get(key).await.map(|entry| entry.value))
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        self.entries.insert(key.into(), Entry { value, ttl }).await;
        Ok(())
    }

    async fn forget(&self, tenant: &TenantId) -> Result<()> {
        let prefix = format!("{tenant}/");
        // A deletion is rare beside a question, and the cache is bounded: one walk over the keys is cheaper than an
        // index of tenants.
        let theirs: Vec<_> = self.entries.iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
        for (key, _) in theirs {
            self.entries.invalidate(&**key).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_bytes_are_bounded() {
        let cache = MemoryCache::new(100_000);
        for n in 0..1_000 {
            let value = Bytes::from(vec![0; 1_000]);
            cache.put(&format!("key {n}"), value, Duration::from_secs(60)).await.unwrap();
        }
        cache.entries.run_pending_tasks().await;
        assert!(cache.entries.weighted_size() <= 100_000);
        assert!(cache.entries.entry_count() > 0);
    }
}
