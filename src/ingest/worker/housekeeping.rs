//! What is done when nobody waits: building indexes, sweeping originals that nothing refers to, expiring notes.
//!
//! A sweep deletes for good, so it must never take a wrong catalog at its word: one that was restored from a backup, or
//! that belongs to another folder, knows few of the originals.

use std::time::Duration;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::catalog::Status;
use crate::error::Result;

/// How often the housekeeper looks whether the process is idle.
const IDLE_CHECK: Duration = Duration::from_secs(5);
/// How often it sweeps and expires: nothing hurries, and a sweep lists every original.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// An original younger than this may belong to a row that is about to be written.
const SWEEP_AGE: Duration = Duration::from_secs(3600);
/// What crashes leave behind is little: a sweep that finds more than this share of the originals without a row …
const STRAY_SHARE: f64 = 0.1;
/// … and more than so many, deletes none.
const STRAY_COUNT: usize = 10;
/// Most originals without a row that one sweep deletes; the next goes on.
const MAX_STRAYS: usize = 10_000;

impl Worker {
    pub(super) async fn keep_house(&self, stop: &CancellationToken) {
        let mut last_sweep: Option<tokio::time::Instant> = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(IDLE_CHECK) => {}
                () = stop.cancelled() => return,
            }
            let sweep = last_sweep.is_none_or(|last| last.elapsed() >= SWEEP_EVERY);
            if sweep {
                last_sweep = Some(tokio::time::Instant::now());
            }
            tokio::select! {
                () = self.tidy_up(sweep) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn tidy_up(&self, sweep: bool) {
        if let Err(error) = self.optimize_if_idle().await {
            tracing::warn!(error = %error.chain(), "the vector store could not be optimized");
        }
        if sweep && let Err(error) = self.sweep().await {
            tracing::warn!(error = %error.chain(), "the sweep did not finish");
        }
    }

    async fn optimize_if_idle(&self) -> Result<()> {
        let stats = self.catalog.stats().await?;
        // Those that wait, and those that a worker has.
        if stats.by_status.get(&Status::Processing).is_some_and(|documents| *documents > 0) {
            return Ok(());
        }
        if self.store.optimize().await? {
            tracing::info!("vector store optimized");
        }
        Ok(())
    }

    async fn sweep(&self) -> Result<()> {
        self.catalog.expire().await?;
        self.blobs.remove_unfinished(SWEEP_AGE).await?;
        let mut listing = self.blobs.older_than(SWEEP_AGE);
        let (mut originals, mut found, mut strays) = (0, 0, Vec::new());
        while let Some(original) = listing.next().await.transpose()? {
            originals += 1;
            if self.is_referred_to(&original).await? {
                continue;
            }
            found += 1;
            if strays.len() < MAX_STRAYS {
                strays.push(original);
            }
        }
        if is_wrong_catalog(found, originals) {
            tracing::error!(
                strays = found,
                originals,
                "the catalog does not know many of the originals: nothing is deleted"
            );
            return Ok(());
        }
        for stray in strays {
            tracing::info!("an original that nothing refers to is deleted");
            self.blobs.delete(&stray).await?;
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

fn is_wrong_catalog(strays: usize, originals: usize) -> bool {
    strays > STRAY_COUNT && strays as f64 > originals as f64 * STRAY_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_that_knows_few_originals_is_not_believed() {
        assert!(!is_wrong_catalog(0, 0) && !is_wrong_catalog(3, 3), "what crashes leave");
        assert!(!is_wrong_catalog(50, 10_000));
        assert!(is_wrong_catalog(11, 11) && is_wrong_catalog(2_000, 10_000), "another catalog, or an old one");
    }
}
