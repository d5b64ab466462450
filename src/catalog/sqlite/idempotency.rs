//! [`IdempotencyStore`] on SQLite, and the marks that [`super::documents`] sets.

use std::collections::BTreeSet;

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::{SqliteCatalog, database, now};
use crate::catalog::stored::damaged;
use crate::catalog::{Idempotency, IdempotencyStore, KEPT, RequestNote, RequestPart};
use crate::document::TenantId;
use crate::error::Result;

#[async_trait]
impl IdempotencyStore for SqliteCatalog {
    async fn idempotency(&self, tenant: &TenantId, user: &str, key: &str, fingerprint: &str) -> Result<Idempotency> {
        let now = now();
        let mut tx = self.write().await?;
        // A note that has outlived its time but was not swept yet counts as none.
        sqlx::query("DELETE FROM idempotency_keys WHERE tenant = ? AND user = ? AND key = ? AND seen_at < ?")
            .bind(tenant.as_str())
            .bind(user)
            .bind(key)
            .bind((now - KEPT).timestamp_millis())
            .execute(&mut *tx)
            .await
            .map_err(database)?;
        sqlx::query(
            "INSERT INTO idempotency_keys (tenant, user, key, fingerprint, request, seen_at) \
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, user, key) DO NOTHING",
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
            "SELECT fingerprint, request FROM idempotency_keys WHERE tenant = ? AND user = ? AND key = ?",
        )
        .bind(tenant.as_str())
        .bind(user)
        .bind(key)
        .fetch_one(&mut *tx)
        .await
        .map_err(database)?;
        if noted != fingerprint {
            return Ok(Idempotency::Mismatch);
        }
        let request = Uuid::parse_str(&request).map_err(damaged)?;
        let done = done(&mut tx, request).await?;
        tx.commit().await.map_err(database)?;
        Ok(Idempotency::Noted(RequestNote { request, done }))
    }
}

async fn done(tx: &mut Transaction<'static, Sqlite>, request: Uuid) -> Result<BTreeSet<u32>> {
    let parts: Vec<u32> = sqlx::query_scalar("SELECT part FROM idempotency_parts WHERE request = ?")
        .bind(request.to_string())
        .fetch_all(&mut **tx)
        .await
        .map_err(database)?;
    Ok(parts.into_iter().collect())
}

/// Whether a part's document is written.
pub(super) async fn is_done(tx: &mut Transaction<'static, Sqlite>, part: RequestPart) -> Result<bool> {
    Ok(done(tx, part.request).await?.contains(&part.part))
}

/// Notes that a part's document is written. A note that was swept meanwhile needs none.
pub(super) async fn mark_done(tx: &mut Transaction<'static, Sqlite>, part: RequestPart) -> Result<()> {
    sqlx::query(
        "INSERT INTO idempotency_parts (request, part) SELECT request, ? FROM idempotency_keys WHERE request = ?",
    )
    .bind(part.part)
    .bind(part.request.to_string())
    .execute(&mut **tx)
    .await
    .map_err(database)?;
    Ok(())
}
