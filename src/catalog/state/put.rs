//! What a put makes of what has its id.

use chrono::{DateTime, Utc};

use super::{Replace, Row};
use crate::catalog::{NewDocument, Put, PutMode};
use crate::document::Version;
use crate::error::{Error, ErrorKind, Result};

/// A put that is decided, and what is to be written for it.
#[derive(Debug)]
pub(in crate::catalog) struct Decided {
    /// What it did.
    pub(in crate::catalog) put: Put,
    /// The row to save, readers and all, if anything changed.
    pub(in crate::catalog) row: Option<Row>,
    /// What questions may see has changed.
    pub(in crate::catalog) visible: bool,
}

impl Decided {
    fn written(put: Put, row: Row, visible: bool) -> Self {
        Self { put, row: Some(row), visible }
    }
}

/// Decides a put; `row` is what has the id, `last_version` the last version that it had where there is no row.
pub(in crate::catalog) fn put(
    row: Option<Row>,
    last_version: Version,
    document: NewDocument,
    mode: PutMode,
    now: DateTime<Utc>,
) -> Result<Decided> {
    match row {
        None => {
            let row = Row::new(document, last_version + 1, now);
            Ok(Decided::written(Put::Created(row.record.clone()), row, false))
        }
        Some(mut row) if row.deleted => {
            row.recreate(document, now);
            Ok(Decided::written(Put::Created(row.record.clone()), row, false))
        }
        Some(row) if row.record.owner != document.owner && !document.as_admin => Err(Error::not_found("document")),
        Some(_) if mode == PutMode::Create => {
            Err(Error::new(ErrorKind::Conflict, "a document of this id is there already"))
        }
        Some(mut row) => Ok(match row.replace(document, now) {
            Replace::Unchanged => Decided { put: Put::Unchanged(row.record), row: None, visible: false },
            Replace::Patched => Decided::written(Put::Patched(row.record.clone()), row, true),
            Replace::Replaced { superseded, visible } => {
                Decided::written(Put::Replaced(row.record.clone(), superseded), row, visible)
            }
        }),
    }
}

/// A put whose part of a request is done already: the document that is there now.
pub(in crate::catalog) fn done_before(row: Option<Row>, document: &NewDocument) -> Result<Put> {
    let owner = (!document.as_admin).then_some(&document.owner);
    let row = row.filter(|row| row.belongs_to(owner));
    row.map(|row| Put::Unchanged(row.record)).ok_or_else(|| Error::not_found("document"))
}
