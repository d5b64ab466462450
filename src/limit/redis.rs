//! Limits counted in Redis, for all replicas together.
//!
//! The same algorithm as in memory (GCRA), as one script that runs alone on the server and by its clock: exact however
//! many replicas ask at once. Times are whole microseconds, which a Lua number holds exactly for another 250 years.

use std::time::Duration;

use async_trait::async_trait;
use fred::types::{MultipleKeys, Value};

use super::{Decision, Quota, RateLimiter};
use crate::error::{Error, ErrorKind, Result};
use crate::redis::{Config, PREFIX, Redis, Script};

/// Calls are sent one behind the other without waiting, so a few connections carry many.
const CONNECTIONS: usize = 2;

/// KEYS: the bucket. ARGV: what one request is worth in microseconds, and the quota's requests. A bucket is the moment
/// at which it is full again, and goes by itself then. Gives: allowed (0 or 1), requests left, microseconds until it is
/// full, microseconds until one request is allowed.
///
/// A moment further off than an empty bucket's comes of a larger quota that was, or of a clock that went back.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local burst = interval * limit
local full_at = tonumber(redis.call('GET', KEYS[1]) or now)
local missing = math.min(math.max(full_at - now, 0), burst)
local taken = missing + interval
if taken > burst then
    return {0, 0, missing, taken - burst}
end
redis.call('SET', KEYS[1], string.format('%.0f', now + taken), 'PX', math.ceil(taken / 1000))
return {1, math.floor((burst - taken) / interval), taken, 0}
";

/// The buckets of all replicas.
#[derive(Debug)]
pub(super) struct RedisLimiter {
    redis: Redis,
    take: Script,
}

impl RedisLimiter {
    pub(super) async fn connect(config: &Config) -> Result<Self> {
        let redis = Redis::connect(config, "the limits", CONNECTIONS).await?;
        Ok(Self { redis, take: Script::new(TAKE) })
    }
}

#[async_trait]
impl RateLimiter for RedisLimiter {
    async fn take(&self, bucket: &str, quota: Quota) -> Result<Decision> {
        // Rounded up: a rounding must not let more through than the quota says.
        let interval = quota.window.as_micros().div_ceil(u128::from(quota.requests.max(1))).max(1);
        let interval = i64::try_from(interval).unwrap_or(i64::MAX);
        // One hash tag: in a cluster all buckets are on one node, whose clock they share.
        let keys = MultipleKeys::from(format!("{PREFIX}{{limit}}:{bucket}"));
        let arguments = Value::Array(vec![Value::from(interval), Value::from(i64::from(quota.requests))]);
        let numbers: Vec<i64> = self.take.run(&self.redis, keys, arguments).await?;
        let [allowed, remaining, reset, retry_after] = numbers[..] else {
            return Err(Error::new(
                ErrorKind::Internal,
                "the script of the limits gave something else than its numbers",
            ));
        };
        Ok(Decision {
            allowed: allowed == 1,
            limit: quota.requests,
            remaining: remaining.try_into().unwrap_or(0),
            reset: microseconds(reset),
            retry_after: microseconds(retry_after),
        })
    }
}

fn microseconds(n: i64) -> Duration {
    Duration::from_micros(n.try_into().unwrap_or(0))
}
