//! What every limiter does: exact under concurrency, with the numbers of the headers.

use std::sync::Arc;
use std::time::Duration;

use rag_api::limit::{Quota, RateLimiter};
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3_600);
const QUOTA: Quota = Quota { requests: 100, window: HOUR };

/// Runs all of it on limiters that count together.
pub(super) async fn check(limiters: &[Arc<dyn RateLimiter>]) {
    a_thousand_at_once_get_exactly_the_limit(limiters).await;
    let limiter = &*limiters[0];
    buckets_do_not_meet(limiter).await;
    each_request_costs_its_part_of_the_window(limiter).await;
    a_bucket_fills_again(limiter).await;
    a_quota_may_change(limiter).await;
}

/// A bucket that no other test has.
fn bucket() -> String {
    format!("{}:query", Uuid::new_v4())
}

async fn a_thousand_at_once_get_exactly_the_limit(limiters: &[Arc<dyn RateLimiter>]) {
    let bucket = bucket();
    let takes = limiters.iter().cycle().take(1_000).map(|limiter| {
        let (limiter, bucket) = (limiter.clone(), bucket.clone());
        tokio::spawn(async move { limiter.take(&bucket, QUOTA).await.unwrap() })
    });
    let takes: Vec<_> = takes.collect();
    let decisions: Vec<_> = futures::future::join_all(takes).await.into_iter().map(|take| take.unwrap()).collect();
    let (allowed, refused): (Vec<_>, Vec<_>) = decisions.into_iter().partition(|decision| decision.allowed);
    assert_eq!((allowed.len(), refused.len()), (100, 900));

    let mut left: Vec<u32> = allowed.iter().map(|decision| decision.remaining).collect();
    left.sort_unstable();
    assert_eq!(left, (0..100).collect::<Vec<_>>());
    assert!(allowed.iter().all(|decision| decision.retry_after.is_zero() && decision.limit == 100));
    // One request is worth 36 s.
    let one = HOUR / 100;
    assert!(allowed.iter().all(|decision| decision.reset > Duration::ZERO && decision.reset <= HOUR));
    for decision in refused {
        assert_eq!((decision.limit, decision.remaining), (100, 0));
        assert!(decision.retry_after > Duration::ZERO && decision.retry_after <= one);
        assert!(decision.reset > HOUR - one && decision.reset <= HOUR);
    }
}

async fn buckets_do_not_meet(limiter: &dyn RateLimiter) {
    let one = Quota { requests: 1, window: HOUR };
    let (ann, bob) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(limiter.take(&format!("{ann}:query"), one).await.unwrap().allowed);
    assert!(!limiter.take(&format!("{ann}:query"), one).await.unwrap().allowed);
    assert!(limiter.take(&format!("{ann}:ingest"), one).await.unwrap().allowed);
    assert!(limiter.take(&format!("{bob}:query"), one).await.unwrap().allowed);
    for strange in ["{x}", "質問 🦀", "a b\r\nc", ""] {
        let bucket = format!("{ann}{strange}");
        assert!(limiter.take(&bucket, one).await.unwrap().allowed, "{strange:?}");
        assert!(!limiter.take(&bucket, one).await.unwrap().allowed, "{strange:?}");
    }
}

async fn each_request_costs_its_part_of_the_window(limiter: &dyn RateLimiter) {
    // The longest window that can be set: 20 min of it a request.
    let quota = Quota { requests: 72, window: 24 * HOUR };
    let (bucket, one) = (bucket(), HOUR / 3);
    for left in (0..72).rev() {
        let decision = limiter.take(&bucket, quota).await.unwrap();
        assert!(decision.allowed);
        assert_eq!((decision.limit, decision.remaining, decision.retry_after), (72, left, Duration::ZERO));
        let full = one * (72 - left);
        assert!(decision.reset <= full && decision.reset > full - one, "{:?} of {full:?}", decision.reset);
    }
    for _ in 0..3 {
        // Refused requests cost nothing.
        let decision = limiter.take(&bucket, quota).await.unwrap();
        assert!(!decision.allowed && decision.retry_after <= one && decision.retry_after > Duration::ZERO);
        assert!(decision.reset <= 24 * HOUR && decision.reset > 24 * HOUR - one);
    }
}

async fn a_bucket_fills_again(limiter: &dyn RateLimiter) {
    // So fast that waiting for it is no test of patience: a request in 10 ms.
    let quota = Quota { requests: 2, window: Duration::from_millis(20) };
    let bucket = bucket();
    let mut allowed = 0;
    let refill = async {
        while allowed < 20 {
            let decision = limiter.take(&bucket, quota).await.unwrap();
            allowed += u32::from(decision.allowed);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HOUR / 60, refill).await.expect("one request in 10 ms");
}

async fn a_quota_may_change(limiter: &dyn RateLimiter) {
    let nothing = Quota { requests: 0, window: HOUR };
    assert!(!limiter.take(&bucket(), nothing).await.unwrap().allowed);
    let most = Quota { requests: 10_000_000, window: Duration::from_secs(1) };
    assert!(limiter.take(&bucket(), most).await.unwrap().allowed);
    let bucket = bucket();
    for _ in 0..10 {
        assert!(limiter.take(&bucket, Quota { requests: 10, window: HOUR }).await.unwrap().allowed);
    }
    assert!(!limiter.take(&bucket, Quota { requests: 10, window: HOUR }).await.unwrap().allowed);
    // Of twice as much, half is left.
    let more = Quota { requests: 20, window: 2 * HOUR };
    assert!(limiter.take(&bucket, more).await.unwrap().allowed);
}
