//! [`KeyStore`] on SQLite.

use async_trait::async_trait;
use chrono::DateTime;
use sqlx::sqlite::SqliteRow;

use super::rows::{damaged, get, identifier, parse, time};
use super::{SqliteCatalog, database, json};
use crate::catalog::{KeyPatch, KeyRecord, KeyStore};
use crate::document::TenantId;
use crate::error::{Error, ErrorKind, Result};

#[async_trait]
impl KeyStore for SqliteCatalog {
    async fn insert_key(&self, key: &KeyRecord) -> Result<()> {
        let written = sqlx::query(
            "INSERT INTO api_keys (id, hash, name, tenant, user, groups, scopes, active, expires_at, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        )
        .bind(&key.id)
        .bind(key.hash.to_vec())
        .bind(&key.name)
        .bind(key.tenant.as_str())
        .bind(&key.user)
        .bind(json(&key.groups)?)
        .bind(json(&key.scopes)?)
        .bind(key.active)
        .bind(key.expires_at.map(|at| at.timestamp_millis()))
        .bind(key.created_at.timestamp_millis())
        .execute(&self.writer)
        .await
        .map_err(database)?;
        if written.rows_affected() == 0 {
            return Err(Error::new(ErrorKind::Conflict, "a key of this id is there already"));
        }
        Ok(())
    }

    async fn key(&self, id: &str) -> Result<Option<KeyRecord>> {
        let row = sqlx::query("SELECT * FROM api_keys WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(database)?;
        row.as_ref().map(decode).transpose()
    }

    async fn keys(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>> {
        let rows = sqlx::query("SELECT * FROM api_keys WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?")
            .bind(tenant.as_str())
            .bind(after.unwrap_or(""))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(database)?;
        rows.iter().map(decode).collect()
    }

    async fn patch_key(&self, tenant: &TenantId, id: &str, patch: &KeyPatch) -> Result<Option<KeyRecord>> {
        let mut tx = self.write().await?;
        let row = sqlx::query(
            "UPDATE api_keys SET name = COALESCE(?, name), groups = COALESCE(?, groups), \
             scopes = COALESCE(?, scopes), active = COALESCE(?, active), \
             expires_at = CASE WHEN ? THEN ? ELSE expires_at END WHERE tenant = ? AND id = ? RETURNING *",
        )
        .bind(patch.name.as_deref())
        .bind(patch.groups.as_ref().map(json).transpose()?)
        .bind(patch.scopes.as_ref().map(json).transpose()?)
        .bind(patch.active)
        .bind(patch.expires_at.is_some())
        .bind(patch.expires_at.flatten().map(|at| at.timestamp_millis()))
        .bind(tenant.as_str())
        .bind(id)
        .fetch_optional(&mut *tx)
        .await
        .map_err(database)?;
        let key = row.as_ref().map(decode).transpose()?;
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

fn decode(row: &SqliteRow) -> Result<KeyRecord> {
    let expires_at = match get::<Option<i64>>(row, "expires_at")? {
        Some(at) => Some(DateTime::from_timestamp_millis(at).ok_or_else(|| damaged("expires_at"))?),
        None => None,
    };
    Ok(KeyRecord {
        id: get(row, "id")?,
        hash: get::<&[u8]>(row, "hash")?.try_into().map_err(damaged)?,
        name: get(row, "name")?,
        tenant: identifier(get(row, "tenant")?)?,
        user: get(row, "user")?,
        groups: parse(get(row, "groups")?)?,
        scopes: parse(get(row, "scopes")?)?,
        active: get(row, "active")?,
        expires_at,
        created_at: time(row, "created_at")?,
    })
}
