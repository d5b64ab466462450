//! Limits counted in this process.
//!
//! The generic cell rate algorithm (GCRA; ITU-T I.371): a bucket is one moment, the theoretical arrival time, at which
//! it is full again. It is our own and not `governor`'s because that one tells neither the time until a bucket is full
//! nor keeps a bound on their number.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Decision, Quota, RateLimiter};
use crate::error::Result;

/// Most buckets; 100,000 take about 10 MB.
const MAX_BUCKETS: usize = 100_000;

/// One process's buckets.
#[derive(Debug)]
pub(super) struct MemoryLimiter {
    start: Instant,
    max_buckets: usize,
    /// When each bucket is full again, since `start`. A full one equals one that is not there.
    full_at: Mutex<HashMap<Box<str>, Duration>>,
}

impl MemoryLimiter {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), max_buckets: MAX_BUCKETS, full_at: Mutex::new(HashMap::new()) }
    }
}

#[async_trait]
impl RateLimiter for MemoryLimiter {
    async fn take(&self, bucket: &str, quota: Quota) -> Result<Decision> {
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that no bucket sees time go back.
        let now = self.start.elapsed();
        if let Some(full_at) = buckets.get_mut(bucket) {
            return Ok(gcra(full_at, now, quota));
        }
        if buckets.len() >= self.max_buckets {
            make_room(&mut buckets, now, self.max_buckets);
        }
        let mut full_at = now;
        let decision = gcra(&mut full_at, now, quota);
        buckets.insert(bucket.into(), full_at);
        Ok(decision)
    }
}

/// Takes one request from the bucket that is full at `full_at`.
fn gcra(full_at: &mut Duration, now: Duration, quota: Quota) -> Decision {
    let Quota { requests: limit, window } = quota;
    // Rounded up: a rounding must not let more through than the quota says.
    let interval = nanoseconds(window.as_nanos().div_ceil(u128::from(limit.max(1))).max(1));
    let burst = interval.saturating_mul(limit);
    let taken_at = full_at.saturating_sub(now).saturating_add(interval);
    if taken_at > burst {
        let reset = full_at.saturating_sub(now);
        return Decision { allowed: false, limit, remaining: 0, reset, retry_after: taken_at - burst };
    }
    *full_at = now + taken_at;
    let remaining = ((burst - taken_at).as_nanos() / interval.as_nanos()).try_into().unwrap_or(limit);
    Decision { allowed: true, limit, remaining, reset: taken_at, retry_after: Duration::ZERO }
}

fn nanoseconds(n: u128) -> Duration {
    Duration::from_nanos(n.try_into().unwrap_or(u64::MAX))
}

/// Drops the buckets that are full, and if that frees less than a tenth, those that are nearest to it.
fn make_room(buckets: &mut HashMap<Box<str>, Duration>, now: Duration, max: usize) {
    buckets.retain(|_, full_at| *full_at > now);
    let keep = max - max.div_ceil(10);
    if buckets.len() > keep {
        let mut times: Vec<Duration> = buckets.values().copied().collect();
        let excess = times.len() - keep;
        let (_, border, _) = times.select_nth_unstable(excess - 1);
        let border = *border;
        buckets.retain(|_, full_at| *full_at > border);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { requests: 3, window: Duration::from_secs(60) };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_burst_of_the_limit_then_one_per_interval() {
        let mut bucket = seconds(100);
        let now = seconds(100);
        for left in [2, 1, 0] {
            let decision = gcra(&mut bucket, now, QUOTA);
            assert!(decision.allowed);
            assert_eq!(decision.remaining, left);
            assert_eq!(decision.reset, seconds(20) * (3 - left));
            assert_eq!(decision.retry_after, Duration::ZERO);
        }
        let refused = gcra(&mut bucket, now, QUOTA);
        assert_eq!(
            refused,
            Decision { allowed: false, limit: 3, remaining: 0, reset: seconds(60), retry_after: seconds(20) }
        );
        assert!(!gcra(&mut bucket, now + seconds(19), QUOTA).allowed);
        // Refused requests cost nothing: the twentieth second gives exactly one.
        assert!(gcra(&mut bucket, now + seconds(20), QUOTA).allowed);
        assert!(!gcra(&mut bucket, now + seconds(20), QUOTA).allowed);
        // A long rest gives the whole quota again and no more.
        let rested = now + seconds(10_000);
        assert_eq!((0..10).filter(|_| gcra(&mut bucket, rested, QUOTA).allowed).count(), 3);
    }

    #[test]
    fn an_interval_that_does_not_divide_evenly_never_lets_more_through() {
        let quota = Quota { requests: 7, window: Duration::from_secs(1) };
        let mut bucket = Duration::ZERO;
        let allowed = (0..10_000).filter(|ms| gcra(&mut bucket, Duration::from_millis(*ms), quota).allowed).count();
        assert!(allowed <= 7 + 70, "{allowed}");
        assert!(allowed >= 7 + 69, "{allowed}");
    }

    #[test]
    fn a_quota_of_nothing_allows_nothing() {
        let mut bucket = Duration::ZERO;
        let quota = Quota { requests: 0, window: seconds(10) };
        assert!(!gcra(&mut bucket, seconds(5), quota).allowed);
    }

    #[tokio::test]
    async fn the_number_of_buckets_is_bounded_and_the_emptiest_stay() {
        let limiter = MemoryLimiter { max_buckets: 100, ..MemoryLimiter::new() };
        let quota = Quota { requests: 2, window: Duration::from_secs(3_600) };
        for _ in 0..2 {
            assert!(limiter.take("busy", quota).await.unwrap().allowed);
        }
        for n in 0..1_000 {
            limiter.take(&format!("visitor {n}"), quota).await.unwrap();
        }
        assert!(limiter.full_at.lock().unwrap().len() <= 100);
        assert!(!limiter.take("busy", quota).await.unwrap().allowed);
    }
}
