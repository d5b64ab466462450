//! The composition root: Config → App → run.

use std::sync::Arc;

use crate::answer::Answerer;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::ingest::Ingester;
use crate::limit::RateLimiter;
use crate::vector_store::VectorStore;

/// Everything that a process runs, built from a [`Config`].
#[derive(Debug)]
pub struct App {
    /// What it was built from.
    pub config: Config,
    /// The query path.
    pub answerer: Arc<Answerer>,
    /// The document path.
    pub ingester: Arc<Ingester>,
    /// Documents, jobs and keys.
    pub catalog: Arc<dyn Catalog>,
    /// Points.
    pub store: Arc<dyn VectorStore>,
    /// Limits per key.
    pub limiter: Arc<dyn RateLimiter>,
}
