//! [`JobQueue`] on SQLite.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};

use super::documents::{count_change, retire};
use super::rows::{load, save};
use super::{SqliteCatalog, database, fenced, now};
use crate::catalog::state::{Row, lost_lease};
use crate::catalog::stored::StoredDocument;
use crate::catalog::{Job, JobQueue, Lease, Progress, Publication, Publish, Stage, Work};
use crate::document::Failure;
use crate::error::Result;

/// Which rows have work of a kind, most urgent kind first: deletions, then access, then new content, then sweeping.
/// A cleanup waits for the end of processing, whose points it would take for leftovers, and for stale workers.
const CLAIMS: [(Work, &str); 4] = [
    (
        Work::Purge,
        "SELECT * FROM documents WHERE needs_purge = 1 AND not_before <= ?1 AND lease_until <= ?1 \
         ORDER BY queued_at LIMIT 1",
    ),
    (
        Work::Attributes,
        "SELECT * FROM documents WHERE needs_attributes = 1 AND not_before <= ?1 AND lease_until <= ?1 \
         ORDER BY queued_at LIMIT 1",
    ),
    (
        Work::Process,
        "SELECT * FROM documents WHERE status = 'processing' AND deleted = 0 AND needs_purge = 0 \
         AND not_before <= ?1 AND lease_until <= ?1 ORDER BY queued_at LIMIT 1",
    ),
    (
        Work::Cleanup,
        "SELECT * FROM documents WHERE needs_cleanup = 1 AND needs_purge = 0 AND status <> 'processing' \
         AND stale_until <= ?1 AND not_before <= ?1 AND lease_until <= ?1 ORDER BY queued_at LIMIT 1",
    ),
];

#[async_trait]
impl JobQueue for SqliteCatalog {
    async fn recover(&self) -> Result<()> {
        if !self.lock_worker()? {
            return Ok(());
        }
        let freed = sqlx::query(
            "UPDATE documents SET lease_token = NULL, lease_work = NULL, lease_until = 0, lease_garbage = 0, \
             stale_until = 0, stage = CASE WHEN status = 'processing' THEN 'queued' ELSE stage END \
             WHERE lease_token IS NOT NULL OR stale_until > 0",
        )
        .execute(&self.writer)
        .await
        .map_err(database)?
        .rows_affected();
        if freed > 0 {
            tracing::info!(documents = freed, "leases of a former process freed");
        }
        Ok(())
    }

    async fn claim(&self, lease: Duration) -> Result<Option<Job>> {
        let mut tx = self.write().await?;
        let now = now();
        for (work, sql) in CLAIMS {
            let row: Option<StoredDocument> =
                sqlx::query_as(sql).bind(now.timestamp_millis()).fetch_optional(&mut *tx).await.map_err(database)?;
            if let Some(row) = row {
                let mut row = row.into_row()?;
                let job = row.claim(work, lease, now);
                save(&mut tx, &row).await?;
                tx.commit().await.map_err(database)?;
                return Ok(Some(job));
            }
        }
        Ok(None)
    }

    async fn renew(&self, lease: &Lease, duration: Duration) -> Result<()> {
        sqlx::query("UPDATE documents SET lease_until = ? WHERE tenant = ? AND document_id = ? AND lease_token = ?")
            .bind((now() + duration).timestamp_millis())
            .bind(lease.tenant.as_str())
            .bind(lease.document_id.as_str())
            .bind(lease.token.to_string())
            .execute(&self.writer)
            .await
            .map_err(database)
            .and_then(fenced)
    }

    async fn progress(&self, lease: &Lease, stage: Stage, progress: Progress) -> Result<()> {
        sqlx::query(
            "UPDATE documents SET stage = ?, progress_done = ?, progress_total = ?, updated_at = ? \
             WHERE tenant = ? AND document_id = ? AND lease_token = ?",
        )
        .bind(stage.as_str())
        .bind(progress.done)
        .bind(progress.total)
        .bind(now().timestamp_millis())
        .bind(lease.tenant.as_str())
        .bind(lease.document_id.as_str())
        .bind(lease.token.to_string())
        .execute(&self.writer)
        .await
        .map_err(database)
        .and_then(fenced)
    }

    async fn publish(&self, lease: &Lease, publication: &Publication) -> Result<Publish> {
        let (mut tx, mut row) = self.held(lease).await?;
        let publish = row.publish(publication, now())?;
        if publish == Publish::Published {
            save(&mut tx, &row).await?;
            count_change(&mut tx, &lease.tenant).await?;
            tx.commit().await.map_err(database)?;
        }
        Ok(publish)
    }

    async fn fail(&self, lease: &Lease, failure: &Failure) -> Result<()> {
        self.finish(lease, |row| row.fail(failure, now())).await
    }

    async fn release(&self, lease: &Lease, delay: Duration, refund: bool) -> Result<()> {
        self.finish(lease, |row| row.release(delay, refund, now())).await
    }

    async fn attributes_done(&self, lease: &Lease, access_version: u64) -> Result<()> {
        let (mut tx, mut row) = self.held(lease).await?;
        row.attributes_done(access_version);
        save(&mut tx, &row).await?;
        // What was answered while the store had the old attributes is stale.
        count_change(&mut tx, &lease.tenant).await?;
        tx.commit().await.map_err(database)
    }

    async fn cleanup_done(&self, lease: &Lease) -> Result<()> {
        self.finish(lease, Row::cleanup_done).await
    }

    async fn purge_done(&self, lease: &Lease) -> Result<()> {
        let (mut tx, mut row) = self.held(lease).await?;
        if row.purge_done(now()) {
            retire(&mut tx, &row).await?;
        } else {
            save(&mut tx, &row).await?;
        }
        tx.commit().await.map_err(database)
    }
}

impl SqliteCatalog {
    /// The row that a lease holds, in a transaction; an error if the lease is lost.
    async fn held(&self, lease: &Lease) -> Result<(Transaction<'static, Sqlite>, Row)> {
        let mut tx = self.write().await?;
        let row = load(&mut tx, &lease.tenant, &lease.document_id).await?.ok_or_else(lost_lease)?;
        row.held_by(lease)?;
        Ok((tx, row))
    }

    /// A worker's last write.
    async fn finish(&self, lease: &Lease, change: impl FnOnce(&mut Row) + Send) -> Result<()> {
        let (mut tx, mut row) = self.held(lease).await?;
        change(&mut row);
        save(&mut tx, &row).await?;
        tx.commit().await.map_err(database)
    }
}
