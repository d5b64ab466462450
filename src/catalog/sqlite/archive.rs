//! [`Archive`] on SQLite.

use std::time::Duration;

use async_trait::async_trait;

use super::documents::{count_change, last_version, store};
use super::rows::{load, save};
use super::{SqliteCatalog, database, now};
use crate::catalog::state;
use crate::catalog::stored::{StoredDocument, StoredKey};
use crate::catalog::{Archive, DocumentRecord, Job, KeyRecord, NewDocument, Restore};
use crate::document::{DocumentId, TenantId};
use crate::error::Result;

#[async_trait]
impl Archive for SqliteCatalog {
    async fn all_documents(&self, after: Option<&(TenantId, DocumentId)>, limit: u32) -> Result<Vec<DocumentRecord>> {
        let (tenant, document) = after.map_or(("", ""), |(tenant, document)| (tenant.as_str(), document.as_str()));
        let rows: Vec<StoredDocument> = sqlx::query_as(
            "SELECT * FROM documents WHERE deleted = 0 AND (tenant, document_id) > (?, ?) \
             ORDER BY tenant, document_id LIMIT ?",
        )
        .bind(tenant)
        .bind(document)
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(database)?;
        rows.into_iter().map(StoredDocument::into_record).collect()
    }

    async fn all_keys(&self, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>> {
        let rows: Vec<StoredKey> = sqlx::query_as("SELECT * FROM api_keys WHERE id > ? ORDER BY id LIMIT ?")
            .bind(after.unwrap_or(""))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(database)?;
        rows.into_iter().map(StoredKey::into_record).collect()
    }

    async fn restore(&self, document: &Restore, lease: Duration) -> Result<Option<Job>> {
        let NewDocument { tenant, document_id, .. } = &document.document;
        let mut tx = self.write().await?;
        let row = load(&mut tx, tenant, document_id).await?;
        let last_version = last_version(&mut tx, row.as_ref(), tenant, document_id).await?;
        let restored = state::restore(row, last_version, document.clone(), lease, now())?;
        store(&mut tx, &restored.row).await?;
        if restored.visible {
            count_change(&mut tx, tenant).await?;
        }
        tx.commit().await.map_err(database)?;
        Ok(restored.job)
    }

    async fn rebuild(&self, tenant: &TenantId, document: &DocumentId) -> Result<bool> {
        let mut tx = self.write().await?;
        let Some(mut row) = load(&mut tx, tenant, document).await? else { return Ok(false) };
        if !row.rebuild(now()) {
            return Ok(false);
        }
        save(&mut tx, &row).await?;
        count_change(&mut tx, tenant).await?;
        tx.commit().await.map_err(database)?;
        Ok(true)
    }
}
