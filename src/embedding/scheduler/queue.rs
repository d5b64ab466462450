//! The two classes of waiting jobs. No locks and no threads here.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Session;
use crate::embedding::Priority;
use crate::error::Result;
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

/// A job that a session has taken, and where its output goes.
pub(super) type Taken<S> = (<S as Session>::Job, oneshot::Sender<Result<<S as Session>::Output>>);

/// What waits for a session.
pub(super) struct Queue<S: Session> {
    pool: &'static str,
    classes: [VecDeque<Waiting<S>>; 2],
    has_ended: bool,
}

impl<S: Session> Queue<S> {
    pub(super) fn new(pool: &'static str) -> Self {
        Self { pool, classes: [VecDeque::new(), VecDeque::new()], has_ended: false }
    }

    pub(super) fn push(&mut self, priority: Priority, waiting: Waiting<S>) {
        self.classes[index(priority)].push_back(waiting);
        self.report(priority);
    }

    /// The oldest job of the first class that has any.
    pub(super) fn take(&mut self, bulk_too: bool) -> Option<Taken<S>> {
        let classes = if bulk_too { &CLASSES[..] } else { &CLASSES[..1] };
        let priority = classes.iter().copied().find(|&class| !self.classes[index(class)].is_empty())?;
        let waiting = self.classes[index(priority)].pop_front()?;
        self.report(priority);
        let labels = self.labels(priority);
        metrics::SCHEDULER_TEXTS.add(1, &labels);
        metrics::SCHEDULER_WAIT.record(waiting.since.elapsed().as_secs_f64(), &labels);
        Some((waiting.job, waiting.answer))
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

    /// Fails what waits, and ends every session once its job is done.
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

    fn labels(&self, priority: Priority) -> [(&'static str, &'static str); 2] {
        [("pool", self.pool), ("class", class_name(priority))]
    }
}
