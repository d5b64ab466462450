//! Limits per key: exact under concurrency, with the numbers of the headers.

use std::sync::Arc;
use std::time::Duration;

use rag_api::limit::{Backend, Config, Quota, RateLimiter};

const HOUR: Duration = Duration::from_secs(3_600);
const QUOTA: Quota = Quota { requests: 100, window: HOUR };

async fn limiter() -> Arc<dyn RateLimiter> {
    rag_api::limit::build(&Config { query: QUOTA, ingest: QUOTA, backend: Backend::Memory }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_at_once_get_exactly_the_limit() {
    let limiter = limiter().await;
    let takes = (0..1_000).map(|_| {
        let limiter = limiter.clone();
        tokio::spawn(async move { limiter.take("key:query", QUOTA).await.unwrap() })
    });
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

#[tokio::test]
async fn buckets_do_not_meet() {
    let limiter = limiter().await;
    let one = Quota { requests: 1, window: HOUR };
    assert!(limiter.take("ann:query", one).await.unwrap().allowed);
    assert!(!limiter.take("ann:query", one).await.unwrap().allowed);
    assert!(limiter.take("ann:ingest", one).await.unwrap().allowed);
    assert!(limiter.take("bob:query", one).await.unwrap().allowed);
}
