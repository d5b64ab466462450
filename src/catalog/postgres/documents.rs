//! [`DocumentCatalog`] on PostgreSQL.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};

use super::error::database;
use super::idempotency::mark_done;
use super::rows::{count_change, last_version, load, load_or_reserve, readable, save, store};
use super::{NOW, PostgresCatalog, Tx, abandon, commit};
use crate::catalog::state::{self, Row};
use crate::catalog::stored::{StoredDocument, moment, number, stats, visibility};
use crate::catalog::{
    AttributesPatch, CatalogStats, DocumentCatalog, DocumentRecord, Job, ListQuery, NewDocument, Put, PutMode,
    Visibility,
};
use crate::document::{DocumentId, Principal, TenantId};
use crate::error::Result;

#[async_trait]
impl DocumentCatalog for PostgresCatalog {
    async fn put(&self, document: NewDocument, mode: PutMode) -> Result<Put> {
        self.run(|| self.put_once(document.clone(), mode)).await
    }

    async fn get(&self, tenant: &TenantId, document: &DocumentId) -> Result<Option<DocumentRecord>> {
        self.run(|| async {
            let mut tx = self.read().await?;
            let row: Option<StoredDocument> =
                sqlx::query_as("SELECT * FROM documents WHERE tenant = $1 AND document_id = $2 AND NOT deleted")
                    .bind(tenant.as_str())
                    .bind(document.as_str())
                    .fetch_optional(&mut *tx)
                    .await
                    .map_err(database)?;
            row.map(|row| readable(row)?.into_record()).transpose()
        })
        .await
    }

    async fn list(&self, tenant: &TenantId, query: ListQuery) -> Result<Vec<DocumentRecord>> {
        if query.scope.as_ref().is_some_and(|scope| scope.tenant() != tenant) {
            return Ok(Vec::new());
        }
        self.run(|| async {
            let mut tx = self.read().await?;
            let rows: Vec<StoredDocument> =
                list_sql(tenant, &query).build_query_as().fetch_all(&mut *tx).await.map_err(database)?;
            rows.into_iter().map(|row| readable(row)?.into_record()).collect()
        })
        .await
    }

    async fn patch(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        owner: Option<&Principal>,
        patch: AttributesPatch,
    ) -> Result<Option<DocumentRecord>> {
        self.run(|| async {
            let Some((mut tx, now, mut row)) = self.owned(tenant, document, owner).await? else { return Ok(None) };
            if !row.patch(patch.clone(), now) {
                return abandon(tx, Ok(Some(row.record))).await;
            }
            store(&mut tx, &row).await?;
            count_change(&mut tx, tenant).await?;
            commit(tx).await?;
            Ok(Some(row.record))
        })
        .await
    }

    async fn tombstone(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        owner: Option<&Principal>,
        lease: Duration,
    ) -> Result<Option<Job>> {
        self.run(|| async {
            let Some((mut tx, now, mut row)) = self.owned(tenant, document, owner).await? else { return Ok(None) };
            let job = row.tombstone(lease, now);
            store(&mut tx, &row).await?;
            count_change(&mut tx, tenant).await?;
            commit(tx).await?;
            Ok(Some(job))
        })
        .await
    }

    async fn retry(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        owner: Option<&Principal>,
    ) -> Result<Option<DocumentRecord>> {
        self.run(|| async {
            let Some((mut tx, now, mut row)) = self.owned(tenant, document, owner).await? else { return Ok(None) };
            if let Err(error) = row.retry(now) {
                return abandon(tx, Err(error)).await;
            }
            save(&mut tx, &row).await?;
            commit(tx).await?;
            Ok(Some(row.record))
        })
        .await
    }

    async fn visibility(&self, tenant: &TenantId, documents: &[DocumentId]) -> Result<HashMap<DocumentId, Visibility>> {
        if documents.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<&str> = documents.iter().map(DocumentId::as_str).collect();
        self.run(|| async {
            let mut tx = self.read().await?;
            let rows = sqlx::query_as(
                "SELECT document_id, served_version, served_attributes FROM documents \
                 WHERE tenant = $1 AND NOT deleted AND served_version IS NOT NULL AND document_id = ANY ($2)",
            )
            .bind(tenant.as_str())
            .bind(&ids)
            .fetch_all(&mut *tx)
            .await
            .map_err(database)?;
            rows.into_iter().map(visibility).collect()
        })
        .await
    }

