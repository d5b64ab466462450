//! [`Archive`] on PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;

use super::error::database;
use super::keys::record;
use super::rows::{count_change, last_version, load, load_or_reserve, readable, save, store};
use super::{PostgresCatalog, abandon, commit};
use crate::catalog::state;
use crate::catalog::stored::{StoredDocument, StoredKey};
use crate::catalog::{Archive, DocumentRecord, Job, KeyRecord, NewDocument, Restore};
use crate::document::{DocumentId, TenantId};
use crate::error::Result;

#[async_trait]
impl Archive for PostgresCatalog {
    async fn all_documents(&self, after: Option<&(TenantId, DocumentId)>, limit: u32) -> Result<Vec<DocumentRecord>> {
        let (tenant, document) = after.map_or(("", ""), |(tenant, document)| (tenant.as_str(), document.as_str()));
        self.run(|| async {
            let mut tx = self.read().await?;
            let rows: Vec<StoredDocument> = sqlx::query_as(
                "SELECT * FROM documents WHERE NOT deleted AND (tenant, document_id) > ($1, $2) \
                 ORDER BY tenant, document_id LIMIT $3",
            )
            .bind(tenant)
            .bind(document)
            .bind(i64::from(limit))
            .fetch_all(&mut *tx)
            .await
            .map_err(database)?;
            rows.into_iter().map(|row| readable(row)?.into_record()).collect()
        })
        .await
    }

    async fn all_keys(&self, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>> {
        self.run(|| async {
            let mut tx = self.read().await?;
            let rows: Vec<StoredKey> = sqlx::query_as("SELECT * FROM api_keys WHERE id > $1 ORDER BY id LIMIT $2")
                .bind(after.unwrap_or(""))
                .bind(i64::from(limit))
                .fetch_all(&mut *tx)
                .await
                .map_err(database)?;
            rows.into_iter().map(record).collect()
        })
        .await
    }

    async fn restore(&self, document: &Restore, lease: Duration) -> Result<Option<Job>> {
        let NewDocument { tenant, document_id, .. } = &document.document;
        self.run(|| async {
            let (mut tx, now) = self.write().await?;
            let row = load_or_reserve(&mut tx, &document.document).await?;
            let last_version = last_version(&mut tx, row.as_ref(), tenant, document_id).await?;
            let restored = match state::restore(row, last_version, document.clone(), lease, now) {
                Ok(restored) => restored,
                Err(error) => return abandon(tx, Err(error)).await,
            };
            store(&mut tx, &restored.row).await?;
            if restored.visible {
                count_change(&mut tx, tenant).await?;
            }
            commit(tx).await?;
            Ok(restored.job)
        })
        .await
    }

    async fn rebuild(&self, tenant: &TenantId, document: &DocumentId) -> Result<bool> {
        self.run(|| async {
            let (mut tx, now) = self.write().await?;
            let Some(mut row) = load(&mut tx, tenant, document).await? else { return abandon(tx, Ok(false)).await };
            if !row.rebuild(now) {
                return abandon(tx, Ok(false)).await;
            }
            save(&mut tx, &row).await?;
            count_change(&mut tx, tenant).await?;
            commit(tx).await?;
            Ok(true)
        })
        .await
    }
}
