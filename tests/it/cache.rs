//! The cache: bytes for a while.

mod conformance;
mod questions;
mod redis;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rag_api::cache::{Backend, Cache, Config};

const MINUTE: Duration = Duration::from_secs(60);

async fn build(ttl: Duration, max_bytes: u64) -> Option<Arc<dyn Cache>> {
    rag_api::cache::build(&Config { ttl, backend: Backend::Memory { max_bytes } }).await.unwrap()
}

#[tokio::test]
async fn memory_is_a_cache() {
    conformance::check(build(MINUTE, 64 << 20).await.expect("switched on")).await;
}

#[tokio::test]
async fn more_than_it_can_hold_is_not_kept() {
    let cache = build(MINUTE, 10_000).await.expect("switched on");
    cache.put("big", Bytes::from(vec![0; 20_000]), MINUTE).await.unwrap();
    cache.put("small", Bytes::from(vec![0; 100]), MINUTE).await.unwrap();
    let gone = async {
        while cache.get("big").await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(MINUTE, gone).await.expect("it is over the bound");
}

#[tokio::test]
async fn no_time_to_live_is_no_cache() {
    assert!(build(Duration::ZERO, 10_000).await.is_none());
}
