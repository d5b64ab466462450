//! Shares a few single-thread model sessions among everybody who waits for one.
//!
//! A [`SessionPool`] runs each [`Session`] on an OS thread of its own. Work arrives as single jobs in two classes, and a
//! session that becomes free takes the oldest job of the first class that has any. A forward pass cannot be interrupted,
//! so each is of one text, which on CPUs is also the fastest (measured on 2 cores, for chunks of ~180 tokens: 60 a second
//! one by one on two sessions, 49 in batches of 8, because a batch leaves the cache and its padding is computed too).
//!
//! Questions go first without exception: under a steady overload of questions bulk work stands still, which is what is
//! wanted. So that a question need not even wait for the pass that runs, a pool may have a session that takes no bulk
//! work; the threads of the others then have a lower priority with the operating system, and lend it their core.
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
use crate::process::{BULK_NICENESS, lower_priority};
use queue::{Queue, Waiting};

/// Most jobs that wait in each class; the next one's caller waits for room, outside the queue. Far more than sessions
/// can begin within a request's deadline, and little memory.
const QUEUE_LIMIT: usize = 256;

/// One model session: it lives on one thread and does one job at a time.
pub(crate) trait Session: Send + 'static {
    /// What it is asked.
    type Job: Send + 'static;
    /// What it answers.
    type Output: Send + 'static;

    /// Does a job.
    fn run(&mut self, job: &Self::Job) -> Result<Self::Output>;
}

/// How many sessions a pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Staff {
    /// Sessions that take every job.
    pub(crate) shared: usize,
    /// Sessions that take [`Priority::Interactive`] jobs alone.
    pub(crate) for_questions: usize,
}

/// Runs jobs on sessions. Dropping it fails what waits, and waits itself for the passes that run (tens of milliseconds).
pub(crate) struct SessionPool<S: Session> {
    shared: Arc<Shared<S>>,
    room: [Arc<Semaphore>; 2],
    threads: Vec<JoinHandle<()>>,
}

struct Shared<S: Session> {
    queue: Mutex<Queue<S>>,
    /// Wakes the sessions that take every job.
    changed: Condvar,
    /// Wakes those that are for questions alone.
    asked: Condvar,
}

impl<S: Session> Shared<S> {
    fn queue(&self) -> MutexGuard<'_, Queue<S>> {
        // Nothing panics while the lock is held, and the queue is consistent between any two of its calls.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Session> SessionPool<S> {
    /// Starts a thread for each session; the last `for_questions` of them take no bulk work.
    fn start(name: &'static str, sessions: Vec<S>, for_questions: usize) -> Result<Self> {
        let shared = Shared { queue: Mutex::new(Queue::new(name)), changed: Condvar::new(), asked: Condvar::new() };
        let shared = Arc::new(shared);
        let room = [QUEUE_LIMIT; 2].map(|limit| Arc::new(Semaphore::new(limit)));
        let first_for_questions = sessions.len().saturating_sub(for_questions);
        // Made before the threads, so that those that were started end if a later one does not start.
        let mut pool = Self { shared, room, threads: Vec::with_capacity(sessions.len()) };
        for (index, session) in sessions.into_iter().enumerate() {
            let shared = pool.shared.clone();
            let takes_bulk = index < first_for_questions;
            let yields = takes_bulk && for_questions > 0;
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{index}"))
                .spawn(move || {
                    if yields {
                        lower_priority(BULK_NICENESS);
                    }
                    work(&shared, session, takes_bulk);
                })
                .map_err(|error| Error::internal("cannot start a session thread", error))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Opens all sessions, one after the other (each reuses what loading the one before it left free: at once, they would
    /// leave 60 MB that nobody uses), and starts a thread for each. `name` labels threads and metrics.
    pub(crate) fn open(name: &'static str, staff: Staff, open: impl FnMut() -> Result<S>) -> Result<Self> {
        let sessions: Result<Vec<S>> = std::iter::repeat_with(open).take(staff.shared + staff.for_questions).collect();
        Self::start(name, sessions?, staff.for_questions)
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
        // One of each kind: whoever is awake first takes it.
        self.shared.changed.notify_one();
        if priority == Priority::Interactive {
            self.shared.asked.notify_one();
        }
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
        self.shared.asked.notify_all();
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

/// A session's thread: takes jobs until the pool ends.
fn work<S: Session>(shared: &Shared<S>, mut session: S, takes_bulk: bool) {
    let changed = if takes_bulk { &shared.changed } else { &shared.asked };
    loop {
        let mut queue = shared.queue();
        let (job, answer) = loop {
            if queue.has_ended() {
                return;
            }
            match queue.take(takes_bulk) {
                Some(taken) => break taken,
                None => queue = changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(queue);
        // A waiter may have gone while its job ran.
        let _ = answer.send(run_caught(&mut session, &job));
    }
}

/// Runs a job; a panic in it is an error of that job, and the session goes on.
fn run_caught<S: Session>(session: &mut S, job: &S::Job) -> Result<S::Output> {
    // Sessions keep no state from job to job that a panic could leave half-changed.
    catch_unwind(AssertUnwindSafe(|| session.run(job)))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the model panicked")))
}

#[cfg(test)]
mod tests;
