//! What the server does by itself every few seconds: look at dependencies, refresh gauges, forget what is idle.

use std::time::Duration;

use crate::catalog::{CatalogStats, Status};
use crate::error::Result;
use crate::http::address::AddressLimit;
use crate::http::readiness::{Dependency, Phase};
use crate::http::state::AppState;
use crate::resilience::Deadline;
use crate::telemetry::{metrics, process};

/// How often. Gauges are refreshed here and not by `/metrics`, which is public and must not cost the database a query.
const PERIOD: Duration = Duration::from_secs(5);

/// How often while starting: a server that could take requests should not wait long to say so.
const STARTING_PERIOD: Duration = Duration::from_millis(250);

/// Longest look at a dependency.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs until it is dropped.
pub(super) async fn run(state: AppState, address_limit: Option<AddressLimit>) {
    loop {
        probe(&state).await;
        process::refresh();
        state.exporter.upkeep();
        if let Some(limit) = &address_limit {
            limit.forget_idle();
        }
        let starting = state.readiness.phase() == Phase::Starting;
        tokio::time::sleep(if starting { STARTING_PERIOD } else { PERIOD }).await;
    }
}

async fn probe(state: &AppState) {
    let deadline = Deadline::after(PROBE_TIMEOUT);
    let services = &state.services;
    let (catalog, store, stats) = tokio::join!(
        deadline.run("the catalog", services.catalog.check()),
        deadline.run("the vector store", services.store.check()),
        deadline.run("the catalog", services.catalog.stats()),
    );
    report(state, Dependency::Catalog, catalog);
    report(state, Dependency::VectorStore, store);
    if let Ok(stats) = stats {
        show(&stats);
    }
}

fn report(state: &AppState, dependency: Dependency, outcome: Result<()>) {
    if let Err(error) = &outcome {
        tracing::warn!(dependency = dependency.as_str(), error = error.chain(), "dependency not reached");
    }
    state.readiness.report(dependency, outcome.is_ok());
}

fn show(stats: &CatalogStats) {
    for status in [Status::Processing, Status::Indexed, Status::Failed] {
        let number = stats.by_status.get(&status).copied().unwrap_or_default();
        metrics::DOCUMENTS.set(number as f64, &[("status", status.as_str().to_owned())]);
    }
    metrics::QUEUE_AGE.set(stats.oldest_queued.unwrap_or_default().as_secs_f64(), metrics::NONE);
}