    async fn generation(&self, tenant: &TenantId) -> Result<u64> {
        self.run(|| async {
            let mut tx = self.read().await?;
            let generation: Option<i64> = sqlx::query_scalar("SELECT generation FROM tenants WHERE tenant = $1")
                .bind(tenant.as_str())
                .fetch_optional(&mut *tx)
                .await
                .map_err(database)?;
            number(generation.unwrap_or(0))
        })
        .await
    }

    async fn count_change(&self, tenant: &TenantId) -> Result<()> {
        self.run(|| async {
            let (mut tx, _) = self.write().await?;
            count_change(&mut tx, tenant).await?;
            commit(tx).await
        })
        .await
    }

    async fn stats(&self) -> Result<CatalogStats> {
        self.run(|| async {
            let mut tx = self.read().await?;
            let counts = sqlx::query_as("SELECT status, count(*) FROM documents WHERE NOT deleted GROUP BY status")
                .fetch_all(&mut *tx)
                .await
                .map_err(database)?;
            let now: i64 = sqlx::query_scalar(NOW).fetch_one(&mut *tx).await.map_err(database)?;
            let oldest = sqlx::query_scalar(
                "SELECT queued_at FROM documents WHERE status = 'processing' AND NOT deleted AND lease_until <= $1 \
                 ORDER BY queued_at LIMIT 1",
            )
            .bind(now)
            .fetch_optional(&mut *tx)
            .await
            .map_err(database)?;
            stats(counts, oldest, moment(now)?)
        })
        .await
    }
}

impl PostgresCatalog {
    async fn put_once(&self, document: NewDocument, mode: PutMode) -> Result<Put> {
        let (mut tx, now) = self.write().await?;
        // Noted first, so that a second try of the same part waits here for the end of the first.
        let done_before = match document.request {
            Some(part) => !mark_done(&mut tx, part).await?,
            None => false,
        };
        let row = load_or_reserve(&mut tx, &document).await?;
        if done_before {
            return abandon(tx, state::done_before(row, &document)).await;
        }
        let last_version = last_version(&mut tx, row.as_ref(), &document.tenant, &document.document_id).await?;
        let tenant = document.tenant.clone();
        let decided = match state::put(row, last_version, document, mode, now) {
            Ok(decided) => decided,
            Err(error) => return abandon(tx, Err(error)).await,
        };
        if let Some(row) = &decided.row {
            store(&mut tx, row).await?;
        }
        if decided.visible {
            count_change(&mut tx, &tenant).await?;
        }
        commit(tx).await?;
        Ok(decided.put)
    }

    /// The row of an owner's document, in a transaction with its time.
    async fn owned(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        owner: Option<&Principal>,
    ) -> Result<Option<(Tx, DateTime<Utc>, Row)>> {
        let (mut tx, now) = self.write().await?;
        match load(&mut tx, tenant, document).await?.filter(|row| row.belongs_to(owner)) {
            Some(row) => Ok(Some((tx, now, row))),
            None => abandon(tx, Ok(None)).await,
        }
    }
}

fn list_sql(tenant: &TenantId, query: &ListQuery) -> QueryBuilder<Postgres> {
    let after = query.after.as_ref().map_or("", DocumentId::as_str);
    let mut sql = QueryBuilder::new("SELECT * FROM documents WHERE NOT deleted AND tenant = ");
    sql.push_bind(tenant.as_str()).push(" AND document_id > ").push_bind(after);
    if let Some(status) = query.status {
        sql.push(" AND status = ").push_bind(status.as_str());
    }
    if let Some(scope) = &query.scope {
        let principals: Vec<&str> = scope.principals().iter().map(Principal::as_str).collect();
        sql.push(" AND document_id IN (SELECT document_id FROM document_readers WHERE tenant = ")
            .push_bind(tenant.as_str())
            .push(" AND principal = ANY (")
            .push_bind(principals)
            .push(") AND document_id > ")
            .push_bind(after)
            .push(")");
    }
    sql.push(" ORDER BY document_id LIMIT ").push_bind(i64::from(query.limit));
    sql
}
