//! What a worker does to a row: it claims it, publishes, fails or gives back, and tidies up.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Holder, Row, lost_lease};
use crate::catalog::{Attributes, Job, Lease, Progress, Publication, Publish, Served, Stage, Status, Work};
use crate::document::Failure;
use crate::error::Result;

impl Row {
    /// Takes the row for `work`.
    pub(in crate::catalog) fn claim(&mut self, work: Work, lease: Duration, now: DateTime<Utc>) -> Job {
        let garbage = match work {
            Work::Cleanup | Work::Purge => self.garbage.clone(),
            Work::Process | Work::Attributes => Vec::new(),
        };
        if work == Work::Process {
            self.record.attempts += 1;
            self.begun = self.begun.saturating_add(1);
            self.record.updated_at = now;
        }
        let token = Uuid::new_v4();
        self.holder = Some(Holder { token, work, until: now + lease, garbage: garbage.len() });
        let lease = Lease { tenant: self.record.tenant.clone(), document_id: self.record.document_id.clone(), token };
        let fresh = self.begun <= 1 && self.record.version == 1;
        Job { lease, work, record: self.record.clone(), garbage, fresh, setbacks: self.setbacks }
    }

    /// The holder, if it is the one with this token; everybody else has lost the row.
    pub(in crate::catalog) fn held_by(&self, lease: &Lease) -> Result<&Holder> {
        self.holder.as_ref().filter(|holder| holder.token == lease.token).ok_or_else(lost_lease)
    }

    /// Makes the newest version the served one.
    pub(in crate::catalog) fn publish(&mut self, publication: &Publication, now: DateTime<Utc>) -> Result<Publish> {
        let Publication { version, chunks, access_version, ref title } = *publication;
        let record = &mut self.record;
        if record.version != version || record.status != Status::Processing || self.deleted {
            return Err(lost_lease());
        }
        if record.access_version != access_version {
            return Ok(Publish::AttributesMoved(Box::new(record.clone())));
        }
        let shown = if record.title.is_empty() { title } else { &record.title };
        let (readers, metadata) = (record.readers.clone(), record.metadata.clone());
        let attributes = Attributes { readers, title: shown.clone(), metadata };
        let content = record.content.clone();
        if let Some(former) = record.served.replace(Served { version, content, chunks, attributes }) {
            if former.content.blob != record.content.blob {
                self.garbage.push(former.content.blob);
            }
            self.needs_cleanup = true;
        }
        record.status = Status::Indexed;
        record.stage = Stage::Publish;
        record.progress = Progress { done: chunks, total: chunks };
        record.failure = None;
        record.updated_at = now;
        self.needs_attributes = false;
        self.free();
        Ok(Publish::Published)
    }

    /// The newest version failed for good.
    pub(in crate::catalog) fn fail(&mut self, failure: &Failure, now: DateTime<Utc>) {
        let record = &mut self.record;
        // A version that was being embedded may have left points.
        self.needs_cleanup |= self.begun > 1 || matches!(record.stage, Stage::Embed | Stage::Publish);
        record.status = Status::Failed;
        record.failure = Some(failure.clone());
        record.updated_at = now;
        self.free();
    }

    /// Gives the row back.
    pub(in crate::catalog) fn release(&mut self, delay: Duration, refund: bool, now: DateTime<Utc>) {
        if self.holder.take().is_some_and(|holder| holder.work == Work::Process) {
            self.record.stage = Stage::Queued;
            self.record.progress = Progress::default();
            self.record.updated_at = now;
            if refund {
                self.record.attempts = self.record.attempts.saturating_sub(1);
            }
        }
        if !delay.is_zero() {
            // The others first: what is in its way may be in its way for long.
            self.queued_at = now;
            self.setbacks = self.setbacks.saturating_add(1);
        }
        self.not_before = now + delay;
    }

    /// The served points have the attributes of `access_version`.
    pub(in crate::catalog) fn attributes_done(&mut self, access_version: u64) {
        if self.record.access_version == access_version {
            self.needs_attributes = false;
        }
        self.free();
    }

    /// What was handed out with the cleanup is deleted.
    pub(in crate::catalog) fn cleanup_done(&mut self) {
        self.drop_garbage();
        self.needs_cleanup = !self.garbage.is_empty();
        self.free();
    }

    /// What was handed out with the purge is deleted. Returns whether the row may go.
    pub(in crate::catalog) fn purge_done(&mut self, now: DateTime<Utc>) -> bool {
        self.drop_garbage();
        let stale = self.stale_until > now;
        self.free();
        if self.deleted {
            // A worker that lost the row to the deletion may still write: purge once more when it cannot any longer.
            self.not_before = self.stale_until;
            return !stale;
        }
        self.needs_purge = false;
        self.needs_cleanup |= stale || !self.garbage.is_empty();
        false
    }

    fn drop_garbage(&mut self) {
        let handed_out = self.holder.as_ref().map_or(0, |holder| holder.garbage).min(self.garbage.len());
        self.garbage.drain(..handed_out);
    }

    fn free(&mut self) {
        self.holder = None;
        self.setbacks = 0;
        self.not_before = DateTime::UNIX_EPOCH;
    }
}
