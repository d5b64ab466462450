//! A cache in Redis, shared by all replicas.
//!
//! The entries of a tenant and the list of them are on one node of a cluster (their keys have the tenant as hash tag),
//! so that [`Cache::forget`] deletes what the list names, a batch at a time, and looks at no other key. How much is kept
//! is bounded by the time to live, and by the `maxmemory` of the server.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::{ClusterHash, CustomCommand, Expiration, MultipleKeys, Value};

use super::Cache;
use crate::document::TenantId;
use crate::error::{Error, ErrorKind, Result};
use crate::redis::{Config, PREFIX, Redis, Script};

/// Calls are sent one behind the other without waiting, so a few connections carry many.
const CONNECTIONS: usize = 4;
/// A larger value is not kept: it would hold up what is behind it on its connection.
const MAX_VALUE: usize = 1 << 20;
/// Entries that one command of [`Cache::forget`] deletes.
const BATCH: i64 = 500;
/// Longest time of a whole [`Cache::forget`].
const FORGET: Duration = Duration::from_secs(2);

/// KEYS: the entry, the tenant's list. ARGV: the value, its time to live in milliseconds. The list is ordered by when
/// entries end, loses those that have ended, and ends with the last of them.
const PUT: &str = r"
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[2]), KEYS[1])
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
redis.call('PEXPIRE', KEYS[2], string.format('%.0f', last[2] - now))
return 1
";

/// The cache of all replicas.
#[derive(Debug)]
pub(super) struct RedisCache {
    redis: Redis,
    put: Script,
}

impl RedisCache {
    pub(super) async fn connect(config: &Config) -> Result<Self> {
        let redis = Redis::connect(config, "the cache", CONNECTIONS).await?;
        Ok(Self { redis, put: Script::new(PUT) })
    }

    /// The next entries of a tenant's list, at most [`BATCH`].
    async fn listed(&self, list: &str) -> Result<Vec<String>> {
        let command = CustomCommand::new_static("ZRANGE", ClusterHash::FirstKey, false);
        let arguments = vec![Value::from(list), Value::from(0_i64), Value::from(BATCH - 1)];
        self.redis.run(self.redis.pool().custom(command, arguments)).await
    }

    async fn forget_listed(&self, list: &str) -> Result<()> {
        loop {
            let entries = self.listed(list).await?;
            if entries.is_empty() {
                return Ok(());
            }
            let more = entries.len() as i64 == BATCH;
            let unlink: i64 = self.redis.run(self.redis.pool().unlink(entries.clone())).await?;
            tracing::trace!(unlink, "cached answers dropped");
            // Off the list only now: what breaks off before is found again.
            let command = CustomCommand::new_static("ZREM", ClusterHash::FirstKey, false);
            let arguments: Vec<Value> = std::iter::once(list.to_owned()).chain(entries).map(Value::from).collect();
            let _: i64 = self.redis.run(self.redis.pool().custom(command, arguments)).await?;
            if !more {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.redis.run(self.redis.pool().get(place(key).0)).await
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<()> {
        let milliseconds = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        match place(key) {
            // Not kept, and what was there is old. (Redis knows no time to live of nothing.)
            (entry, _) if value.len() > MAX_VALUE || milliseconds == 0 => {
                self.redis.run(self.redis.pool().unlink(entry)).await
            }
            (entry, Some(list)) => {
                let arguments = Value::Array(vec![Value::Bytes(value), Value::from(milliseconds)]);
                let _: i64 = self.put.run(&self.redis, MultipleKeys::from(vec![entry, list]), arguments).await?;
                Ok(())
            }
            (entry, None) => {
                let expiration = Some(Expiration::PX(milliseconds));
                self.redis.run(self.redis.pool().set(entry, Value::Bytes(value), expiration, None, false)).await
            }
        }
    }

    async fn forget(&self, tenant: &TenantId) -> Result<()> {
        let list = list(tenant.as_str());
        match tokio::time::timeout(FORGET, self.forget_listed(&list)).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(ErrorKind::Timeout, "the cache: a tenant's entries were not all dropped in time")),
        }
    }
}

/// Where an entry is, and the list of its tenant if it has one: `TENANT/…` is at `rag:cache:{TENANT}/…`.
fn place(key: &str) -> (String, Option<String>) {
    match key.split_once('/') {
        Some((tenant, rest)) if !tenant.is_empty() => {
            let list = list(tenant);
            (format!("{list}/{rest}"), Some(list))
        }
        _ => (format!("{PREFIX}cache::{key}"), None),
    }
}

/// The key of a tenant's list.
fn list(tenant: &str) -> String {
    format!("{PREFIX}cache:{{{tenant}}}")
}
