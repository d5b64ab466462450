//! [`KeyStore`] on SQLite.

use async_trait::async_trait;

use super::{SqliteCatalog, database};
use crate::catalog::stored::{INSERT_KEY, StoredKey, StoredKeyPatch};
use crate::catalog::{KeyPatch, KeyRecord, KeyStore};
use crate::document::TenantId;
use crate::error::{Error, ErrorKind, Result};

#[async_trait]
impl KeyStore for SqliteCatalog {
    async fn insert_key(&self, key: &KeyRecord) -> Result<()> {
        let query = StoredKey::of(key)?.bind(sqlx::query(INSERT_KEY.as_str()));
        let written = query.execute(&self.writer).await.map_err(database)?;
        if written.rows_affected() == 0 {
            return Err(Error::new(ErrorKind::Conflict, "a key of this id is there already"));
        }
        Ok(())
    }

    async fn key(&self, id: &str) -> Result<Option<KeyRecord>> {
        let row: Option<StoredKey> = sqlx::query_as("SELECT * FROM api_keys WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(database)?;
        row.map(StoredKey::into_record).transpose()
    }

    async fn keys(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>> {
        let rows: Vec<StoredKey> =
            sqlx::query_as("SELECT * FROM api_keys WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?")
                .bind(tenant.as_str())
                .bind(after.unwrap_or(""))
                .bind(limit)
                .fetch_all(&self.readers)
                .await
                .map_err(database)?;
        rows.into_iter().map(StoredKey::into_record).collect()
    }

    async fn patch_key(&self, tenant: &TenantId, id: &str, patch: &KeyPatch) -> Result<Option<KeyRecord>> {
        let patch = StoredKeyPatch::of(patch)?;
        let mut tx = self.write().await?;
        let row: Option<StoredKey> = sqlx::query_as(
            "UPDATE api_keys SET name = COALESCE(?, name), groups = COALESCE(?, groups), \
             scopes = COALESCE(?, scopes), active = COALESCE(?, active), \
             expires_at = CASE WHEN ? THEN ? ELSE expires_at END WHERE tenant = ? AND id = ? RETURNING *",
        )
        .bind(patch.name)
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
        let key = row.map(StoredKey::into_record).transpose()?;
        tx.commit().await.map_err(database)?;
        Ok(key)
    }

    async fn delete_key(&self, tenant: &TenantId, id: &str) -> Result<bool> {
        let written = sqlx::query("DELETE FROM api_keys WHERE tenant = ? AND id = ?")
            .bind(tenant.as_str())
            .bind(id)
            .execute(&self.writer)
            .await
            .map_err(database)?;
        Ok(written.rows_affected() == 1)
    }
}
