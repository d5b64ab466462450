//! The two classes of waiting jobs. No locks and no threads here.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Session;
use crate::embedding::Priority;
use crate::error::{Error, Result};
use crate::telemetry::metrics;

/// Both classes, the one that is served first in front.
const CLASSES: [Priority; 2] = [Priority::Interactive, Priority::Bulk];

/// Where a class is in [`CLASSES`].
pub(super) fn index(priority: Priority) -> usize {
    match priority {
        Priority::Interactive => 0,
        Priority::Bulk => 1,
    }
}

fn class_name(priority: Priority) -> &'static str {
    match priority {
        Priority::Interactive => "interactive",
        Priority::Bulk => "bulk",
    }
}

/// A job, and who waits for it.
pub(super) struct Waiting<S: Session> {
    job: S::Job,
    answer: oneshot::Sender<Result<S::Output>>,
    since: Instant,
    /// Its place in the queue, given back when a session takes it.
    _permit: OwnedSemaphorePermit,
}

impl<S: Session> Waiting<S> {
    pub(super) fn new(job: S::Job, answer: oneshot::Sender<Result<S::Output>>, permit: OwnedSemaphorePermit) -> Self {
        Self { job, answer, since: Instant::now(), _permit: permit }
    }
}

/// Jobs that run together, and who waits for each.
pub(super) struct Batch<S: Session> {
    pub(super) jobs: Vec<S::Job>,
    answers: Vec<oneshot::Sender<Result<S::Output>>>,
}

impl<S: Session> Batch<S> {
    /// Sends every waiter its output, or all of them the error.
    pub(super) fn answer(self, outputs: Result<Vec<S::Output>>) {
        match outputs {
            Ok(outputs) => {
                for (answer, output) in self.answers.into_iter().zip(outputs) {
                    // A waiter may have gone while its batch ran.
                    let _ = answer.send(Ok(output));
                }
            }
            Err(error) => {
                let (kind, chain) = (error.kind(), error.chain());
                for answer in self.answers {
                    let message = error.message().to_owned();
                    let _ = answer.send(Err(Error::new(kind, message).with_source(chain.clone())));
                }
            }
        }
    }
}

/// What waits for a session.
pub(super) struct Queue<S: Session> {
    pool: &'static str,
    sessions: usize,
    classes: [VecDeque<Waiting<S>>; 2],
    has_ended: bool,
}

impl<S: Session> Queue<S> {
    pub(super) fn new(pool: &'static str, sessions: usize) -> Self {
        Self { pool, sessions, classes: [VecDeque::new(), VecDeque::new()], has_ended: false }
    }

    pub(super) fn push(&mut self, priority: Priority, waiting: Waiting<S>) {
        self.classes[index(priority)].push_back(waiting);
        self.report(priority);
    }

    /// The next batch for `session`: the oldest job of the first class that has any, and others of its kind.
    pub(super) fn take(&mut self, session: &S) -> Option<Batch<S>> {
        let priority = CLASSES.into_iter().find(|&class| !self.classes[index(class)].is_empty())?;
        let jobs = &mut self.classes[index(priority)];
        // Sessions that are free meanwhile get their share: two jobs on two sessions beat two in one batch.
        let share = jobs.len().div_ceil(self.sessions);
        let first = jobs.pop_front()?;
        let kind = session.batch_kind(&first.job);
        let limit = kind.map_or(1, |kind| kind.max_jobs()).min(share);
        let mut taken = vec![first];
        let mut next = 0;
        while taken.len() < limit && next < jobs.len() {
            if session.batch_kind(&jobs[next].job) == kind {
                taken.extend(jobs.remove(next));
            } else {
                next += 1;
            }
        }
        self.report(priority);
        Some(self.start(priority, taken))
    }

    fn start(&self, priority: Priority, taken: Vec<Waiting<S>>) -> Batch<S> {
        let labels = self.labels(priority);
        metrics::SCHEDULER_TEXTS.add(taken.len() as u64, &labels);
        let mut batch = Batch { jobs: Vec::with_capacity(taken.len()), answers: Vec::with_capacity(taken.len()) };
        for waiting in taken {
            metrics::SCHEDULER_WAIT.record(waiting.since.elapsed().as_secs_f64(), &labels);
            batch.jobs.push(waiting.job);
            batch.answers.push(waiting.answer);
        }
        batch
    }

    /// Removes the jobs that nobody waits for.
    pub(super) fn sweep(&mut self) {
        for priority in CLASSES {
            let jobs = &mut self.classes[index(priority)];
            let before = jobs.len();
            jobs.retain(|waiting| !waiting.answer.is_closed());
            let dropped = before - jobs.len();
            if dropped > 0 {
                metrics::SCHEDULER_DROPPED.add(dropped as u64, &self.labels(priority));
                self.report(priority);
            }
        }
    }

    /// Fails what waits, and ends every session once its batch is done.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
        for priority in CLASSES {
            self.classes[index(priority)].clear();
            self.report(priority);
        }
    }

    /// Jobs of both classes.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn report(&self, priority: Priority) {
        metrics::SCHEDULER_WAITING.set(self.classes[index(priority)].len() as f64, &self.labels(priority));
    }

    fn labels(&self, priority: Priority) -> [(&'static str, String); 2] {
        [("pool", self.pool.to_owned()), ("class", class_name(priority).to_owned())]
    }
}
