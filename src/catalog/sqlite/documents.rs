//! [`DocumentCatalog`] on SQLite.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{QueryBuilder, Sqlite, Transaction};

use super::idempotency::{is_done, mark_done};
use super::rows::{load, save};
use super::{SqliteCatalog, database, now};
use crate::catalog::state::{self, Row};
use crate::catalog::stored::{StoredDocument, id_hash, integer, json, number, stats, visibility};
use crate::catalog::{
    AttributesPatch, CatalogStats, DocumentCatalog, DocumentRecord, Job, ListQuery, NewDocument, Put, PutMode,
    Visibility,
};
use crate::document::{DocumentId, Principal, TenantId, Version};
use crate::error::Result;

#[async_trait]
impl DocumentCatalog for SqliteCatalog {
    async fn put(&self, document: NewDocument, mode: PutMode) -> Result<Put> {
        let mut tx = self.write().await?;
        let row = load(&mut tx, &document.tenant, &document.document_id).await?;
        let part = document.request;
        if let Some(part) = part
            && is_done(&mut tx, part).await?
        {
            return state::done_before(row, &document);
        }
        let last_version = last_version(&mut tx, row.as_ref(), &document.tenant, &document.document_id).await?;
        let tenant = document.tenant.clone();
        let decided = state::put(row, last_version, document, mode, now())?;
        if let Some(row) = &decided.row {
            store(&mut tx, row).await?;
        }
        if decided.visible {
            count_change(&mut tx, &tenant).await?;
        }
        if let Some(part) = part {
            mark_done(&mut tx, part).await?;
        }
        tx.commit().await.map_err(database)?;
        Ok(decided.put)
    }

    async fn get(&self, tenant: &TenantId, document: &DocumentId) -> Result<Option<DocumentRecord>> {
        let row: Option<StoredDocument> =
            sqlx::query_as("SELECT * FROM documents WHERE tenant = ? AND document_id = ? AND deleted = 0")
                .bind(tenant.as_str())
                .bind(document.as_str())
                .fetch_optional(&self.readers)
                .await
                .map_err(database)?;
        row.map(StoredDocument::into_record).transpose()
    }

    async fn list(&self, tenant: &TenantId, query: ListQuery) -> Result<Vec<DocumentRecord>> {
        if query.scope.as_ref().is_some_and(|scope| scope.tenant() != tenant) {
            return Ok(Vec::new());
        }
        let after = query.after.as_ref().map_or("", DocumentId::as_str);
        let mut sql: QueryBuilder<Sqlite> =
            QueryBuilder::new("SELECT * FROM documents WHERE deleted = 0 AND tenant = ");
        sql.push_bind(tenant.as_str()).push(" AND document_id > ").push_bind(after);
        if let Some(status) = query.status {
            sql.push(" AND status = ").push_bind(status.as_str());
        }
        if let Some(scope) = &query.scope {
            sql.push(" AND document_id IN (SELECT document_id FROM document_readers WHERE tenant = ")
                .push_bind(tenant.as_str())
                .push(" AND principal IN (SELECT value FROM json_each(")
                .push_bind(json(scope.principals())?)
                .push(")) AND document_id > ")
                .push_bind(after)
                .push(")");
        }
        sql.push(" ORDER BY document_id LIMIT ").push_bind(query.limit);
        let rows: Vec<StoredDocument> = sql.build_query_as().fetch_all(&self.readers).await.map_err(database)?;
        rows.into_iter().map(StoredDocument::into_record).collect()
    }

    async fn patch(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        owner: Option<&Principal>,
        patch: AttributesPatch,
    ) -> Result<Option<DocumentRecord>> {
        let mut tx = self.write().await?;
        let Some(mut row) = load(&mut tx, tenant, document).await?.filter(|row| row.belongs_to(owner)) else {
            return Ok(None);
        };
        if row.patch(patch, now()) {
            store(&mut tx, &row).await?;
            count_change(&mut tx, tenant).await?;
            tx.commit().await.map_err(database)?;
        }
        Ok(Some(row.record))
    }

    async fn tombstone(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        owner: Option<&Principal>,
        lease: Duration,
    ) -> Result<Option<Job>> {
        let mut tx = self.write().await?;
        let Some(mut row) = load(&mut tx, tenant, document).await?.filter(|row| row.belongs_to(owner)) else {
            return Ok(None);
        };
        let job = row.tombstone(lease, now());
        store(&mut tx, &row).await?;
        count_change(&mut tx, tenant).await?;
        tx.commit().await.map_err(database)?;
        Ok(Some(job))
    }

    async fn retry(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        owner: Option<&Principal>,
    ) -> Result<Option<DocumentRecord>> {
        let mut tx = self.write().await?;
        let Some(mut row) = load(&mut tx, tenant, document).await?.filter(|row| row.belongs_to(owner)) else {
            return Ok(None);
        };
        row.retry(now())?;
        save(&mut tx, &row).await?;
        tx.commit().await.map_err(database)?;
        Ok(Some(row.record))
    }

