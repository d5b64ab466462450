//! Originals, over `object_store`: a local folder or a bucket.

use std::path::PathBuf;

/// Where originals are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// A local folder; it is made.
    File {
        /// The folder.
        path: PathBuf,
    },
}
