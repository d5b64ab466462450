//! The cache: bytes for a while.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rag_api::cache::{Backend, Cache, Config};

const MINUTE: Duration = Duration::from_secs(60);

async fn build(ttl: Duration) -> Option<Arc<dyn Cache>> {
    rag_api::cache::build(&Config { ttl, backend: Backend::Memory { max_bytes: 10_000 } }).await.unwrap()
}

#[tokio::test]
async fn what_was_put_is_there_until_its_time_is_over() {
    let cache = build(MINUTE).await.expect("switched on");
    assert_eq!(cache.get("a").await.unwrap(), None);
    cache.put("a", Bytes::from_static(b"one"), MINUTE).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(cache.get("b").await.unwrap(), None);
    cache.put("a", Bytes::from_static(b"two"), MINUTE).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap().as_deref(), Some(&b"two"[..]));

    // Every entry has its own time; writing it again begins a new one.
    cache.put("a", Bytes::from_static(b"three"), Duration::from_millis(1)).await.unwrap();
    let gone = async {
        while cache.get("a").await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(MINUTE / 2, gone).await.expect("it goes after its millisecond");
}

#[tokio::test]
async fn more_than_it_can_hold_is_not_kept() {
    let cache = build(MINUTE).await.expect("switched on");
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
    assert!(build(Duration::ZERO).await.is_none());
}
