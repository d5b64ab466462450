//! The worker: claim → extract → chunk → embed → upsert → publish, and what is to be tidied up afterwards.
//!
//! Any number of workers may run; the catalog's lease says whose a document is. A worker that dies leaves a lease that
//! runs out, and points that are not served; the next one begins the document again.

mod housekeeping;
mod process;
mod room;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Config;
use super::attributes::AttributeWriter;
use super::extract::Extractor;
use super::purge::purge;
use crate::blob::Blobs;
use crate::catalog::{Catalog, Job, Work};
use crate::document::{Failure, FailureReason};
use crate::embedding::Embedder;
use crate::error::{Error, ErrorKind, Result};
use crate::vector_store::bm25::Bm25;
use crate::vector_store::{VectorStore, Versions};

pub(crate) use room::Room;

/// How often a document is begun before it fails: a file that takes the process down must not do so for ever.
const MAX_ATTEMPTS: u32 = 5;
/// How often it is given back for what may pass, about an hour in all, before it fails.
const MAX_SETBACKS: u32 = 60;
/// How long an idle worker waits for the bell before it asks the catalog (another replica may have queued something).
const POLL: Duration = Duration::from_secs(2);
/// First pause after a failure that may pass; doubled each time, at most [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after a failure that may pass.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What a worker works with.
#[derive(Debug, Clone)]
pub struct Worker {
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) store: Arc<dyn VectorStore>,
    pub(crate) embedder: Arc<dyn Embedder>,
    pub(crate) bm25: Arc<Bm25>,
    pub(crate) extractor: Arc<Extractor>,
    pub(crate) room: Room,
    pub(crate) attributes: Arc<AttributeWriter>,
    pub(crate) config: Config,
    pub(crate) work: Arc<Notify>,
}

impl Worker {
    /// Works until `stop`; then hands back what is not done and returns.
    pub async fn run(&self, stop: CancellationToken) -> Result<()> {
        self.catalog.recover().await?;
        let tasks = TaskTracker::new();
        for _ in 0..self.config.concurrency {
            let (worker, stop) = (self.clone(), stop.clone());
            tasks.spawn(async move { worker.work_until(&stop).await });
        }
        let (worker, until) = (self.clone(), stop.clone());
        tasks.spawn(async move { worker.keep_house(&until).await });
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    async fn work_until(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let bell = self.work.notified();
            let pause = match self.catalog.claim(self.config.lease).await {
                Ok(Some(job)) => {
                    self.finish(job, stop).await;
                    continue;
                }
                Ok(None) => POLL,
                Err(error) => {
                    tracing::warn!(error = %error.chain(), "no document could be claimed");
                    POLL
                }
            };
            tokio::select! {
                () = bell => {}
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Does a job under its lease, whatever comes: done, lost, failed or handed back.
    async fn finish(&self, job: Job, stop: &CancellationToken) {
        let outcome = tokio::select! {
            outcome = self.perform(&job) => outcome,
            lost = self.hold_lease(&job) => Err(lost),
            () = stop.cancelled() => {
                self.hand_back(&job, Duration::ZERO, true).await;
                return;
            }
        };
        let Err(error) = outcome else { return };
        let document = job.lease.document_id.as_str();
        if error.kind() == ErrorKind::Conflict {
            tracing::info!(document, work = ?job.work, "the document was changed or taken over; leaving it");
            return;
        }
        tracing::warn!(document, work = ?job.work, attempts = job.record.attempts, error = %error.chain(), "not done");
        let last = job.work == Work::Process && job.record.attempts >= MAX_ATTEMPTS;
        if last && !error.is_transient() {
            self.give_up(&job, "it could not be processed for a reason on our side; try again with retry").await;
        } else if job.work == Work::Process && job.setbacks >= MAX_SETBACKS {
            self.give_up(&job, "what it needs was not available for too long; try again with retry").await;
        } else {
            self.hand_back(&job, pause(job.setbacks), error.is_transient()).await;
        }
    }

    async fn perform(&self, job: &Job) -> Result<()> {
        match job.work {
            Work::Process if job.record.attempts > MAX_ATTEMPTS => {
                self.give_up(job, "the process ended each time it was worked on").await;
                Ok(())
            }
            Work::Process => self.process(job).await,
            Work::Attributes => {
                let written = self.attributes.sync(&job.lease.tenant, &job.lease.document_id).await?;
                match written {
                    Some(access_version) => self.catalog.attributes_done(&job.lease, access_version).await,
                    None => Ok(()),
                }
            }
            Work::Cleanup => self.clean_up(job).await,
            Work::Purge => purge(&*self.catalog, &self.blobs, &*self.store, job).await,
        }
    }

    /// Deletes what is no longer served. Only a row without a version in processing has this work, so everything but
    /// the served version is garbage.
    async fn clean_up(&self, job: &Job) -> Result<()> {
        crate::hold::at("cleanup").await;
        let versions = job.record.served.as_ref().map_or(Versions::All, |served| Versions::Except(served.version));
        self.store.delete(&job.lease.tenant, &job.lease.document_id, versions).await?;
        self.store.flush().await?;
        for blob in &job.garbage {
            self.blobs.delete(blob).await?;
        }
        self.catalog.cleanup_done(&job.lease).await
    }

    /// Renews the lease three times in its life; returns why it was lost.
    async fn hold_lease(&self, job: &Job) -> Error {
        let every = self.config.lease / 3;
        let mut renewed = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(every).await;
            match self.catalog.renew(&job.lease, self.config.lease).await {
                Ok(()) => renewed = tokio::time::Instant::now(),
                Err(error) if error.kind() == ErrorKind::Conflict => return error,
                Err(error) if renewed.elapsed() >= self.config.lease => return error,
                Err(error) => tracing::warn!(error = %error.chain(), "a lease could not be renewed; trying again"),
            }
        }
    }

    async fn give_up(&self, job: &Job, detail: &str) {
        let failure = Failure { reason: FailureReason::Internal, detail: detail.to_owned() };
        if let Err(error) = self.fail(job, &failure).await {
            tracing::warn!(error = %error.chain(), "a failure could not be noted; the lease will run out");
        }
    }

    async fn hand_back(&self, job: &Job, delay: Duration, refund: bool) {
        if let Err(error) = self.catalog.release(&job.lease, delay, refund).await {
            tracing::warn!(error = %error.chain(), "a lease could not be handed back; it will run out");
        }
    }
}

/// How long to leave a document alone that was given back so often before.
fn pause(setbacks: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << setbacks.min(6)).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let seconds: Vec<u64> = [0, 1, 2, 5, 6, 1_000].map(|setbacks| pause(setbacks).as_secs()).into();
        assert_eq!(seconds, [1, 2, 4, 32, 60, 60]);
    }
}
