//! [`JobQueue`] on PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgQueryResult;

use super::error::database;
use super::rows::{count_change, load, readable, retire, save};
use super::{PostgresCatalog, Tx, abandon, commit};
use crate::catalog::state::{Row, lost_lease};
use crate::catalog::stored::StoredDocument;
use crate::catalog::{Job, JobQueue, Lease, Progress, Publication, Publish, Stage, Work};
use crate::document::Failure;
use crate::error::Result;

/// Which rows have work of a kind, most urgent kind first: deletions, then access, then new content, then sweeping.
/// A cleanup waits for the end of processing, whose points it would take for leftovers, and for stale workers. What
/// another process claims at this moment is passed over.
const CLAIMS: [(Work, &str); 4] = [
    (
        Work::Purge,
        "SELECT * FROM documents WHERE needs_purge AND not_before <= $1 AND lease_until <= $1 \
         ORDER BY queued_at LIMIT 1 FOR UPDATE SKIP LOCKED",
    ),
    (
        Work::Attributes,
        "SELECT * FROM documents WHERE needs_attributes AND not_before <= $1 AND lease_until <= $1 \
         ORDER BY queued_at LIMIT 1 FOR UPDATE SKIP LOCKED",
    ),
    (
        Work::Process,
        "SELECT * FROM documents WHERE status = 'processing' AND NOT deleted AND NOT needs_purge \
         AND not_before <= $1 AND lease_until <= $1 ORDER BY queued_at LIMIT 1 FOR UPDATE SKIP LOCKED",
    ),
    (
        Work::Cleanup,
        "SELECT * FROM documents WHERE needs_cleanup AND NOT needs_purge AND status <> 'processing' \
         AND stale_until <= $1 AND not_before <= $1 AND lease_until <= $1 \
         ORDER BY queued_at LIMIT 1 FOR UPDATE SKIP LOCKED",
    ),
];

#[async_trait]
impl JobQueue for PostgresCatalog {
    async fn recover(&self) -> Result<()> {
        // Whose leases they are nobody knows: those of the dead run out.
        Ok(())
    }

    async fn claim(&self, lease: Duration) -> Result<Option<Job>> {
        self.run(|| self.claim_once(lease)).await
    }

    async fn renew(&self, lease: &Lease, duration: Duration) -> Result<()> {
        self.run(|| async {
            let (mut tx, now) = self.write().await?;
            sqlx::query(
                "UPDATE documents SET lease_until = $1 WHERE tenant = $2 AND document_id = $3 AND lease_token = $4",
            )
            .bind((now + duration).timestamp_millis())
            .bind(lease.tenant.as_str())
            .bind(lease.document_id.as_str())
            .bind(lease.token.to_string())
            .execute(&mut *tx)
            .await
            .map_err(database)
            .and_then(fenced)?;
            commit(tx).await
        })
        .await
    }

    async fn progress(&self, lease: &Lease, stage: Stage, progress: Progress) -> Result<()> {
        self.run(|| async {
            let (mut tx, now) = self.write().await?;
            sqlx::query(
                "UPDATE documents SET stage = $1, progress_done = $2, progress_total = $3, updated_at = $4 \
                 WHERE tenant = $5 AND document_id = $6 AND lease_token = $7",
            )
            .bind(stage.as_str())
            .bind(i64::from(progress.done))
            .bind(i64::from(progress.total))
            .bind(now.timestamp_millis())
            .bind(lease.tenant.as_str())
            .bind(lease.document_id.as_str())
            .bind(lease.token.to_string())
            .execute(&mut *tx)
            .await
            .map_err(database)
            .and_then(fenced)?;
            commit(tx).await
        })
        .await
    }

    async fn publish(&self, lease: &Lease, publication: &Publication) -> Result<Publish> {
        self.run(|| async {
            let (mut tx, now, mut row) = self.held(lease).await?;
            let publish = row.publish(publication, now);
            if !matches!(publish, Ok(Publish::Published)) {
                return abandon(tx, publish).await;
            }
            save(&mut tx, &row).await?;
            count_change(&mut tx, &lease.tenant).await?;
            commit(tx).await?;
            publish
        })
        .await
    }

    async fn fail(&self, lease: &Lease, failure: &Failure) -> Result<()> {
        self.finish(lease, |row, now| row.fail(failure, now)).await
    }

    async fn release(&self, lease: &Lease, delay: Duration, refund: bool) -> Result<()> {
        self.finish(lease, |row, now| row.release(delay, refund, now)).await
    }

    async fn attributes_done(&self, lease: &Lease, access_version: u64) -> Result<()> {
        self.run(|| async {
            let (mut tx, _, mut row) = self.held(lease).await?;
            row.attributes_done(access_version);
            save(&mut tx, &row).await?;
            // What was answered while the store had the old attributes is stale.
            count_change(&mut tx, &lease.tenant).await?;
            commit(tx).await
        })
        .await
    }

    async fn cleanup_done(&self, lease: &Lease) -> Result<()> {
        self.finish(lease, |row, _| row.cleanup_done()).await
    }

    async fn purge_done(&self, lease: &Lease) -> Result<()> {
        self.run(|| async {
            let (mut tx, now, mut row) = self.held(lease).await?;
            if row.purge_done(now) {
                retire(&mut tx, &row, now.timestamp_millis()).await?;
            } else {
                save(&mut tx, &row).await?;
            }
            commit(tx).await
        })
        .await
    }
}

impl PostgresCatalog {
    async fn claim_once(&self, lease: Duration) -> Result<Option<Job>> {
        let (mut tx, now) = self.write().await?;
        for (work, sql) in CLAIMS {
            let row: Option<StoredDocument> =
                sqlx::query_as(sql).bind(now.timestamp_millis()).fetch_optional(&mut *tx).await.map_err(database)?;
            if let Some(row) = row {
                let mut row = readable(row)?.into_row()?;
                let job = row.claim(work, lease, now);
                save(&mut tx, &row).await?;
                commit(tx).await?;
                return Ok(Some(job));
            }
        }
        Ok(None)
    }

    /// The row that a lease holds, in a transaction with its time; an error if the lease is lost.
    async fn held(&self, lease: &Lease) -> Result<(Tx, DateTime<Utc>, Row)> {
        let (mut tx, now) = self.write().await?;
        let row = load(&mut tx, &lease.tenant, &lease.document_id).await?;
        match row.filter(|row| row.held_by(lease).is_ok()) {
            Some(row) => Ok((tx, now, row)),
            None => abandon(tx, Err(lost_lease())).await,
        }
    }

    /// A worker's last write.
    async fn finish(&self, lease: &Lease, change: impl Fn(&mut Row, DateTime<Utc>) + Send + Sync) -> Result<()> {
        self.run(|| async {
            let (mut tx, now, mut row) = self.held(lease).await?;
            change(&mut row, now);
            save(&mut tx, &row).await?;
            commit(tx).await
        })
        .await
    }
}

/// Whether exactly the row that the lease names was written.
fn fenced(result: PgQueryResult) -> Result<()> {
    if result.rows_affected() == 1 { Ok(()) } else { Err(lost_lease()) }
}
