//! Rows of documents as every database has them: one column a field, of types that all databases know. Times are
//! milliseconds since 1970, 0 for "never"; lists, metadata and what has parts of its own are JSON.

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use sqlx::query::Query;
use sqlx::{ColumnIndex, Database, Decode, Encode, FromRow, Type};
use uuid::Uuid;

use super::state::{Holder, Row};
use super::{Attributes, CatalogStats, DocumentRecord, Progress, Served, Visibility, Work};
use crate::document::DocumentId;
use crate::error::Result;
pub(super) use keys::{INSERT_KEY, StoredKey, StoredKeyPatch};
pub(super) use values::{damaged, identifier, integer, json, moment, named, number, parse};

/// A table's row, its columns, and how they are read and bound, so that none of them can miss what the others have.
macro_rules! stored {
    ($(#[$doc:meta])* $name:ident { $($column:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(in crate::catalog) struct $name {
            $(pub(in crate::catalog) $column: $type,)*
        }

        impl $name {
            /// Every column, in the order in which they are bound.
            const COLUMNS: &[&str] = &[$(stringify!($column)),*];

            /// Binds every column.
            pub(in crate::catalog) fn bind<DB: Database>(
                self,
                query: Query<'_, DB, DB::Arguments>,
            ) -> Query<'_, DB, DB::Arguments>
            where
                bool: Type<DB> + for<'t> Encode<'t, DB>,
                i64: Type<DB> + for<'t> Encode<'t, DB>,
                String: Type<DB> + for<'t> Encode<'t, DB>,
                Vec<u8>: Type<DB> + for<'t> Encode<'t, DB>,
                Option<i64>: for<'t> Encode<'t, DB>,
                Option<String>: for<'t> Encode<'t, DB>,
            {
                query$(.bind(self.$column))*
            }
        }

        impl<'r, R: sqlx::Row> FromRow<'r, R> for $name
        where
            &'static str: ColumnIndex<R>,
            bool: Type<R::Database> + Decode<'r, R::Database>,
            i64: Type<R::Database> + Decode<'r, R::Database>,
            String: Type<R::Database> + Decode<'r, R::Database>,
            Vec<u8>: Type<R::Database> + Decode<'r, R::Database>,
        {
            fn from_row(row: &'r R) -> sqlx::Result<Self> {
                Ok(Self { $($column: row.try_get(stringify!($column))?,)* })
            }
        }
    };
}

mod keys;
mod values;

stored! {
    /// A row of the table `documents`.
    StoredDocument {
        tenant: String,
        document_id: String,
        owner: String,
        readers: String,
        title: String,
        metadata: String,
        access_version: i64,
        version: i64,
        content: String,
        served_version: Option<i64>,
        served_content: Option<String>,
        served_chunks: Option<i64>,
        served_attributes: Option<String>,
        status: String,
        stage: String,
        progress_done: i64,
        progress_total: i64,
        attempts: i64,
        failure: Option<String>,
        created_at: i64,
        updated_at: i64,
        deleted: bool,
        needs_purge: bool,
        needs_attributes: bool,
        needs_cleanup: bool,
        queued_at: i64,
        not_before: i64,
        stale_until: i64,
        begun: i64,
        setbacks: i64,
        garbage: String,
        lease_token: Option<String>,
        lease_work: Option<String>,
        lease_until: i64,
        lease_garbage: i64,
    }
}

/// The statement that writes a whole row, new or not. Never one that deletes the row first, and with it the document's
/// readers.
pub(super) static SAVE: LazyLock<String> = LazyLock::new(|| {
    let columns = StoredDocument::COLUMNS;
    let changes: Vec<String> = columns.iter().skip(2).map(|column| format!("{column} = excluded.{column}")).collect();
    let insert = insert_sql("documents", columns);
    format!("{insert} ON CONFLICT (tenant, document_id) DO UPDATE SET {}", changes.join(", "))
});

/// The statement that writes a new row; names are quoted, for some are words of SQL.
fn insert_sql(table: &str, columns: &[&str]) -> String {
    let names: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
    let values: Vec<String> = (1..=columns.len()).map(|place| format!("${place}")).collect();
    format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", "))
}

