//! What every cache does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rag_api::cache::Cache;
use rag_api::document::TenantId;
use uuid::Uuid;

const MINUTE: Duration = Duration::from_secs(60);

/// Runs all of it on a cache that holds 8 MiB or more.
pub(super) async fn check(cache: Arc<dyn Cache>) {
    what_was_put_is_there_until_its_time_is_over(&*cache).await;
    values_and_keys_are_any(&*cache).await;
    a_tenant_is_forgotten_and_no_other(&*cache).await;
    many_entries_are_forgotten_at_once(&*cache).await;
    those_who_come_at_once_do_not_meet(cache).await;
}

/// A tenant that no other test has.
fn tenant() -> String {
    format!("tenant-{}", Uuid::new_v4())
}

fn id(tenant: &str) -> TenantId {
    tenant.parse().unwrap()
}

async fn what_was_put_is_there_until_its_time_is_over(cache: &dyn Cache) {
    let (a, b) = (format!("{}/a", tenant()), format!("{}/b", tenant()));
    assert_eq!(cache.get(&a).await.unwrap(), None);
    cache.put(&a, Bytes::from_static(b"one"), MINUTE).await.unwrap();
    assert_eq!(cache.get(&a).await.unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(cache.get(&b).await.unwrap(), None);
    cache.put(&a, Bytes::from_static(b"two"), MINUTE).await.unwrap();
    assert_eq!(cache.get(&a).await.unwrap().as_deref(), Some(&b"two"[..]));

    // Every entry has its own time; writing it again begins a new one.
    cache.put(&b, Bytes::from_static(b"stays"), MINUTE).await.unwrap();
    cache.put(&a, Bytes::from_static(b"three"), Duration::from_millis(1)).await.unwrap();
    let gone = async {
        while cache.get(&a).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(MINUTE / 2, gone).await.expect("it goes after its millisecond");
    assert_eq!(cache.get(&b).await.unwrap().as_deref(), Some(&b"stays"[..]));
    cache.put(&b, Bytes::from_static(b"never"), Duration::ZERO).await.unwrap();
    assert_eq!(cache.get(&b).await.unwrap(), None, "no time at all");
}

async fn values_and_keys_are_any(cache: &dyn Cache) {
    let mebibyte: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let values = [Bytes::new(), Bytes::from_static(b"\0\r\n\xff"), mebibyte.into()];
    let tenant = tenant();
    let rests = ["Größe/質問/🦀", "a b\r\nSET x y", "{other}", "}{", "", "*?[a]", "//"];
    for rest in rests {
        let key = format!("{tenant}/{rest}");
        for value in &values {
            cache.put(&key, value.clone(), MINUTE).await.unwrap();
            assert!(cache.get(&key).await.unwrap().as_ref() == Some(value), "{key:?}, {} bytes", value.len());
        }
    }
    let without_tenant = Uuid::new_v4().to_string();
    cache.put(&without_tenant, Bytes::from_static(b"x"), MINUTE).await.unwrap();
    assert!(cache.get(&without_tenant).await.unwrap().is_some());
    cache.forget(&id(&tenant)).await.unwrap();
    for rest in rests {
        assert_eq!(cache.get(&format!("{tenant}/{rest}")).await.unwrap(), None, "{rest:?}");
    }
    assert!(cache.get(&without_tenant).await.unwrap().is_some());
}

async fn a_tenant_is_forgotten_and_no_other(cache: &dyn Cache) {
    let short = tenant();
    let (long, before) = (format!("{short}x"), format!("x{short}"));
    let keys: Vec<String> = [&short, &long, &before].map(|tenant| format!("{tenant}/answer/1")).into();
    let keep = async || {
        for key in &keys {
            cache.put(key, Bytes::from_static(b"kept"), MINUTE).await.unwrap();
        }
    };
    let there = async || {
        let mut there = Vec::new();
        for key in &keys {
            there.push(cache.get(key).await.unwrap().is_some());
        }
        there
    };
    keep().await;
    cache.forget(&id(&short)).await.unwrap();
    assert_eq!(there().await, [false, true, true]);
    // Twice, and again after more has come.
    cache.forget(&id(&short)).await.unwrap();
    keep().await;
    assert_eq!(there().await, [true; 3]);
    cache.forget(&id(&long)).await.unwrap();
    assert_eq!(there().await, [true, false, true]);
}

async fn many_entries_are_forgotten_at_once(cache: &dyn Cache) {
    let tenant = tenant();
    let key = |n: usize| format!("{tenant}/answer/{n}");
    let puts = (0..1_250).map(|n| {
        let key = key(n);
        async move { cache.put(&key, Bytes::from_static(b"x"), MINUTE).await.unwrap() }
    });
    futures::StreamExt::for_each_concurrent(futures::stream::iter(puts), 50, |put| put).await;
    assert!(cache.get(&key(1_249)).await.unwrap().is_some());
    cache.forget(&id(&tenant)).await.unwrap();
    for n in 0..1_250 {
        assert_eq!(cache.get(&key(n)).await.unwrap(), None, "{n}");
    }
}

async fn those_who_come_at_once_do_not_meet(cache: Arc<dyn Cache>) {
    let tenant = tenant();
    let visits = (0..64).map(|n| {
        let (cache, key) = (cache.clone(), format!("{tenant}/{n}"));
        tokio::spawn(async move {
            let value = Bytes::from(vec![n; 1_000]);
            cache.put(&key, value.clone(), MINUTE).await.unwrap();
            assert!(cache.get(&key).await.unwrap() == Some(value));
        })
    });
    for visit in visits.collect::<Vec<_>>() {
        visit.await.unwrap();
    }
}
