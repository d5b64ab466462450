//! What handlers and middleware share.

use std::sync::Arc;

use crate::answer::Answerer;
use crate::auth::Keys;
use crate::catalog::Catalog;
use crate::http::Config;
use crate::http::admission::Gates;
use crate::http::readiness::{Dependency, Readiness};
use crate::ingest::Ingester;
use crate::limit::{self, RateLimiter};
use crate::telemetry::Exporter;
use crate::vector_store::VectorStore;

/// The parts of the product that HTTP serves. Catalog and store are here for `/ready` and the metrics alone.
#[derive(Debug, Clone)]
pub struct Services {
    /// The query path.
    pub answerer: Arc<Answerer>,
    /// The document path.
    pub ingester: Arc<Ingester>,
    /// Keys.
    pub keys: Arc<Keys>,
    /// Limits per key.
    pub limiter: Arc<dyn RateLimiter>,
    /// Looked at by readiness and metrics.
    pub catalog: Arc<dyn Catalog>,
    /// Looked at by readiness.
    pub store: Arc<dyn VectorStore>,
}

/// What handlers and middleware share; cheap to clone.
#[derive(Debug, Clone)]
pub struct AppState {
    pub(super) services: Arc<Services>,
    pub(super) config: Arc<Config>,
    pub(super) limits: Arc<limit::Config>,
    pub(super) gates: Arc<Gates>,
    pub(super) readiness: Readiness,
    pub(super) exporter: Exporter,
}

impl AppState {
    /// The state of a server. Services that are built have their models loaded, and `/ready` says so.
    pub fn new(services: Services, config: Config, limits: limit::Config, exporter: Exporter) -> Self {
        let readiness = Readiness::default();
        readiness.report(Dependency::Models, true);
        Self {
            services: Arc::new(services),
            gates: Arc::new(Gates::new(&config)),
            config: Arc::new(config),
            limits: Arc::new(limits),
            readiness,
            exporter,
        }
    }

    /// Whether the server takes requests.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }
}
