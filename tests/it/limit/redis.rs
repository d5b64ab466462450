//! Limits in Redis: one count for all replicas, and each its share while Redis is down.

use std::sync::Arc;
use std::time::Duration;

use rag_api::error::ErrorKind;
use rag_api::limit::{Backend, Config, Quota, RateLimiter, build, build_share};
use rag_api::resilience::breaker::Policy;
use rag_api::resilience::{Breaker, BreakerLimiter, BreakerState, falling_back_limiter};

use super::conformance;
use crate::support::eventually;
use crate::support::redis::{RedisServer, SHARED, server};

const HOUR: Duration = Duration::from_secs(3_600);
const TEN: Quota = Quota { requests: 10, window: HOUR };

fn config(url: &str) -> Config {
    Config { query: TEN, ingest: TEN, backend: Backend::Redis { server: server(url), replicas: 2 } }
}

async fn limiter(url: &str) -> Arc<dyn RateLimiter> {
    build(&config(url)).await.unwrap()
}

/// As a replica has it.
async fn replica(url: &str) -> Arc<dyn RateLimiter> {
    falling_back_limiter(limiter(url).await, build_share(&config(url)).expect("a share"))
}

/// How many of 30 requests are let through.
async fn allowed(limiter: &dyn RateLimiter, bucket: &str) -> usize {
    let mut allowed = 0;
    for _ in 0..30 {
        allowed += usize::from(limiter.take(bucket, TEN).await.unwrap().allowed);
    }
    allowed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_replicas_have_one_limit() {
    let url = SHARED.url();
    conformance::check(&[limiter(&url).await, limiter(&url).await, limiter(&url).await]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_a_limiter() {
    let cluster = RedisServer::start_cluster();
    let url = format!("redis-cluster://127.0.0.1:{}", cluster.port);
    conformance::check(&[limiter(&url).await, limiter(&url).await]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sentinel_watches_is_a_limiter() {
    let primary = RedisServer::start();
    let sentinel = RedisServer::start_sentinel(&primary);
    let url = format!("redis-sentinel://127.0.0.1:{}?service=main", sentinel.port);
    conformance::check(&[limiter(&url).await, limiter(&primary.url()).await]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_may_be_flushed_in_between() {
    let redis = RedisServer::start();
    let limiter = limiter(&redis.url()).await;
    for left in (0..10).rev() {
        assert_eq!(limiter.take("a", TEN).await.unwrap().remaining, left);
        assert_eq!(redis.command(&["SCRIPT", "FLUSH"]), "OK");
    }
    assert!(!limiter.take("a", TEN).await.unwrap().allowed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_goes_when_it_is_full_and_a_strange_one_is_not_believed() {
    let redis = RedisServer::start();
    let limiter = limiter(&redis.url()).await;
    limiter.take("a", TEN).await.unwrap();
    assert_eq!(redis.command(&["KEYS", "*"]), "rag:{limit}:a");
    let left: u64 = redis.command(&["PTTL", "rag:{limit}:a"]).parse().unwrap();
    assert!(left <= 360_000, "{left} ms of 6 min");
    // The clock of a replica that took over may have been behind: nobody waits for years.
    redis.command(&["SET", "rag:{limit}:b", "99999999999999999"]);
    let refused = limiter.take("b", TEN).await.unwrap();
    assert_eq!((refused.allowed, refused.reset, refused.retry_after), (false, HOUR, HOUR / 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_replica_has_its_share_and_with_it_all_have_the_whole_again() {
    let mut redis = RedisServer::start();
    let (one, two) = (replica(&redis.url()).await, replica(&redis.url()).await);
    assert_eq!(allowed(&*one, "before").await, 10);
    assert_eq!(allowed(&*two, "before").await, 0);

    redis.kill();
    for limiter in [&one, &two] {
        assert_eq!(allowed(&**limiter, "during").await, 5, "half of ten");
        let decision = limiter.take("during", TEN).await.unwrap();
        assert_eq!((decision.allowed, decision.limit), (false, 5));
        assert!(decision.retry_after <= HOUR / 5);
    }

    redis.restart();
    let began = std::time::Instant::now();
    for limiter in [&one, &two] {
        eventually("limits are shared", async || limiter.take("probe", TEN).await.unwrap().limit == 10).await;
    }
    println!("shared again {:?} after the restart", began.elapsed());
    assert_eq!(allowed(&*one, "after").await + allowed(&*two, "after").await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_one_is_a_share_of_one() {
    let mut redis = RedisServer::start();
    let replica = replica(&redis.url()).await;
    redis.kill();
    let one = Quota { requests: 1, window: HOUR };
    assert!(replica.take("a", one).await.unwrap().allowed, "never all refused");
    assert!(!replica.take("a", one).await.unwrap().allowed, "never unlimited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_is_left_alone() {
    let redis = RedisServer::start();
    let policy = Policy { failures: 3, open_for: Duration::from_secs(1), ..Policy::default() };
    let breaker = Breaker::new("limit test", policy);
    let limiter = BreakerLimiter::new(limiter(&redis.url()).await, breaker.clone());
    assert!(limiter.take("a", TEN).await.unwrap().allowed);
    redis.pause();
    for _ in 0..3 {
        assert_eq!(limiter.take("a", TEN).await.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(limiter.take("a", TEN).await.unwrap_err().message(), "limit test is not available just now");
    let share = build_share(&config(&redis.url())).expect("a share");
    let replica = falling_back_limiter(Arc::new(limiter), share);
    assert_eq!(allowed(&*replica, "a").await, 5);
    redis.resume();
    eventually("limits are shared", async || replica.take("a", TEN).await.unwrap().limit == 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_need_redis() {
    let mut redis = RedisServer::start();
    redis.kill();
    let replica = replica(&redis.url()).await;
    assert_eq!(replica.take("a", TEN).await.unwrap().limit, 5);
    redis.restart();
    eventually("limits are shared", async || replica.take("a", TEN).await.unwrap().limit == 10).await;
}
