//! Between the table `documents` and [`Row`].

use chrono::{DateTime, Utc};
use serde::de::value::{Error as NameError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row as _, Sqlite, Transaction, Type};
use uuid::Uuid;

use super::{database, json};
use crate::catalog::state::{Holder, Row};
use crate::catalog::{DocumentRecord, Progress, Served, Work};
use crate::document::{DocumentId, TenantId};
use crate::error::{Error, Result};

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Attributes => "attributes",
            Self::Cleanup => "cleanup",
            Self::Purge => "purge",
        }
    }

    fn of_name(name: &str) -> Result<Self> {
        [Self::Process, Self::Attributes, Self::Cleanup, Self::Purge]
            .into_iter()
            .find(|work| work.name() == name)
            .ok_or_else(|| damaged(format!("work {name}")))
    }
}

/// The row of a document, deleted or not.
pub(super) async fn load(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    document: &DocumentId,
) -> Result<Option<Row>> {
    let row = sqlx::query("SELECT * FROM documents WHERE tenant = ? AND document_id = ?")
        .bind(tenant.as_str())
        .bind(document.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(database)?;
    row.as_ref().map(decode).transpose()
}

/// Every column, in the order in which [`save`] binds them. Not `INSERT OR REPLACE`, which deletes the row first and with
/// it the document's readers.
const SAVE: &str = "INSERT INTO documents \
     (tenant, document_id, owner, readers, title, metadata, access_version, version, content, served_version, \
     served_content, served_chunks, served_attributes, status, stage, progress_done, progress_total, attempts, failure, created_at, \
     updated_at, deleted, needs_purge, needs_attributes, needs_cleanup, queued_at, not_before, stale_until, begun, setbacks, \
     garbage, lease_token, lease_work, lease_until, lease_garbage) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
     ON CONFLICT (tenant, document_id) DO UPDATE SET \
     (owner, readers, title, metadata, access_version, version, content, served_version, served_content, \
     served_chunks, served_attributes, status, stage, progress_done, progress_total, attempts, failure, created_at, updated_at, \
     deleted, needs_purge, needs_attributes, needs_cleanup, queued_at, not_before, stale_until, begun, setbacks, garbage, \
     lease_token, lease_work, lease_until, lease_garbage) = \
     (excluded.owner, excluded.readers, excluded.title, excluded.metadata, excluded.access_version, excluded.version, \
     excluded.content, excluded.served_version, excluded.served_content, excluded.served_chunks, excluded.served_attributes, excluded.status, \
     excluded.stage, excluded.progress_done, excluded.progress_total, excluded.attempts, excluded.failure, \
     excluded.created_at, excluded.updated_at, excluded.deleted, excluded.needs_purge, excluded.needs_attributes, \
     excluded.needs_cleanup, excluded.queued_at, excluded.not_before, excluded.stale_until, excluded.begun, excluded.setbacks, \
     excluded.garbage, excluded.lease_token, excluded.lease_work, excluded.lease_until, excluded.lease_garbage)";

/// Writes a whole row.
pub(super) async fn save(tx: &mut Transaction<'static, Sqlite>, row: &Row) -> Result<()> {
    let record = &row.record;
    let served = record.served.as_ref();
    let holder = row.holder.as_ref();
    sqlx::query(SAVE)
        .bind(record.tenant.as_str())
        .bind(record.document_id.as_str())
        .bind(record.owner.as_str())
        .bind(json(&record.readers)?)
        .bind(&record.title)
        .bind(json(&record.metadata)?)
        .bind(integer(record.access_version)?)
        .bind(integer(record.version)?)
        .bind(json(&record.content)?)
        .bind(served.map(|served| integer(served.version)).transpose()?)
        .bind(served.map(|served| json(&served.content)).transpose()?)
        .bind(served.map(|served| served.chunks))
        .bind(served.map(|served| json(&served.attributes)).transpose()?)
        .bind(record.status.as_str())
        .bind(record.stage.as_str())
        .bind(record.progress.done)
        .bind(record.progress.total)
        .bind(record.attempts)
        .bind(record.failure.as_ref().map(json).transpose()?)
        .bind(record.created_at.timestamp_millis())
        .bind(record.updated_at.timestamp_millis())
        .bind(row.deleted)
        .bind(row.needs_purge)
        .bind(row.needs_attributes)
        .bind(row.needs_cleanup)
        .bind(row.queued_at.timestamp_millis())
        .bind(row.not_before.timestamp_millis())
        .bind(row.stale_until.timestamp_millis())
        .bind(row.begun)
        .bind(row.setbacks)
        .bind(json(&row.garbage)?)
        .bind(holder.map(|holder| holder.token.to_string()))
        .bind(holder.map(|holder| holder.work.name()))
        .bind(holder.map_or(0, |holder| holder.until.timestamp_millis()))
        .bind(holder.map_or(Ok(0), |holder| integer(holder.garbage as u64))?)
        .execute(&mut **tx)
        .await
        .map_err(database)?;
    Ok(())
}

/// A row as the queue sees it.
pub(super) fn decode(row: &SqliteRow) -> Result<Row> {
    let token: Option<String> = get(row, "lease_token")?;
    let holder = match token {
        Some(token) => Some(Holder {
            token: Uuid::parse_str(&token).map_err(damaged)?,
            work: Work::of_name(get(row, "lease_work")?)?,
            until: time(row, "lease_until")?,
            garbage: get::<i64>(row, "lease_garbage")?.try_into().map_err(damaged)?,
        }),
        None => None,
    };
    Ok(Row {
        record: record(row)?,
        deleted: get(row, "deleted")?,
        needs_purge: get(row, "needs_purge")?,
        needs_attributes: get(row, "needs_attributes")?,
        needs_cleanup: get(row, "needs_cleanup")?,
        queued_at: time(row, "queued_at")?,
        not_before: time(row, "not_before")?,
        stale_until: time(row, "stale_until")?,
        begun: get(row, "begun")?,
        setbacks: get(row, "setbacks")?,
        garbage: parse(get(row, "garbage")?)?,
        holder,
    })
}

/// A row as everybody sees it.
pub(super) fn record(row: &SqliteRow) -> Result<DocumentRecord> {
    let served = match get::<Option<i64>>(row, "served_version")? {
        Some(version) => Some(Served {
            version: natural(version)?,
            content: parse(get(row, "served_content")?)?,
            chunks: get(row, "served_chunks")?,
            attributes: parse(get(row, "served_attributes")?)?,
        }),
        None => None,
    };
    Ok(DocumentRecord {
        tenant: identifier(get(row, "tenant")?)?,
        document_id: identifier(get(row, "document_id")?)?,
        owner: identifier(get(row, "owner")?)?,
        readers: parse(get(row, "readers")?)?,
        title: get(row, "title")?,
        metadata: parse(get(row, "metadata")?)?,
        access_version: natural(get(row, "access_version")?)?,
        version: natural(get(row, "version")?)?,
        content: parse(get(row, "content")?)?,
        served,
        status: named(get(row, "status")?)?,
        stage: named(get(row, "stage")?)?,
        progress: Progress { done: get(row, "progress_done")?, total: get(row, "progress_total")? },
        attempts: get(row, "attempts")?,
        failure: get::<Option<&str>>(row, "failure")?.map(parse).transpose()?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

/// A column.
pub(super) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(row: &'r SqliteRow, column: &str) -> Result<T> {
    row.try_get(column).map_err(database)
}

/// A column that is a moment.
pub(super) fn time(row: &SqliteRow, column: &str) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_millis(get(row, column)?).ok_or_else(|| damaged(format!("time in {column}")))
}

/// A column that is JSON.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(damaged)
}

/// An identifier; it was checked before it was written.
pub(super) fn identifier<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<T> {
    text.parse().map_err(damaged)
}

/// A value of one of our enumerations, by the name that serde gives it.
pub(super) fn named<T: DeserializeOwned>(name: &str) -> Result<T> {
    let name: StrDeserializer<'_, NameError> = name.into_deserializer();
    T::deserialize(name).map_err(damaged)
}

/// A counter as SQLite stores it.
pub(super) fn integer(number: u64) -> Result<i64> {
    number.try_into().map_err(damaged)
}

/// A counter as SQLite stored it.
pub(super) fn natural(number: i64) -> Result<u64> {
    number.try_into().map_err(damaged)
}

/// What cannot be read was not written by this program.
pub(super) fn damaged(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("the catalog holds a row that cannot be read", what)
}
