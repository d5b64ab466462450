//! [`JobQueue`] on PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

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
            let (tx, now) = self.write().await?;
            let query = sqlx::query(
                "UPDATE documents SET lease_until = $4 WHERE tenant = $1 AND document_id = $2 AND lease_token = $3",
            );
            let query = of_lease(query, lease).bind((now + duration).timestamp_millis());
            fenced(tx, query).await
        })
        .await
    }

    async fn progress(&self, lease: &Lease, stage: Stage, progress: Progress) -> Result<()> {
        self.run(|| async {
            let (tx, now) = self.write().await?;
            let query = sqlx::query(
                "UPDATE documents SET stage = $4, progress_done = $5, progress_total = $6, updated_at = $7 \
                 WHERE tenant = $1 AND document_id = $2 AND lease_token = $3",
            );
            let query = of_lease(query, lease)
                .bind(stage.as_str())
                .bind(i64::from(progress.done))
                .bind(i64::from(progress.total))
                .bind(now.timestamp_millis());
            fenced(tx, query).await
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

/// A statement.
type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// The statement with the row and the token of a lease as `$1` to `$3`.
fn of_lease<'q>(statement: Statement<'q>, lease: &Lease) -> Statement<'q> {
    let Lease { tenant, document_id, token } = lease;
    statement.bind(tenant.to_string()).bind(document_id.to_string()).bind(token.to_string())
}

/// Runs the one statement of a transaction, which must write exactly the row that a lease names.
async fn fenced(mut tx: Tx, statement: Statement<'_>) -> Result<()> {
    let written = statement.execute(&mut *tx).await.map_err(database)?.rows_affected();
    if written == 1 { commit(tx).await } else { abandon(tx, Err(lost_lease())).await }
}
