//! [`IdempotencyStore`] on PostgreSQL, and the marks that [`super::documents`] sets.

use async_trait::async_trait;
use uuid::Uuid;

use super::error::database;
use super::{PostgresCatalog, Tx, abandon, commit};
use crate::catalog::stored::{damaged, number};
use crate::catalog::{Idempotency, IdempotencyStore, KEPT, RequestNote, RequestPart};
use crate::document::TenantId;
use crate::error::Result;

#[async_trait]
impl IdempotencyStore for PostgresCatalog {
    async fn idempotency(&self, tenant: &TenantId, user: &str, key: &str, fingerprint: &str) -> Result<Idempotency> {
        self.run(|| self.note(tenant, user, key, fingerprint)).await
    }
}

impl PostgresCatalog {
    async fn note(&self, tenant: &TenantId, user: &str, key: &str, fingerprint: &str) -> Result<Idempotency> {
        let (mut tx, now) = self.write().await?;
        // A note that has outlived its time but was not swept yet counts as none.
        sqlx::query("DELETE FROM idempotency_keys WHERE tenant = $1 AND \"user\" = $2 AND key = $3 AND seen_at < $4")
            .bind(tenant.as_str())
            .bind(user)
            .bind(key)
            .bind((now - KEPT).timestamp_millis())
            .execute(&mut *tx)
            .await
            .map_err(database)?;
        // Waits for the end of a transaction that notes the same key, so that the next statement sees its row.
        sqlx::query(
            "INSERT INTO idempotency_keys (tenant, \"user\", key, fingerprint, request, seen_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, \"user\", key) DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(user)
        .bind(key)
        .bind(fingerprint)
        .bind(Uuid::now_v7().to_string())
        .bind(now.timestamp_millis())
        .execute(&mut *tx)
        .await
        .map_err(database)?;
        let (noted, request): (String, String) = sqlx::query_as(
            "SELECT fingerprint, request FROM idempotency_keys WHERE tenant = $1 AND \"user\" = $2 AND key = $3",
        )
        .bind(tenant.as_str())
        .bind(user)
        .bind(key)
        .fetch_one(&mut *tx)
        .await
        .map_err(database)?;
        if noted != fingerprint {
            return abandon(tx, Ok(Idempotency::Mismatch)).await;
        }
        let parts: Vec<i64> = sqlx::query_scalar("SELECT part FROM idempotency_parts WHERE request = $1")
            .bind(&request)
            .fetch_all(&mut *tx)
            .await
            .map_err(database)?;
        commit(tx).await?;
        let done = parts.into_iter().map(number).collect::<Result<_>>()?;
        Ok(Idempotency::Noted(RequestNote { request: Uuid::parse_str(&request).map_err(damaged)?, done }))
    }
}

/// Notes that a part's document is written by this transaction; false if it was written before. A note that was swept
/// meanwhile needs none.
pub(super) async fn mark_done(tx: &mut Tx, part: RequestPart) -> Result<bool> {
    let RequestPart { request, part } = part;
    let marked = sqlx::query(
        "INSERT INTO idempotency_parts (request, part) SELECT request, $2 FROM idempotency_keys WHERE request = $1 \
         ON CONFLICT (request, part) DO NOTHING",
    )
    .bind(request.to_string())
    .bind(i64::from(part))
    .execute(&mut **tx)
    .await
    .map_err(database)?;
    if marked.rows_affected() == 1 {
        return Ok(true);
    }
    let done: Option<i64> = sqlx::query_scalar("SELECT part FROM idempotency_parts WHERE request = $1 AND part = $2")
        .bind(request.to_string())
        .bind(i64::from(part))
        .fetch_optional(&mut **tx)
        .await
        .map_err(database)?;
    Ok(done.is_none())
}
