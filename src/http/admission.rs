//! Shedding: a bound on the work of each class that runs at once; what is over it waits shortly or is refused.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::Config;
use crate::http::routes::LimitClass;

/// Longest wait for a place. Longer than a burst takes to pass, far shorter than a client waits.
const MAX_WAIT: Duration = Duration::from_millis(250);

/// Requests that may wait, for each that may run: more could not be served within [`MAX_WAIT`] anyhow.
const WAITING_PER_PLACE: usize = 4;

/// Changes of keys that run at once: each is one short statement.
const ADMIN_PLACES: usize = 16;

/// A place among the requests that run; dropping the last clone frees it.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// The places of every class.
#[derive(Debug)]
pub(super) struct Gates {
    query: Gate,
    ingest: Gate,
    admin: Gate,
}

impl Gates {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            query: Gate::new(config.max_concurrent_queries),
            ingest: Gate::new(config.max_concurrent_ingests),
            admin: Gate::new(ADMIN_PLACES),
        }
    }

    /// A place among the class's requests, or `None` if there is none within [`MAX_WAIT`].
    pub(super) async fn admit(&self, class: LimitClass) -> Option<Admission> {
        match class {
            LimitClass::Query => self.query.admit().await,
            LimitClass::Ingest => self.ingest.admit().await,
            LimitClass::Admin => self.admin.admit().await,
            LimitClass::None => None,
        }
    }
}

#[derive(Debug)]
struct Gate {
    places: Arc<Semaphore>,
    queue: Semaphore,
}

impl Gate {
    fn new(places: usize) -> Self {
        let places = places.clamp(1, Semaphore::MAX_PERMITS / WAITING_PER_PLACE);
        Self { places: Arc::new(Semaphore::new(places)), queue: Semaphore::new(places * WAITING_PER_PLACE) }
    }

    async fn admit(&self) -> Option<Admission> {
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = self.queue.try_acquire().ok()?;
                let place = Arc::clone(&self.places).acquire_owned();
                tokio::time::timeout(MAX_WAIT, place).await.ok()?.ok()?
            }
        };
        Some(Admission { _permit: Arc::new(permit) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_gate_sheds_and_a_freed_place_is_taken() {
        let gate = Gate::new(1);
        let first = gate.admit().await.expect("the place is free");
        assert!(gate.admit().await.is_none(), "no place comes free");
        let stream = first.clone();
        drop(first);
        assert!(gate.places.try_acquire().is_err(), "the stream still holds the place");
        let (admitted, ()) = tokio::join!(gate.admit(), async { drop(stream) });
        assert!(admitted.is_some(), "a waiter gets the freed place");
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let gate = Gate::new(1);
        let _running = gate.admit().await.expect("the place is free");
        let _waiting = gate.queue.try_acquire_many(WAITING_PER_PLACE as u32).expect("the queue is free");
        assert!(gate.admit().await.is_none(), "a full queue sheds at once");
    }
}
