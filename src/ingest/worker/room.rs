//! How much of the documents in work may be in memory at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Text of all documents in work, in MiB. A text that is larger is worked on alone.
const TEXT_MIB: u32 = 64;

/// Places for files that are read, and room for their texts.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    reading: Arc<Semaphore>,
    texts: Arc<Semaphore>,
}

impl Room {
    /// Room for so many files that are read at once.
    pub(crate) fn new(reading: usize) -> Self {
        Self { reading: Arc::new(Semaphore::new(reading)), texts: Arc::new(Semaphore::new(TEXT_MIB as usize)) }
    }

    /// Waits for a place to read a file; dropping the permit frees it.
    pub(super) async fn to_read(&self) -> Result<OwnedSemaphorePermit> {
        self.reading.clone().acquire_owned().await.map_err(closed)
    }

    /// Waits for room for a text of so many bytes; dropping the permit frees it.
    pub(super) async fn for_text(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let mib = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX).clamp(1, TEXT_MIB);
        self.texts.clone().acquire_many_owned(mib).await.map_err(closed)
    }
}

fn closed(error: tokio::sync::AcquireError) -> Error {
    Error::internal("no document is worked on any more", error)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_text_waits_until_there_is_room() {
        let room = Room::new(1);
        let large = room.for_text(60 << 20).await.unwrap();
        let small = room.for_text(0).await.unwrap();
        assert!(room.for_text(4 << 20).now_or_never().is_none(), "60 + 1 + 4 MiB are more than there is");
        drop(small);
        assert!(room.for_text(4 << 20).now_or_never().is_some());
        drop(large);
        assert!(room.for_text(usize::MAX).now_or_never().is_some(), "what is larger than all room gets all of it");
    }

    #[tokio::test]
    async fn files_are_read_by_turns() {
        let room = Room::new(1);
        let place = room.to_read().await.unwrap();
        assert!(room.to_read().now_or_never().is_none());
        drop(place);
        assert!(room.to_read().now_or_never().is_some());
    }
}