impl StoredDocument {
    /// A row to be written.
    pub(super) fn of(row: &Row) -> Result<Self> {
        let record = &row.record;
        let served = record.served.as_ref();
        let holder = row.holder.as_ref();
        Ok(Self {
            tenant: record.tenant.as_str().to_owned(),
            document_id: record.document_id.as_str().to_owned(),
            owner: record.owner.as_str().to_owned(),
            readers: json(&record.readers)?,
            title: record.title.clone(),
            metadata: json(&record.metadata)?,
            access_version: integer(record.access_version)?,
            version: integer(record.version)?,
            content: json(&record.content)?,
            served_version: served.map(|served| integer(served.version)).transpose()?,
            served_content: served.map(|served| json(&served.content)).transpose()?,
            served_chunks: served.map(|served| served.chunks.into()),
            served_attributes: served.map(|served| json(&served.attributes)).transpose()?,
            status: record.status.as_str().to_owned(),
            stage: record.stage.as_str().to_owned(),
            progress_done: record.progress.done.into(),
            progress_total: record.progress.total.into(),
            attempts: record.attempts.into(),
            failure: record.failure.as_ref().map(json).transpose()?,
            created_at: record.created_at.timestamp_millis(),
            updated_at: record.updated_at.timestamp_millis(),
            deleted: row.deleted,
            needs_purge: row.needs_purge,
            needs_attributes: row.needs_attributes,
            needs_cleanup: row.needs_cleanup,
            queued_at: row.queued_at.timestamp_millis(),
            not_before: row.not_before.timestamp_millis(),
            stale_until: row.stale_until.timestamp_millis(),
            begun: row.begun.into(),
            setbacks: row.setbacks.into(),
            garbage: json(&row.garbage)?,
            lease_token: holder.map(|holder| holder.token.to_string()),
            lease_work: holder.map(|holder| holder.work.name().to_owned()),
            lease_until: holder.map_or(0, |holder| holder.until.timestamp_millis()),
            lease_garbage: holder.map_or(Ok(0), |holder| integer(holder.garbage as u64))?,
        })
    }

    /// The row as the queue sees it.
    pub(super) fn into_row(self) -> Result<Row> {
        let holder = match &self.lease_token {
            Some(token) => Some(Holder {
                token: Uuid::parse_str(token).map_err(damaged)?,
                work: Work::of_name(self.lease_work.as_deref().unwrap_or_default())?,
                until: moment(self.lease_until)?,
                garbage: number(self.lease_garbage)?,
            }),
            None => None,
        };
        Ok(Row {
            deleted: self.deleted,
            needs_purge: self.needs_purge,
            needs_attributes: self.needs_attributes,
            needs_cleanup: self.needs_cleanup,
            queued_at: moment(self.queued_at)?,
            not_before: moment(self.not_before)?,
            stale_until: moment(self.stale_until)?,
            begun: number(self.begun)?,
            setbacks: number(self.setbacks)?,
            garbage: parse(&self.garbage)?,
            holder,
            record: self.into_record()?,
        })
    }

    /// The row as everybody sees it.
    pub(super) fn into_record(self) -> Result<DocumentRecord> {
        let served = match self.served_version {
            Some(version) => Some(Served {
                version: number(version)?,
                content: parse(self.served_content.as_deref().unwrap_or_default())?,
                chunks: number(self.served_chunks.unwrap_or_default())?,
                attributes: parse(self.served_attributes.as_deref().unwrap_or_default())?,
            }),
            None => None,
        };
        Ok(DocumentRecord {
            tenant: identifier(&self.tenant)?,
            document_id: identifier(&self.document_id)?,
            owner: identifier(&self.owner)?,
            readers: parse(&self.readers)?,
            title: self.title,
            metadata: parse(&self.metadata)?,
            access_version: number(self.access_version)?,
            version: number(self.version)?,
            content: parse(&self.content)?,
            served,
            status: named(&self.status)?,
            stage: named(&self.stage)?,
            progress: Progress { done: number(self.progress_done)?, total: number(self.progress_total)? },
            attempts: number(self.attempts)?,
            failure: self.failure.as_deref().map(parse).transpose()?,
            created_at: moment(self.created_at)?,
            updated_at: moment(self.updated_at)?,
        })
    }
}

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

/// The columns `document_id`, `served_version` and `served_attributes` of a served document.
pub(super) fn visibility((id, version, attributes): (String, i64, String)) -> Result<(DocumentId, Visibility)> {
    let attributes: Attributes = parse(&attributes)?;
    Ok((identifier(&id)?, Visibility { version: number(version)?, readers: attributes.readers }))
}

/// The metrics of these statuses and their counts, and of the time since when the oldest waiting document waits.
pub(super) fn stats(counts: Vec<(String, i64)>, oldest: Option<i64>, now: DateTime<Utc>) -> Result<CatalogStats> {
    let by_status = counts
        .iter()
        .map(|(status, count)| Ok((named(status)?, number(*count)?)))
        .collect::<Result<HashMap<_, _>>>()?;
    let oldest_queued = match oldest {
        Some(since) => Some((now - moment(since)?).to_std().unwrap_or_default()),
        None => None,
    };
    Ok(CatalogStats { by_status, oldest_queued })
}

/// What is kept of the id of a document that is purged: its SHA-256.
pub(super) fn id_hash(document: &DocumentId) -> Vec<u8> {
    Sha256::digest(document.as_str()).to_vec()
}
