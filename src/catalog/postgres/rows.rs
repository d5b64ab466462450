//! The tables `documents`, `document_readers`, `retired_documents` and `tenants` on PostgreSQL.

use sha2::{Digest, Sha256};

use super::Tx;
use super::error::database;
use crate::catalog::state::Row;
use crate::catalog::stored::{SAVE, StoredDocument, id_hash, integer, json, number, parse};
use crate::catalog::{DocumentRecord, NewDocument};
use crate::document::{DocumentId, Principal, TenantId, Version};
use crate::error::Result;

/// A stored row whose texts are as people chose them.
pub(super) fn readable(mut stored: StoredDocument) -> Result<StoredDocument> {
    stored.title = parse(&stored.title)?;
    Ok(stored)
}

/// The row of a document, deleted or not, which nobody else changes before the end of the transaction.
pub(super) async fn load(tx: &mut Tx, tenant: &TenantId, document: &DocumentId) -> Result<Option<Row>> {
    let row: Option<StoredDocument> =
        sqlx::query_as("SELECT * FROM documents WHERE tenant = $1 AND document_id = $2 FOR UPDATE")
            .bind(tenant.as_str())
            .bind(document.as_str())
            .fetch_optional(&mut **tx)
            .await
            .map_err(database)?;
    row.map(|row| readable(row)?.into_row()).transpose()
}

/// The same; where there is none, nobody else makes one before the end of the transaction by this function.
pub(super) async fn load_or_reserve(tx: &mut Tx, document: &NewDocument) -> Result<Option<Row>> {
    let NewDocument { tenant, document_id, .. } = document;
    if let Some(row) = load(tx, tenant, document_id).await? {
        return Ok(Some(row));
    }
    // There is no row to lock, so its name is. Two names of one number wait for each other and nothing worse.
    let name = Sha256::digest(format!("{}\n{}", tenant.as_str(), document_id.as_str()));
    let number = name.iter().take(8).fold(0, |number: i64, byte| (number << 8) | i64::from(*byte));
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(number).execute(&mut **tx).await.map_err(database)?;
    load(tx, tenant, document_id).await
}

/// Writes a whole row.
pub(super) async fn save(tx: &mut Tx, row: &Row) -> Result<()> {
    let mut stored = StoredDocument::of(row)?;
    stored.title = json(&stored.title)?;
    stored.bind(sqlx::query(SAVE.as_str())).execute(&mut **tx).await.map_err(database)?;
    Ok(())
}

/// Saves a row whose readers may have changed.
pub(super) async fn store(tx: &mut Tx, row: &Row) -> Result<()> {
    save(tx, row).await?;
    let DocumentRecord { tenant, document_id, readers, .. } = &row.record;
    sqlx::query("DELETE FROM document_readers WHERE tenant = $1 AND document_id = $2")
        .bind(tenant.as_str())
        .bind(document_id.as_str())
        .execute(&mut **tx)
        .await
        .map_err(database)?;
    let readers: &[Principal] = if row.deleted { &[] } else { readers };
    sqlx::query("INSERT INTO document_readers (tenant, document_id, principal) SELECT $1, $2, unnest($3::text[])")
        .bind(tenant.as_str())
        .bind(document_id.as_str())
        .bind(readers.iter().map(Principal::as_str).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await
        .map_err(database)?;
    Ok(())
}

/// Counts a change of what questions of this tenant may see. Last in its transaction: others of the tenant wait for it.
pub(super) async fn count_change(tx: &mut Tx, tenant: &TenantId) -> Result<()> {
    sqlx::query(
        "INSERT INTO tenants (tenant, generation) VALUES ($1, 1) \
         ON CONFLICT (tenant) DO UPDATE SET generation = tenants.generation + 1",
    )
    .bind(tenant.as_str())
    .execute(&mut **tx)
    .await
    .map_err(database)?;
    Ok(())
}

/// Removes a purged row and keeps its last version number.
pub(super) async fn retire(tx: &mut Tx, row: &Row, now: i64) -> Result<()> {
    let DocumentRecord { tenant, document_id, version, .. } = &row.record;
    sqlx::query(
        "INSERT INTO retired_documents (tenant, id_sha256, last_version, retired_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant, id_sha256) DO UPDATE \
         SET last_version = excluded.last_version, retired_at = excluded.retired_at",
    )
    .bind(tenant.as_str())
    .bind(id_hash(document_id))
    .bind(integer(*version)?)
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(database)?;
    sqlx::query("DELETE FROM documents WHERE tenant = $1 AND document_id = $2")
        .bind(tenant.as_str())
        .bind(document_id.as_str())
        .execute(&mut **tx)
        .await
        .map_err(database)?;
    Ok(())
}

/// The last version that the id of a document had before it was purged; 0 where there is a `row`, which knows its own.
pub(super) async fn last_version(
    tx: &mut Tx,
    row: Option<&Row>,
    tenant: &TenantId,
    document: &DocumentId,
) -> Result<Version> {
    if row.is_some() {
        return Ok(0);
    }
    let version: Option<i64> =
        sqlx::query_scalar("SELECT last_version FROM retired_documents WHERE tenant = $1 AND id_sha256 = $2")
            .bind(tenant.as_str())
            .bind(id_hash(document))
            .fetch_optional(&mut **tx)
            .await
            .map_err(database)?;
    number(version.unwrap_or(0))
}