    async fn visibility(&self, tenant: &TenantId, documents: &[DocumentId]) -> Result<HashMap<DocumentId, Visibility>> {
        if documents.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = sqlx::query_as(
            "SELECT document_id, served_version, served_attributes FROM documents WHERE tenant = ? AND deleted = 0 \
             AND served_version IS NOT NULL AND document_id IN (SELECT value FROM json_each(?))",
        )
        .bind(tenant.as_str())
        .bind(json(documents)?)
        .fetch_all(&self.readers)
        .await
        .map_err(database)?;
        rows.into_iter().map(visibility).collect()
    }

    async fn generation(&self, tenant: &TenantId) -> Result<u64> {
        let stamp = self.generations.stamp();
        if let Some(known) = stamp.and_then(|stamp| self.generations.get(stamp, tenant)) {
            return Ok(known);
        }
        let generation: Option<i64> = sqlx::query_scalar("SELECT generation FROM tenants WHERE tenant = ?")
            .bind(tenant.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(database)?;
        let generation = number(generation.unwrap_or(0))?;
        if let Some(stamp) = stamp {
            self.generations.put(stamp, tenant, generation);
        }
        Ok(generation)
    }

    async fn count_change(&self, tenant: &TenantId) -> Result<()> {
        let mut tx = self.write().await?;
        count_change(&mut tx, tenant).await?;
        tx.commit().await.map_err(database)
    }

    async fn stats(&self) -> Result<CatalogStats> {
        let counts: Vec<(String, i64)> =
            sqlx::query_as("SELECT status, count(*) FROM documents WHERE deleted = 0 GROUP BY status")
                .fetch_all(&self.readers)
                .await
                .map_err(database)?;
        let now = now();
        let oldest: Option<i64> = sqlx::query_scalar(
            "SELECT queued_at FROM documents WHERE status = 'processing' AND deleted = 0 AND lease_until <= ? \
             ORDER BY queued_at LIMIT 1",
        )
        .bind(now.timestamp_millis())
        .fetch_optional(&self.readers)
        .await
        .map_err(database)?;
        stats(counts, oldest, now)
    }
}

/// Counts a change of what questions of this tenant may see.
pub(super) async fn count_change(tx: &mut Transaction<'static, Sqlite>, tenant: &TenantId) -> Result<()> {
    sqlx::query(
        "INSERT INTO tenants (tenant, generation) VALUES (?, 1) \
         ON CONFLICT (tenant) DO UPDATE SET generation = generation + 1",
    )
    .bind(tenant.as_str())
    .execute(&mut **tx)
    .await
    .map_err(database)?;
    Ok(())
}

/// Removes a purged row and keeps its last version number.
pub(super) async fn retire(tx: &mut Transaction<'static, Sqlite>, row: &Row) -> Result<()> {
    let DocumentRecord { tenant, document_id, version, .. } = &row.record;
    sqlx::query(
        "INSERT OR REPLACE INTO retired_documents (tenant, id_sha256, last_version, retired_at) VALUES (?, ?, ?, ?)",
    )
    .bind(tenant.as_str())
    .bind(id_hash(document_id))
    .bind(integer(*version)?)
    .bind(now().timestamp_millis())
    .execute(&mut **tx)
    .await
    .map_err(database)?;
    sqlx::query("DELETE FROM documents WHERE tenant = ? AND document_id = ?")
        .bind(tenant.as_str())
        .bind(document_id.as_str())
        .execute(&mut **tx)
        .await
        .map_err(database)?;
    Ok(())
}

/// The last version that the id of a document had before it was purged; 0 where there is a `row`, which knows its own.
pub(super) async fn last_version(
    tx: &mut Transaction<'static, Sqlite>,
    row: Option<&Row>,
    tenant: &TenantId,
    document: &DocumentId,
) -> Result<Version> {
    if row.is_some() {
        return Ok(0);
    }
    let version: Option<i64> =
        sqlx::query_scalar("SELECT last_version FROM retired_documents WHERE tenant = ? AND id_sha256 = ?")
            .bind(tenant.as_str())
            .bind(id_hash(document))
            .fetch_optional(&mut **tx)
            .await
            .map_err(database)?;
    number(version.unwrap_or(0))
}

/// Saves a row whose readers may have changed.
pub(super) async fn store(tx: &mut Transaction<'static, Sqlite>, row: &Row) -> Result<()> {
    save(tx, row).await?;
    let DocumentRecord { tenant, document_id, readers, .. } = &row.record;
    sqlx::query("DELETE FROM document_readers WHERE tenant = ? AND document_id = ?")
        .bind(tenant.as_str())
        .bind(document_id.as_str())
        .execute(&mut **tx)
        .await
        .map_err(database)?;
    let readers: &[Principal] = if row.deleted { &[] } else { readers };
    sqlx::query("INSERT INTO document_readers (tenant, document_id, principal) SELECT ?, ?, value FROM json_each(?)")
        .bind(tenant.as_str())
        .bind(document_id.as_str())
        .bind(json(readers)?)
        .execute(&mut **tx)
        .await
        .map_err(database)?;
    Ok(())
}
