//! What is done when nobody waits: building indexes, sweeping originals that nothing refers to, expiring notes.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::error::Result;

/// How often the housekeeper looks whether the process is idle.
const IDLE_CHECK: Duration = Duration::from_secs(5);
/// How often it sweeps and expires: nothing hurries, and a sweep lists every original.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// An original younger than this may belong to a row that is about to be written.
const SWEEP_AGE: Duration = Duration::from_secs(3600);

impl Worker {
    pub(super) async fn keep_house(&self, stop: &CancellationToken) {
        let mut last_sweep: Option<tokio::time::Instant> = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(IDLE_CHECK) => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.optimize_if_idle().await {
                tracing::warn!(error = %error.chain(), "the vector store could not be optimized");
            }
            if last_sweep.is_none_or(|last| last.elapsed() >= SWEEP_EVERY) {
                last_sweep = Some(tokio::time::Instant::now());
                if let Err(error) = self.sweep().await {
                    tracing::warn!(error = %error.chain(), "the sweep did not finish");
                }
            }
        }
    }

    async fn optimize_if_idle(&self) -> Result<()> {
        if self.catalog.stats().await?.oldest_queued.is_some() {
            return Ok(());
        }
        if self.store.optimize().await? {
            tracing::info!("vector store optimized");
        }
        Ok(())
    }

    async fn sweep(&self) -> Result<()> {
        self.catalog.expire().await?;
        for blob in self.blobs.older_than(SWEEP_AGE).await? {
            if !self.is_referred_to(&blob).await? {
                tracing::info!("an original that nothing refers to is deleted");
                self.blobs.delete(&blob).await?;
            }
        }
        Ok(())
    }

    /// Whether a row has this original. Blobs of deleted documents belong to their purge, which has its own list.
    async fn is_referred_to(&self, blob: &str) -> Result<bool> {
        let mut parts = blob.split('/');
        let (Some(tenant), Some(document)) = (parts.next(), parts.next()) else { return Ok(true) };
        let (Ok(tenant), Ok(document)) = (tenant.parse(), document.parse()) else { return Ok(true) };
        let Some(record) = self.catalog.get(&tenant, &document).await? else { return Ok(false) };
        let served = record.served.as_ref().is_some_and(|served| served.content.blob == blob);
        Ok(served || record.content.blob == blob)
    }
}
