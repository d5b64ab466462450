//! The state machine of a document's row: pure, so that every database behind the catalog has the same one.
//!
//! A backend loads a [`Row`] inside a transaction, calls one of these functions, and saves the row in the same
//! transaction. Times are the database's clock, which the backend hands in. What owners do is here; [`work`] has what
//! workers do, [`put()`] what a put makes of what is there, [`restore()`] what a backup does.

mod put;
mod restore;
mod work;

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{AttributesPatch, Content, DocumentRecord, Job, NewDocument, Progress, Stage, Status, Work};
use crate::document::{Principal, Version};
use crate::error::{Error, ErrorKind, Result};
pub(super) use put::{done_before, put};
pub(super) use restore::restore;

/// Who works on a row, and until when the others keep off.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Holder {
    /// The fencing token.
    pub(super) token: Uuid,
    /// What the holder does.
    pub(super) work: Work,
    /// When the row may be claimed by another.
    pub(super) until: DateTime<Utc>,
    /// How many blobs, from the front of [`Row::garbage`], were handed out with the job.
    pub(super) garbage: usize,
}

/// A document's row, with what only the queue sees.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// What everybody sees.
    pub(super) record: DocumentRecord,
    /// Deleted: only the purge sees it.
    pub(super) deleted: bool,
    /// Points of a deleted document are still to be removed, perhaps below a new document of the same id.
    pub(super) needs_purge: bool,
    /// The served points do not have the row's attributes yet.
    pub(super) needs_attributes: bool,
    /// Points or originals of versions that are not served are to be removed.
    pub(super) needs_cleanup: bool,
    /// Since when the newest work waits; the oldest goes first.
    pub(super) queued_at: DateTime<Utc>,
    /// No claim before.
    pub(super) not_before: DateTime<Utc>,
    /// Until when a worker that lost its lease to a replacement or a deletion may still write points: what it leaves
    /// is swept after that.
    pub(super) stale_until: DateTime<Utc>,
    /// How often a worker has begun with the document. Unlike `attempts` it is never taken back: it says whether points
    /// may have been written.
    pub(super) begun: u32,
    /// How often in a row a worker gave it back for what may pass.
    pub(super) setbacks: u32,
    /// Originals that nothing refers to, to be deleted; new ones are appended.
    pub(super) garbage: Vec<String>,
    /// Who works on it.
    pub(super) holder: Option<Holder>,
}

/// What [`Row::replace`] did.
#[derive(Debug, PartialEq)]
pub(super) enum Replace {
    /// Same bytes, same attributes: nothing changed.
    Unchanged,
    /// Same bytes, other attributes: those changed.
    Patched,
    /// A new version.
    Replaced {
        /// The blob of the version before, if it was never served.
        superseded: Option<String>,
        /// What is served has other attributes now.
        visible: bool,
    },
}

impl Row {
    /// Whether the document is there for this owner; `None`: for an admin.
    pub(super) fn belongs_to(&self, owner: Option<&Principal>) -> bool {
        !self.deleted && owner.is_none_or(|owner| *owner == self.record.owner)
    }

    /// A row for a document that was not there; `version` is the one after the last that ever had its id.
    pub(super) fn new(document: NewDocument, version: Version, now: DateTime<Utc>) -> Self {
        let readers = with_owner(document.readers.unwrap_or_default(), &document.owner);
        let record = DocumentRecord {
            tenant: document.tenant,
            document_id: document.document_id,
            owner: document.owner,
            readers,
            title: document.title.unwrap_or_default(),
            metadata: document.metadata.unwrap_or_default(),
            access_version: 1,
            version,
            content: document.content,
            served: None,
            status: Status::Processing,
            stage: Stage::Queued,
            progress: Progress::default(),
            attempts: 0,
            failure: None,
            created_at: now,
            updated_at: now,
        };
        Self {
            record,
            deleted: false,
            needs_purge: false,
            needs_attributes: false,
            needs_cleanup: false,
            queued_at: now,
            not_before: DateTime::UNIX_EPOCH,
            stale_until: DateTime::UNIX_EPOCH,
            begun: 0,
            setbacks: 0,
            garbage: Vec::new(),
            holder: None,
        }
    }

    /// A new document in the place of a deleted one that is not purged yet. The purge goes first (its lease, if it
    /// runs, stays), so it never meets the new document's points.
    pub(super) fn recreate(&mut self, document: NewDocument, now: DateTime<Utc>) {
        let fresh = Self::new(document, self.record.version + 1, now);
        self.record = fresh.record;
        self.deleted = false;
        self.queued_at = now;
        self.not_before = DateTime::UNIX_EPOCH;
    }

    /// A new version, unless the newest one has the same bytes: then its attributes change, where they do.
    pub(super) fn replace(&mut self, document: NewDocument, now: DateTime<Utc>) -> Replace {
        let patch = AttributesPatch { title: document.title, metadata: document.metadata, readers: document.readers };
        if self.record.content.sha256 == document.content.sha256 && self.record.status != Status::Failed {
            return if self.patch(patch, now) { Replace::Patched } else { Replace::Unchanged };
        }
        let (superseded, visible) = self.renew(document.content, patch, now);
        Replace::Replaced { superseded, visible }
    }

