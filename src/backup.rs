//! Backups: everything that an installation keeps as one stream of lines, and back; and vectors made anew from
//! originals.
//!
//! An export has the keys (their hashes), every document that is not deleted, its originals, and the points of what is
//! served, so that nothing is embedded again. It is NDJSON, one object a line:
//!
//! ```text
//! header, key…, (document, original…, point…, original…)…, end
//! ```
//!
//! A document's first originals are pieces of what is served, followed by its points; those after them are pieces of a
//! newer content that waits, or failed. The last line has the counts: without it the stream was cut off.
//!
//! An import is a worker that need not embed: it writes a document's row, holds its lease, brings the points and
//! publishes. Wherever it ends before that, the document waits for a worker, which makes the points itself.

mod export;
mod import;
mod line;
mod lines;
mod rebuild;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::blob::Blobs;
use crate::catalog::Catalog;
use crate::vector_store::{Identity, VectorStore};

pub use export::{Exported, export};
pub use import::{Import, Imported, Present, Target};
pub use lines::ends_whole;
pub use rebuild::{Rebuilt, rebuild};

/// Documents and keys that are read at once.
const PAGE: u32 = 100;

/// Where documents are.
#[derive(Debug, Clone)]
pub struct Source {
    /// Documents and keys.
    pub catalog: Arc<dyn Catalog>,
    /// Originals.
    pub blobs: Arc<Blobs>,
    /// Points.
    pub store: Arc<dyn VectorStore>,
    /// What the points are made with.
    pub identity: Identity,
}

/// What an export has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Keys.
    pub keys: u64,
    /// Documents.
    pub documents: u64,
    /// Originals; a document may have two.
    pub originals: u64,
    /// Points.
    pub points: u64,
}
