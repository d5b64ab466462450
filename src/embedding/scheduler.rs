//! Shares a few single-thread model sessions among everybody who waits for one.
//!
//! A [`SessionPool`] runs each [`Session`] on an OS thread of its own. Work arrives as single jobs in two classes, and a
//! session that becomes free takes, of the first class that has any, a micro-batch of jobs of like length. A forward
//! pass cannot be interrupted, so that short batches are what keeps questions fast while documents load. Questions go
//! first without exception: under a steady overload of questions bulk work stands still, which is what is wanted.
//!
//! Nobody's work is done in vain: dropping the future of [`SessionPool::run`] takes its jobs out of the queue.

mod queue;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Priority;
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::metrics;
use queue::{Queue, Waiting};

/// Most jobs that wait in each class; the next one's caller waits for room, outside the queue. Far more than sessions
/// can begin within a request's deadline, and little memory.
const QUEUE_LIMIT: usize = 256;

/// Most bytes of text in one micro-batch, each counted as long as the longest of its kind (about 4 bytes are a token).
///
/// Measured on 2 cores, all-MiniLM-L6-v2: for chunks of ~180 tokens two sessions did 60 a second one by one, 49 in
/// batches of 8, because the batch leaves the cache and padding is computed too. Texts much shorter than that share the
/// fixed cost of a pass, so they may share a batch until they are as long as one such chunk.
const BATCH_BYTES: usize = 512;

/// One model session: it lives on one thread and does one batch at a time.
pub(crate) trait Session: Send + 'static {
    /// What it is asked.
    type Job: Send + 'static;
    /// What it answers.
    type Output: Send + 'static;

    /// Jobs of equal kinds may share a batch, at most so many; `None`: this job runs alone.
    fn batch_kind(&self, job: &Self::Job) -> Option<BatchKind>;

    /// One output per job, in order.
    fn run(&mut self, jobs: &[Self::Job]) -> Result<Vec<Self::Output>>;
}

/// A length class: texts of up to so many bytes (a power of two).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchKind {
    longest_bytes: usize,
}

impl BatchKind {
    /// The class of `text`; `None` if it is so long that it runs alone.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let longest_bytes = text.len().next_power_of_two().max(64);
        (longest_bytes * 2 <= BATCH_BYTES).then_some(Self { longest_bytes })
    }

    fn max_jobs(self) -> usize {
        BATCH_BYTES / self.longest_bytes
    }
}

/// Runs jobs on sessions. Dropping it fails what waits, and waits itself for the passes that run (tens of milliseconds).
pub(crate) struct SessionPool<S: Session> {
    shared: Arc<Shared<S>>,
    room: [Arc<Semaphore>; 2],
    threads: Vec<JoinHandle<()>>,
}

struct Shared<S: Session> {
    queue: Mutex<Queue<S>>,
    /// Told of new jobs and of the end.
    changed: Condvar,
}

impl<S: Session> Shared<S> {
    fn queue(&self) -> MutexGuard<'_, Queue<S>> {
        // Nothing panics while the lock is held, and the queue is consistent between any two of its calls.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Session> SessionPool<S> {
    fn start(name: &'static str, sessions: Vec<S>) -> Result<Self> {
        let queue = Mutex::new(Queue::new(name, sessions.len()));
        let shared = Arc::new(Shared { queue, changed: Condvar::new() });
        let room = [QUEUE_LIMIT; 2].map(|limit| Arc::new(Semaphore::new(limit)));
        // Made before the threads, so that those that were started end if a later one does not start.
        let mut pool = Self { shared, room, threads: Vec::with_capacity(sessions.len()) };
        for (index, session) in sessions.into_iter().enumerate() {
            let shared = pool.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{index}"))
                .spawn(move || work(&shared, session))
                .map_err(|error| Error::internal("cannot start a session thread", error))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Opens `count` sessions at once and starts a thread for each. `name` labels threads and metrics.
    pub(crate) fn open(name: &'static str, count: usize, open: impl Fn() -> Result<S> + Sync) -> Result<Self> {
        let sessions: Result<Vec<S>> = std::thread::scope(|scope| {
            let opening: Vec<_> = (0..count).map(|_| scope.spawn(&open)).collect();
            let panicked = |_| Err(Error::new(ErrorKind::Internal, "opening a model panicked"));
            opening.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
        });
        Self::start(name, sessions?)
    }

    /// Runs every job, spread over the sessions; outputs in the order of the jobs, or the first error. Dropping the
    /// future drops the jobs that no session has taken.
    pub(crate) async fn run(&self, jobs: Vec<S::Job>, priority: Priority) -> Result<Vec<S::Output>> {
        // Dropped last, that is after the receivers, which is how it knows which jobs nobody waits for.
        let sweep = SweepOnDrop(&self.shared);
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            let permit = self.room[queue::index(priority)].clone().acquire_owned().await;
            answers.push(self.push(job, priority, permit.map_err(|_| ended())?));
        }
        let mut outputs = Vec::with_capacity(answers.len());
        for answer in answers {
            outputs.push(answer.await.map_err(|_| ended())??);
        }
        // Everything is answered, so nothing of ours is in the queue.
        std::mem::forget(sweep);
        Ok(outputs)
    }

    fn push(
        &self,
        job: S::Job,
        priority: Priority,
        permit: OwnedSemaphorePermit,
    ) -> oneshot::Receiver<Result<S::Output>> {
        let (answer, receiver) = oneshot::channel();
        self.shared.queue().push(priority, Waiting::new(job, answer, permit));
        self.shared.changed.notify_one();
        receiver
    }
}

/// Takes jobs that nobody waits for out of the queue.
struct SweepOnDrop<'a, S: Session>(&'a Shared<S>);

impl<S: Session> Drop for SweepOnDrop<'_, S> {
    fn drop(&mut self) {
        self.0.queue().sweep();
    }
}

impl<S: Session> Drop for SessionPool<S> {
    fn drop(&mut self) {
        self.shared.queue().end();
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A session thread catches its panics, and there is nothing to do about one here.
            let _ = thread.join();
        }
    }
}

impl<S: Session> fmt::Debug for SessionPool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPool").field("sessions", &self.threads.len()).finish_non_exhaustive()
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Unavailable, "the models are shutting down")
}

/// A session's thread: takes batches until the pool ends.
fn work<S: Session>(shared: &Shared<S>, mut session: S) {
    loop {
        let mut queue = shared.queue();
        let batch = loop {
            if queue.has_ended() {
                return;
            }
            match queue.take(&session) {
                Some(batch) => break batch,
                None => queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(queue);
        metrics::SCHEDULER_BATCH.record(batch.jobs.len() as f64, metrics::NONE);
        let outputs = run_caught(&mut session, &batch.jobs);
        batch.answer(outputs);
    }
}

/// Runs a batch; a panic in it is an error of that batch, and the session goes on.
fn run_caught<S: Session>(session: &mut S, jobs: &[S::Job]) -> Result<Vec<S::Output>> {
    // Sessions keep no state from batch to batch that a panic could leave half-changed.
    let outputs = catch_unwind(AssertUnwindSafe(|| session.run(jobs)))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the model panicked")))?;
    if outputs.len() == jobs.len() {
        Ok(outputs)
    } else {
        Err(Error::new(ErrorKind::Internal, "the model gave another number of outputs than it has inputs"))
    }
}

#[cfg(test)]
mod tests;
