//! Shedding: a bound on the work of each class that runs at once; what is over it waits shortly or is refused.
//!
//! Who could not be served in time is refused at once, so that overload costs a client no wait and the server next to
//! nothing: the wait is foretold from how long requests have lately held their places.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::Config;
use crate::http::routes::LimitClass;

/// Longest wait for a place. Longer than a burst takes to pass, far shorter than a client waits.
const MAX_WAIT: Duration = Duration::from_millis(250);

/// Longest wait that is begun: half, so that a forecast that is too good by as much still holds.
const MAX_EXPECTED: Duration = Duration::from_millis(125);

/// Requests that may wait, for each that may run, whatever is foretold.
const WAITING_PER_PLACE: usize = 4;

/// Changes of keys that run at once: each is one short statement.
const ADMIN_PLACES: usize = 16;

/// A place among the requests that run; dropping the last clone frees it.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    _place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    taken: Instant,
    held: Arc<Held>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.note(self.taken.elapsed());
    }
}

/// How long places are held, in microseconds: a moving average.
#[derive(Debug, Default)]
struct Held(AtomicU64);

impl Held {
    /// A new value counts for a sixteenth. Two that end at once may overwrite each other's, which does no harm.
    fn note(&self, held: Duration) {
        let held = u64::try_from(held.as_micros()).unwrap_or(u64::MAX);
        let average = self.0.load(Ordering::Relaxed);
        let average = if average == 0 { held } else { average - average / 16 + held / 16 };
        self.0.store(average, Ordering::Relaxed);
    }

    fn average(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
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
    /// How many places there are.
    size: usize,
    queue: Semaphore,
    held: Arc<Held>,
}

impl Gate {
    fn new(places: usize) -> Self {
        let size = places.clamp(1, Semaphore::MAX_PERMITS / WAITING_PER_PLACE);
        let queue = Semaphore::new(size * WAITING_PER_PLACE);
        Self { places: Arc::new(Semaphore::new(size)), size, queue, held: Arc::default() }
    }

    async fn admit(&self) -> Option<Admission> {
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = self.queue.try_acquire().ok()?;
                if self.expected_wait() > MAX_EXPECTED {
                    return None;
                }
                let place = Arc::clone(&self.places).acquire_owned();
                tokio::time::timeout(MAX_WAIT, place).await.ok()?.ok()?
            }
        };
        let place = Place { _permit: permit, taken: Instant::now(), held: Arc::clone(&self.held) };
        Some(Admission { _place: Arc::new(place) })
    }

    /// How long the last in the queue will wait: the places come free one after the other while each is held as long as
    /// lately.
    fn expected_wait(&self) -> Duration {
        let waiting = self.size * WAITING_PER_PLACE - self.queue.available_permits();
        self.held.average().mul_f64(waiting as f64 / self.size as f64)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

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

    #[tokio::test]
    async fn who_could_not_be_served_in_time_is_refused_at_once() {
        let gate = Gate::new(2);
        let _running = [gate.admit().await, gate.admit().await];
        gate.held.note(MAX_EXPECTED);
        let mut first = Box::pin(gate.admit());
        let mut second = Box::pin(gate.admit());
        assert!(first.as_mut().now_or_never().is_none(), "it waits half of what a place is held");
        assert!(second.as_mut().now_or_never().is_none(), "it waits as long as a place is held");
        let third = gate.admit().now_or_never().expect("no wait is begun");
        assert!(third.is_none());
    }

    #[test]
    fn the_average_follows_what_is_new() {
        let held = Held::default();
        held.note(Duration::from_millis(80));
        assert_eq!(held.average(), Duration::from_millis(80));
        for _ in 0..200 {
            held.note(Duration::from_millis(5));
        }
        assert!(held.average() < Duration::from_millis(6), "{:?}", held.average());
    }
}
