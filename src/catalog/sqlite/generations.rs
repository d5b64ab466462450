//! The generations of tenants, kept for as long as nothing is written to the database.
//!
//! Every question asks for one, and a query goes to another thread and back, which costs more than all else that an
//! answer from the cache takes. Each commit, of any process, first writes to the write-ahead log: while that file has
//! the time and the length it had before a generation was read, the generation is still the one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::document::TenantId;

/// A file's time may be as coarse as two seconds, so two commits may share one. A log is looked at by its time only
/// when the next commit cannot have the same.
const SETTLED: Duration = Duration::from_secs(3);

/// Most tenants that are kept.
const MAX_TENANTS: usize = 10_000;

/// When the log was last written, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    written: SystemTime,
    bytes: u64,
}

/// What was read since the log was last written.
#[derive(Debug)]
pub(super) struct Generations {
    log: PathBuf,
    known: Mutex<(Option<Stamp>, HashMap<TenantId, u64>)>,
}

impl Generations {
    /// Those of the database at `path`.
    pub(super) fn new(path: &Path) -> Self {
        let mut log = path.to_owned().into_os_string();
        log.push("-wal");
        Self { log: log.into(), known: Mutex::default() }
    }

    /// The log as it is now, to be taken before a generation is read; `None`: it was written a moment ago.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let log = std::fs::metadata(&self.log).ok()?;
        let stamp = Stamp { written: log.modified().ok()?, bytes: log.len() };
        let age = SystemTime::now().duration_since(stamp.written).ok()?;
        (age > SETTLED).then_some(stamp)
    }

    /// The generation that was read when the log was as it is.
    pub(super) fn get(&self, stamp: Stamp, tenant: &TenantId) -> Option<u64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.1.get(tenant).copied().filter(|_| known.0 == Some(stamp))
    }

    /// Keeps a generation that was read after `stamp` was taken.
    pub(super) fn put(&self, stamp: Stamp, tenant: &TenantId, generation: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != Some(stamp) || known.1.len() >= MAX_TENANTS {
            known.1.clear();
            known.0 = Some(stamp);
        }
        known.1.insert(tenant.clone(), generation);
    }
}
