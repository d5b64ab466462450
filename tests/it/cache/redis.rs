//! The cache in Redis: on a server, a cluster and behind a sentinel; what is left in it, and what if it is down.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rag_api::cache::{Backend, Cache, Config};
use rag_api::error::ErrorKind;
use rag_api::resilience::breaker::Policy;
use rag_api::resilience::{Breaker, BreakerCache, BreakerState};

use super::conformance;
use crate::support::eventually;
use crate::support::redis::{RedisServer, SHARED, server};

const MINUTE: Duration = Duration::from_secs(60);

async fn build(url: &str) -> Arc<dyn Cache> {
    let config = Config { ttl: MINUTE, backend: Backend::Redis(server(url)) };
    rag_api::cache::build(&config).await.unwrap().expect("switched on")
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_a_cache() {
    conformance::check(build(&SHARED.url()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_a_cache() {
    let cluster = RedisServer::start_cluster();
    conformance::check(build(&format!("redis-cluster://127.0.0.1:{}", cluster.port)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sentinel_watches_is_a_cache() {
    let primary = RedisServer::start();
    let sentinel = RedisServer::start_sentinel(&primary);
    conformance::check(build(&format!("redis-sentinel://127.0.0.1:{}?service=main", sentinel.port)).await).await;
    assert!(primary.command(&["INFO", "commandstats"]).contains("cmdstat_evalsha"), "it is the server that was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_but_what_will_go() {
    let redis = RedisServer::start();
    let cache = build(&redis.url()).await;
    for (key, ttl) in [("acme/1", MINUTE), ("acme/2", 2 * MINUTE), ("other/1", MINUTE), ("alone", MINUTE)] {
        cache.put(key, Bytes::from_static(b"x"), ttl).await.unwrap();
    }
    let mut keys: Vec<String> = redis.command(&["KEYS", "*"]).lines().map(str::to_owned).collect();
    keys.sort();
    let expected = [
        "rag:cache::alone",
        "rag:cache:{acme}",
        "rag:cache:{acme}/1",
        "rag:cache:{acme}/2",
        "rag:cache:{other}",
        "rag:cache:{other}/1",
    ];
    assert_eq!(keys, expected);
    for key in &keys {
        assert!(redis.command(&["PTTL", key]).parse::<i64>().unwrap() > 0, "{key} goes by itself");
    }
    // The list lives as long as its last entry, whichever came last.
    cache.put("acme/3", Bytes::from_static(b"x"), Duration::from_millis(1)).await.unwrap();
    assert!(redis.command(&["PTTL", "rag:cache:{acme}"]).parse::<i64>().unwrap() > 60_000);
    eventually("gone", async || redis.command(&["EXISTS", "rag:cache:{acme}/3"]) == "0").await;
    cache.put("acme/2", Bytes::from_static(b"y"), MINUTE).await.unwrap();
    assert_eq!(redis.command(&["ZCARD", "rag:cache:{acme}"]), "2", "what has ended is off the list");
    cache.forget(&"acme".parse().unwrap()).await.unwrap();
    assert_eq!(redis.command(&["EXISTS", "rag:cache:{acme}", "rag:cache:{acme}/1", "rag:cache:{acme}/2"]), "0");
    assert_eq!(redis.command(&["EXISTS", "rag:cache:{other}/1", "rag:cache::alone"]), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_too_large_is_not_kept() {
    let cache = build(&SHARED.url()).await;
    let key = format!("acme/{}", uuid::Uuid::new_v4());
    cache.put(&key, Bytes::from_static(b"old"), MINUTE).await.unwrap();
    cache.put(&key, Bytes::from(vec![0; (1 << 20) + 1]), MINUTE).await.unwrap();
    assert_eq!(cache.get(&key).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_were_flushed_are_sent_again() {
    let redis = RedisServer::start();
    let cache = build(&redis.url()).await;
    for n in ["1", "2"] {
        cache.put("acme/1", Bytes::from_static(n.as_bytes()), MINUTE).await.unwrap();
        assert_eq!(cache.get("acme/1").await.unwrap().as_deref(), Some(n.as_bytes()));
        assert_eq!(redis.command(&["SCRIPT", "FLUSH"]), "OK");
    }
}

/// What hangs costs a timeout a few times, then nothing; what is back is found again.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_is_left_alone() {
    let redis = RedisServer::start();
    let policy = Policy { failures: 3, open_for: Duration::from_secs(1), ..Policy::default() };
    let breaker = Breaker::new("cache test", policy);
    let cache = BreakerCache::new(build(&redis.url()).await, breaker.clone());
    cache.put("acme/1", Bytes::from_static(b"x"), MINUTE).await.unwrap();
    redis.pause();
    for _ in 0..3 {
        assert_eq!(cache.get("acme/1").await.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    let refused = cache.get("acme/1").await.unwrap_err();
    assert_eq!(refused.message(), "cache test is not available just now");
    redis.resume();
    eventually("the cache is back", async || cache.get("acme/1").await.is_ok_and(|found| found.is_some())).await;
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_need_redis() {
    let mut redis = RedisServer::start();
    redis.kill();
    let cache = build(&redis.url()).await;
    let error = cache.get("acme/1").await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "the cache: redis is not connected"));
    redis.restart();
    eventually("the cache is there", async || cache.put("acme/1", Bytes::new(), MINUTE).await.is_ok()).await;
    assert_eq!(cache.get("acme/1").await.unwrap(), Some(Bytes::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_used_and_a_wrong_one_stops_the_start() {
    let redis = RedisServer::start_with(&["--requirepass", "se:cr@et"]);
    let address = format!("127.0.0.1:{}", redis.port);
    let right = build(&format!("redis://:se%3Acr%40et@{address}/3")).await;
    right.put("acme/1", Bytes::new(), MINUTE).await.unwrap();
    for wrong in [format!("redis://:swordfish@{address}"), format!("redis://{address}")] {
        let config = Config { ttl: MINUTE, backend: Backend::Redis(server(&wrong)) };
        let error = rag_api::cache::build(&config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let line = error.message();
        assert!(line.starts_with("RAG_REDIS_URL: the server refuses the user or the password"), "{line}");
        assert!(!error.chain().contains("swordfish"), "{line}");
    }
}
