//! Whether this process should get requests: starting → ready → draining.
//!
//! Ready once each dependency has been reached since the start. A shared dependency that fails later does not empty
//! the load balancer: requests say so themselves, and `/ready` and the metrics show its state.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::telemetry::metrics;

/// Where the process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not every dependency has been reached yet.
    Starting,
    /// Takes requests.
    Ready,
    /// Stops soon.
    Draining,
}

/// What the process needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependency {
    /// Documents, jobs and keys.
    Catalog,
    /// Points.
    VectorStore,
    /// Embedding and reranking models.
    Models,
}

impl Dependency {
    const ALL: [Self; 3] = [Self::Catalog, Self::VectorStore, Self::Models];

    /// The name in `/ready` and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::VectorStore => "vector_store",
            Self::Models => "models",
        }
    }
}

/// How a dependency was when it was last looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Reach {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// It answered.
    Up,
    /// It did not answer.
    Down,
}

/// A dependency's state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(super) struct DependencyState {
    /// How it was when it was last looked at.
    status: Reach,
    /// When it came into this state.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime<Utc>>,
    /// Whether it was reached since the start.
    #[serde(skip)]
    was_up: bool,
}

/// The states of all dependencies.
#[derive(Debug, Clone, Copy, Default, Serialize, utoipa::ToSchema)]
pub(super) struct Dependencies {
    /// Documents, jobs and keys.
    catalog: DependencyState,
    /// Points.
    vector_store: DependencyState,
    /// Embedding and reranking models.
    models: DependencyState,
}

impl Dependencies {
    fn of(&mut self, dependency: Dependency) -> &mut DependencyState {
        match dependency {
            Dependency::Catalog => &mut self.catalog,
            Dependency::VectorStore => &mut self.vector_store,
            Dependency::Models => &mut self.models,
        }
    }
}

/// The body of `/ready`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ReadyResponse {
    /// `ready`, or why not.
    pub(super) status: Phase,
    /// Each dependency as it was when it was last looked at.
    dependencies: Dependencies,
}

/// A handle to the process's readiness; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    dependencies: Dependencies,
    draining: bool,
}

impl Readiness {
    /// Notes whether a dependency could be reached.
    pub fn report(&self, dependency: Dependency, reached: bool) {
        let status = if reached { Reach::Up } else { Reach::Down };
        let mut inner = self.lock();
        let state = inner.dependencies.of(dependency);
        if state.status != status {
            tracing::info!(dependency = dependency.as_str(), status = ?status, "dependency changed");
            state.since = Some(Utc::now());
        }
        state.status = status;
        state.was_up |= reached;
        let labels = [("dependency", dependency.as_str().to_owned())];
        metrics::DEPENDENCY_UP.set(f64::from(u8::from(reached)), &labels);
    }

    /// From now on: draining.
    pub fn drain(&self) {
        self.lock().draining = true;
    }

    /// Where the process stands.
    pub fn phase(&self) -> Phase {
        let mut inner = self.lock();
        let reached = Dependency::ALL.into_iter().all(|dependency| inner.dependencies.of(dependency).was_up);
        match (inner.draining, reached) {
            (true, _) => Phase::Draining,
            (false, true) => Phase::Ready,
            (false, false) => Phase::Starting,
        }
    }

    pub(super) fn response(&self) -> ReadyResponse {
        ReadyResponse { status: self.phase(), dependencies: self.lock().dependencies }
    }

    /// Nothing panics while it holds the lock, and a half-written state would be no worse than an old one.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_everything_was_reached_and_for_good() {
        let readiness = Readiness::default();
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.report(Dependency::Models, true);
        readiness.report(Dependency::Catalog, true);
        readiness.report(Dependency::VectorStore, false);
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.report(Dependency::VectorStore, true);
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.report(Dependency::VectorStore, false);
        assert_eq!(readiness.phase(), Phase::Ready, "a blip does not empty the load balancer");
        readiness.clone().drain();
        assert_eq!(readiness.phase(), Phase::Draining);
    }

    #[test]
    fn the_body_names_every_dependency() {
        let readiness = Readiness::default();
        readiness.report(Dependency::VectorStore, false);
        let body = serde_json::to_value(readiness.response()).unwrap();
        assert_eq!(body["status"], "starting");
        assert_eq!(body["dependencies"]["vector_store"]["status"], "down");
        assert_eq!(body["dependencies"]["catalog"]["status"], "unknown");
        for dependency in Dependency::ALL {
            assert!(body["dependencies"][dependency.as_str()].is_object());
        }
    }
}