    /// A new version, whatever its bytes are. Returns the original that nothing refers to any more, if there is one, and
    /// whether questions may see less from now on.
    fn renew(&mut self, content: Content, patch: AttributesPatch, now: DateTime<Utc>) -> (Option<String>, bool) {
        let record = &mut self.record;
        if differs(record, &patch) {
            apply(record, patch);
        }
        // Until the flip the old content is for those who may read both; its title and metadata stay its own.
        let (readers, mut visible) = (&record.readers, false);
        if let Some(served) = &mut record.served {
            let before = served.attributes.readers.len();
            served.attributes.readers.retain(|reader| readers.contains(reader));
            visible = served.attributes.readers.len() < before;
        }
        let former = std::mem::replace(&mut record.content, content).blob;
        // A version that was built again has the original of the one before.
        let is_served = record.served.as_ref().is_some_and(|served| served.content.blob == former);
        let superseded = (!is_served).then_some(former);
        if record.status != Status::Processing {
            self.queued_at = now;
        }
        record.version += 1;
        record.failure = None;
        self.requeue(now);
        // Only who processes an older version loses the row; a cleanup that runs must end before the new points come.
        self.evict(|work| work == Work::Process);
        self.needs_attributes |= visible;
        if let Some(blob) = &superseded {
            self.garbage.push(blob.clone());
            self.needs_cleanup = true;
        }
        (superseded, visible)
    }

    /// Changes attributes; false if they were so already.
    pub(super) fn patch(&mut self, patch: AttributesPatch, now: DateTime<Utc>) -> bool {
        if !differs(&self.record, &patch) {
            return false;
        }
        apply(&mut self.record, patch);
        let record = &mut self.record;
        record.updated_at = now;
        if let Some(served) = &mut record.served {
            served.attributes.readers.clone_from(&record.readers);
            served.attributes.metadata.clone_from(&record.metadata);
            if !record.title.is_empty() {
                served.attributes.title.clone_from(&record.title);
            }
            self.needs_attributes = true;
        }
        true
    }

    /// Deletes, and gives the purge to the caller.
    pub(super) fn tombstone(&mut self, lease: Duration, now: DateTime<Utc>) -> Job {
        self.evict(|_| true);
        let served = self.record.served.take().map(|served| served.content.blob);
        let newest = self.record.content.blob.clone();
        self.garbage.extend(served.filter(|blob| *blob != newest));
        self.garbage.push(newest);
        self.deleted = true;
        self.needs_purge = true;
        self.needs_attributes = false;
        self.needs_cleanup = false;
        self.not_before = DateTime::UNIX_EPOCH;
        self.record.updated_at = now;
        self.claim(Work::Purge, lease, now)
    }

    /// Queues a failed version again.
    pub(super) fn retry(&mut self, now: DateTime<Utc>) -> Result<()> {
        if self.record.status != Status::Failed {
            return Err(Error::new(ErrorKind::Conflict, "only a failed document can be tried again"));
        }
        self.record.failure = None;
        self.queued_at = now;
        self.requeue(now);
        Ok(())
    }

    fn requeue(&mut self, now: DateTime<Utc>) {
        self.record.status = Status::Processing;
        self.record.stage = Stage::Queued;
        self.record.progress = Progress::default();
        self.record.attempts = 0;
        self.setbacks = 0;
        self.record.updated_at = now;
        self.not_before = DateTime::UNIX_EPOCH;
    }

    /// Takes the row from a holder of such work. It may still write points until its lease ends.
    fn evict(&mut self, such: impl Fn(Work) -> bool) {
        if let Some(holder) = self.holder.take_if(|holder| such(holder.work))
            && holder.work == Work::Process
        {
            self.stale_until = self.stale_until.max(holder.until);
            self.needs_cleanup = true;
        }
    }
}

/// The error of every write without a valid token.
pub(super) fn lost_lease() -> Error {
    Error::new(ErrorKind::Conflict, "the lease of this document was lost")
}

/// Readers as they are stored: the owner among them, sorted and unique.
fn with_owner(mut readers: Vec<Principal>, owner: &Principal) -> Vec<Principal> {
    readers.push(owner.clone());
    readers.sort();
    readers.dedup();
    readers
}

fn differs(record: &DocumentRecord, patch: &AttributesPatch) -> bool {
    let readers = patch.readers.clone().map(|readers| with_owner(readers, &record.owner));
    patch.title.as_ref().is_some_and(|title| *title != record.title)
        || patch.metadata.as_ref().is_some_and(|metadata| *metadata != record.metadata)
        || readers.is_some_and(|readers| readers != record.readers)
}

fn apply(record: &mut DocumentRecord, patch: AttributesPatch) {
    if let Some(title) = patch.title {
        record.title = title;
    }
    if let Some(metadata) = patch.metadata {
        record.metadata = metadata;
    }
    if let Some(readers) = patch.readers {
        record.readers = with_owner(readers, &record.owner);
    }
    record.access_version += 1;
}

#[cfg(test)]
mod tests;
