//! [`DocumentCatalog`] on SQLite.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use sqlx::{QueryBuilder, Sqlite, Transaction};

use super::idempotency::{is_done, mark_done};
use super::rows::{get, identifier, integer, load, named, natural, parse, record, save, time};
use super::{SqliteCatalog, database, json, now};
use crate::catalog::state::{Replace, Row};
use crate::catalog::{
    Attributes, AttributesPatch, CatalogStats, DocumentCatalog, DocumentRecord, Job, ListQuery, NewDocument, Put,
    PutMode, Visibility,
};
use crate::document::{DocumentId, Principal, TenantId, Version};
use crate::error::{Error, ErrorKind, Result};

#[async_trait]
impl DocumentCatalog for SqliteCatalog {
    async fn put(&self, document: NewDocument, mode: PutMode) -> Result<Put> {
        let mut tx = self.write().await?;
        let row = load(&mut tx, &document.tenant, &document.document_id).await?;
        let part = document.request;
        if let Some(part) = part
            && is_done(&mut tx, part).await?
        {
            let owner = (!document.as_admin).then_some(&document.owner);
            let row = row.filter(|row| row.belongs_to(owner));
            return row.map(|row| Put::Unchanged(row.record)).ok_or_else(|| Error::not_found("document"));
        }
        let put = write(&mut tx, row, document, mode).await?;
        if let Some(part) = part {
            mark_done(&mut tx, part).await?;
        }
        tx.commit().await.map_err(database)?;
        Ok(put)
    }

    async fn get(&self, tenant: &TenantId, document: &DocumentId) -> Result<Option<DocumentRecord>> {
        let row = sqlx::query("SELECT * FROM documents WHERE tenant = ? AND document_id = ? AND deleted = 0")
            .bind(tenant.as_str())
            .bind(document.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(database)?;
        row.as_ref().map(record).transpose()
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
        let rows = sql.build().fetch_all(&self.readers).await.map_err(database)?;
        rows.iter().map(record).collect()
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
        let rows = sqlx::query(
            "SELECT document_id, served_version, served_attributes FROM documents WHERE tenant = ? AND deleted = 0 \
             AND served_version IS NOT NULL AND document_id IN (SELECT value FROM json_each(?))",
        )
        .bind(tenant.as_str())
        .bind(json(documents)?)
        .fetch_all(&self.readers)
        .await
        .map_err(database)?;
        rows.iter()
            .map(|row| {
                let version = natural(get(row, "served_version")?)?;
                let attributes: Attributes = parse(get(row, "served_attributes")?)?;
                let visibility = Visibility { version, readers: attributes.readers };
                Ok((identifier(get(row, "document_id")?)?, visibility))
            })
            .collect()
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
        let generation = natural(generation.unwrap_or(0))?;
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
        let rows = sqlx::query("SELECT status, count(*) AS documents FROM documents WHERE deleted = 0 GROUP BY status")
            .fetch_all(&self.readers)
            .await
            .map_err(database)?;
        let by_status = rows
            .iter()
            .map(|row| Ok((named(get(row, "status")?)?, natural(get(row, "documents")?)?)))
            .collect::<Result<HashMap<_, _>>>()?;
        let now = now();
        let oldest = sqlx::query(
            "SELECT queued_at FROM documents WHERE status = 'processing' AND deleted = 0 AND lease_until <= ? \
             ORDER BY queued_at LIMIT 1",
        )
        .bind(now.timestamp_millis())
        .fetch_optional(&self.readers)
        .await
        .map_err(database)?;
        let oldest_queued = match oldest {
            Some(row) => Some((now - time(&row, "queued_at")?).to_std().unwrap_or_default()),
            None => None,
        };
        Ok(CatalogStats { by_status, oldest_queued })
    }
}

/// Writes a document in the place of what has its id.
async fn write(
    tx: &mut Transaction<'static, Sqlite>,
    row: Option<Row>,
    document: NewDocument,
    mode: PutMode,
) -> Result<Put> {
    match row {
        None => {
            let version = retired(tx, &document.tenant, &document.document_id).await? + 1;
            let row = Row::new(document, version, now());
            store(tx, &row).await?;
            Ok(Put::Created(row.record))
        }
        Some(mut row) if row.deleted => {
            row.recreate(document, now());
            store(tx, &row).await?;
            Ok(Put::Created(row.record))
        }
        Some(row) if row.record.owner != document.owner && !document.as_admin => Err(Error::not_found("document")),
        Some(_) if mode == PutMode::Create => {
            Err(Error::new(ErrorKind::Conflict, "a document of this id is there already"))
        }
        Some(mut row) => match row.replace(document, now()) {
            Replace::Unchanged => Ok(Put::Unchanged(row.record)),
            Replace::Patched => {
                store(tx, &row).await?;
                count_change(tx, &row.record.tenant).await?;
                Ok(Put::Patched(row.record))
            }
            Replace::Replaced { superseded, visible } => {
                store(tx, &row).await?;
                if visible {
                    count_change(tx, &row.record.tenant).await?;
                }
                Ok(Put::Replaced(row.record, superseded))
            }
        },
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
    .bind(hash(document_id))
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

/// The last version that an id had before its document was purged, else 0.
async fn retired(tx: &mut Transaction<'static, Sqlite>, tenant: &TenantId, document: &DocumentId) -> Result<Version> {
    let version: Option<i64> =
        sqlx::query_scalar("SELECT last_version FROM retired_documents WHERE tenant = ? AND id_sha256 = ?")
            .bind(tenant.as_str())
            .bind(hash(document))
            .fetch_optional(&mut **tx)
            .await
            .map_err(database)?;
    natural(version.unwrap_or(0))
}

fn hash(document: &DocumentId) -> Vec<u8> {
    Sha256::digest(document.as_str()).to_vec()
}

/// Saves a row whose readers may have changed.
async fn store(tx: &mut Transaction<'static, Sqlite>, row: &Row) -> Result<()> {
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
