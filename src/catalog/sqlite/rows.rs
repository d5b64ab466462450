//! The table `documents` on SQLite.

use sqlx::{Sqlite, Transaction};

use super::database;
use crate::catalog::state::Row;
use crate::catalog::stored::{SAVE, StoredDocument};
use crate::document::{DocumentId, TenantId};
use crate::error::Result;

/// The row of a document, deleted or not.
pub(super) async fn load(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    document: &DocumentId,
) -> Result<Option<Row>> {
    let row: Option<StoredDocument> = sqlx::query_as("SELECT * FROM documents WHERE tenant = ? AND document_id = ?")
        .bind(tenant.as_str())
        .bind(document.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(database)?;
    row.map(StoredDocument::into_row).transpose()
}

/// Writes a whole row.
pub(super) async fn save(tx: &mut Transaction<'static, Sqlite>, row: &Row) -> Result<()> {
    let query = StoredDocument::of(row)?.bind(sqlx::query(SAVE.as_str()));
    query.execute(&mut **tx).await.map_err(database)?;
    Ok(())
}
