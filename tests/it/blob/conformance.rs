//! What every store of originals does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use rag_api::blob::Blobs;
use rag_api::error::{Error, ErrorKind, Result};

use super::{key, read};

const MIB: usize = 1 << 20;

/// Runs all of it on an empty store, with document ids of so many bytes.
pub(super) async fn check(blobs: &Blobs, longest: usize) {
    blobs.check().await.unwrap();
    an_original_is_what_was_stored_until_it_is_deleted(blobs, longest).await;
    a_key_is_nothing_but_a_key(blobs).await;
    what_comes_in_pieces_is_one(blobs).await;
    of_a_large_one_there_is_little_in_memory(blobs).await;
    what_breaks_off_leaves_nothing(blobs).await;
    those_of_an_age_are_listed(blobs).await;
}

async fn an_original_is_what_was_stored_until_it_is_deleted(blobs: &Blobs, longest: usize) {
    // Every character that an identifier may have.
    let document = format!("a:b@c+d_e-f..g{}", "x".repeat(longest - 14));
    let (tenant, document) = ("acme".parse().unwrap(), document.parse().unwrap());
    let fresh = || rag_api::blob::key(&tenant, &document);
    let (one, two) = (fresh(), fresh());
    let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    blobs.put(&one, large.clone().into()).await.unwrap();
    blobs.put(&two, Bytes::new()).await.unwrap();
    assert!(read(blobs, &one).await.unwrap() == large);
    assert!(read(blobs, &two).await.unwrap().is_empty());
    let file = blobs.local_file(&one).await.unwrap();
    assert!(std::fs::read(file.path()).unwrap() == large);
    assert!(std::fs::read(blobs.local_file(&two).await.unwrap().path()).unwrap().is_empty());

    blobs.delete(&one).await.unwrap();
    blobs.delete(&one).await.unwrap();
    assert_eq!(read(blobs, &one).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(blobs.local_file(&one).await.unwrap_err().kind(), ErrorKind::NotFound);
    blobs.delete(&two).await.unwrap();
}

async fn a_key_is_nothing_but_a_key(blobs: &Blobs) {
    for key in ["../outside", "a/../../outside", "/etc/passwd/..", "a//b"] {
        let error = blobs.put(key, Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{key}");
    }
}

async fn what_comes_in_pieces_is_one(blobs: &Blobs) {
    // Around the size of a part, in pieces that do not fit it.
    for size in [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 17 * MIB] {
        let content: Bytes = (0..size).map(|n| (n % 251) as u8).collect::<Vec<_>>().into();
        let pieces: Vec<Result<Bytes>> = content.chunks(700_001).map(|piece| Ok(content.slice_ref(piece))).collect();
        let key = key();
        assert_eq!(blobs.put_stream(&key, stream::iter(pieces).boxed()).await.unwrap(), size as u64);
        assert!(read(blobs, &key).await.unwrap() == content, "{size}");
        let whole = super::key();
        blobs.put(&whole, content.clone()).await.unwrap();
        assert!(read(blobs, &whole).await.unwrap() == content, "{size} at once");
        for key in [key, whole] {
            blobs.delete(&key).await.unwrap();
        }
    }
}

/// Bytes that are counted as long as anybody holds them.
struct Counted {
    bytes: Vec<u8>,
    held: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}

async fn of_a_large_one_there_is_little_in_memory(blobs: &Blobs) {
    let (held, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(0)));
    let (counter, highest) = (held.clone(), most.clone());
    let pieces = stream::iter(0..40_u8).map(move |n| {
        let now = counter.fetch_add(MIB, Ordering::SeqCst) + MIB;
        let mut highest = highest.lock().unwrap();
        *highest = now.max(*highest);
        Ok(Bytes::from_owner(Counted { bytes: vec![n; MIB], held: counter.clone() }))
    });
    let key = key();
    assert_eq!(blobs.put_stream(&key, pieces.boxed()).await.unwrap(), 40 * MIB as u64);
    assert_eq!(held.load(Ordering::SeqCst), 0);
    let most = *most.lock().unwrap();
    println!("most bytes of 40 MiB that an upload held: {:.1} MiB", most as f64 / MIB as f64);
    // Two parts on their way, one that is being filled, and what is between.
    assert!(most <= 28 * MIB, "{most}");

    let mut blob = blobs.get(&key).await.unwrap();
    let mut position = 0;
    while let Some(part) = blob.stream.try_next().await.unwrap() {
        assert!(part.len() <= MIB, "{} bytes at once", part.len());
        assert!(part.iter().enumerate().all(|(n, byte)| *byte as usize == (position + n) / MIB));
        position += part.len();
    }
    assert_eq!(position, 40 * MIB);
    blobs.delete(&key).await.unwrap();
}

async fn what_breaks_off_leaves_nothing(blobs: &Blobs) {
    for before in [1, 30] {
        let failure = || Error::new(ErrorKind::Invalid, "the client went away");
        let pieces = (0..before).map(|_| Ok(Bytes::from(vec![0; MIB]))).chain([Err(failure())]);
        let content: BoxStream<'_, Result<Bytes>> = stream::iter(pieces).boxed();
        let key = key();
        let error = blobs.put_stream(&key, content).await.unwrap_err();
        assert_eq!(error.message(), "the client went away");
        assert_eq!(read(blobs, &key).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

async fn those_of_an_age_are_listed(blobs: &Blobs) {
    let keys: Vec<String> = (0..3).map(|_| key()).collect();
    for key in &keys {
        blobs.put(key, Bytes::from_static(b"x")).await.unwrap();
    }
    let listed = async |age| blobs.older_than(age).try_collect::<Vec<_>>().await.unwrap();
    assert!(listed(Duration::from_secs(3600)).await.is_empty());
    // A store may tell time in whole seconds.
    crate::support::eventually("they are old", async || listed(Duration::ZERO).await.len() == 3).await;
    let mut found = listed(Duration::ZERO).await;
    found.sort();
    assert_eq!(found, keys);
    for key in &keys {
        blobs.delete(key).await.unwrap();
    }
    assert!(listed(Duration::ZERO).await.is_empty());
}
