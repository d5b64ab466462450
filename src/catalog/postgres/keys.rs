//! [`KeyStore`] on PostgreSQL. The name of a key is JSON: it may hold a NUL, which PostgreSQL's text may not.

use async_trait::async_trait;

use super::error::database;
use super::{PostgresCatalog, abandon, commit};
use crate::catalog::stored::{INSERT_KEY, StoredKey, StoredKeyPatch, json, parse};
use crate::catalog::{KeyPatch, KeyRecord, KeyStore};
use crate::document::TenantId;
use crate::error::{Error, ErrorKind, Result};

#[async_trait]
impl KeyStore for PostgresCatalog {
    async fn insert_key(&self, key: &KeyRecord) -> Result<()> {
        self.run(|| async {
            let mut key = StoredKey::of(key)?;
            key.name = json(&key.name)?;
            let (mut tx, _) = self.write().await?;
            let query = key.bind(sqlx::query(INSERT_KEY.as_str()));
            let written = query.execute(&mut *tx).await.map_err(database)?;
            if written.rows_affected() == 0 {
                let taken = Error::new(ErrorKind::Conflict, "a key of this id is there already");
                return abandon(tx, Err(taken)).await;
            }
            commit(tx).await
        })
        .await
    }

    async fn key(&self, id: &str) -> Result<Option<KeyRecord>> {
        self.run(|| async {
            let mut tx = self.read().await?;
            let row: Option<StoredKey> = sqlx::query_as("SELECT * FROM api_keys WHERE id = $1")
                .bind(id)
                .fetch_optional(&mut *tx)
                .await
                .map_err(database)?;
            row.map(record).transpose()
        })
        .await
    }

    async fn keys(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>> {
        self.run(|| async {
            let mut tx = self.read().await?;
            let rows: Vec<StoredKey> =
                sqlx::query_as("SELECT * FROM api_keys WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3")
                    .bind(tenant.as_str())
                    .bind(after.unwrap_or(""))
                    .bind(i64::from(limit))
                    .fetch_all(&mut *tx)
                    .await
                    .map_err(database)?;
            rows.into_iter().map(record).collect()
        })
        .await
    }

    async fn patch_key(&self, tenant: &TenantId, id: &str, patch: &KeyPatch) -> Result<Option<KeyRecord>> {
        self.run(|| async {
            let patch = StoredKeyPatch::of(patch)?;
            let (mut tx, _) = self.write().await?;
            let row: Option<StoredKey> = sqlx::query_as(
                "UPDATE api_keys SET name = COALESCE($1, name), \"groups\" = COALESCE($2, \"groups\"), \
                 scopes = COALESCE($3, scopes), active = COALESCE($4, active), \
                 expires_at = CASE WHEN $5 THEN $6 ELSE expires_at END WHERE tenant = $7 AND id = $8 RETURNING *",
            )
            .bind(patch.name.as_ref().map(json).transpose()?)
            .bind(patch.groups)
            .bind(patch.scopes)
            .bind(patch.active)
            .bind(patch.change_expires_at)
            .bind(patch.expires_at)
            .bind(tenant.as_str())
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(database)?;
            let key = row.map(record).transpose()?;
            commit(tx).await?;
            Ok(key)
        })
        .await
    }

    async fn delete_key(&self, tenant: &TenantId, id: &str) -> Result<bool> {
        self.run(|| async {
            let (mut tx, _) = self.write().await?;
            let written = sqlx::query("DELETE FROM api_keys WHERE tenant = $1 AND id = $2")
                .bind(tenant.as_str())
                .bind(id)
                .execute(&mut *tx)
                .await
                .map_err(database)?;
            commit(tx).await?;
            Ok(written.rows_affected() == 1)
        })
        .await
    }
}

/// The key of a row.
pub(super) fn record(mut row: StoredKey) -> Result<KeyRecord> {
    row.name = parse(&row.name)?;
    row.into_record()
}
