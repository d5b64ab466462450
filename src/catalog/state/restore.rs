//! What backups do to a row: an imported document is written and held until its points are there; one whose points are
//! to be made anew is queued.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Row;
use crate::catalog::{AttributesPatch, Job, PutMode, Restore, Status, Work};
use crate::document::Version;
use crate::error::{Error, ErrorKind, Result};

/// A document of an export that is to be written.
#[derive(Debug)]
pub(in crate::catalog) struct Restored {
    /// The row to save, readers and all.
    pub(in crate::catalog) row: Row,
    /// The importer's right to it.
    pub(in crate::catalog) job: Option<Job>,
    /// What questions may see has changed.
    pub(in crate::catalog) visible: bool,
}

/// Writes what an export holds over what has its id; `last_version` as in [`super::put()`].
pub(in crate::catalog) fn restore(
    row: Option<Row>,
    last_version: Version,
    restore: Restore,
    lease: Duration,
    now: DateTime<Utc>,
) -> Result<Restored> {
    let Restore { document, mode, version, created_at } = restore;
    let (mut row, visible) = match row {
        None => (Row::new(document, last_version + 1, now), false),
        Some(mut row) if row.deleted => {
            row.recreate(document, now);
            (row, false)
        }
        Some(_) if mode == PutMode::Create => {
            return Err(Error::new(ErrorKind::Conflict, "a document of this id is there already"));
        }
        Some(mut row) => {
            row.record.owner = document.owner;
            // Nobody reads it because he could read what was there.
            let readers = Some(document.readers.unwrap_or_default());
            let patch = AttributesPatch { title: document.title, metadata: document.metadata, readers };
            let (_, visible) = row.renew(document.content, patch, now);
            (row, visible)
        }
    };
    row.record.version = row.record.version.max(version);
    row.record.created_at = created_at;
    let is_free = !row.needs_purge && row.holder.as_ref().is_none_or(|holder| holder.until <= now);
    let job = is_free.then(|| row.claim(Work::Process, lease, now));
    Ok(Restored { row, job, visible })
}

impl Row {
    /// Queues what is served as a new version of itself. Where a newer content failed, it is given up for what is
    /// served.
    pub(in crate::catalog) fn rebuild(&mut self, now: DateTime<Utc>) -> bool {
        let Some(served) = &self.record.served else { return false };
        if self.deleted || self.record.status == Status::Processing {
            return false;
        }
        let content = served.content.clone();
        self.renew(content, AttributesPatch::default(), now);
        true
    }
}
