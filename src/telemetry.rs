//! Logs and metrics.

mod logs;
pub mod metrics;
pub mod process;

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::error::{Error, Result};
pub use logs::{Config, Logs, init_logs};

/// Gives the metrics out.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl Exporter {
    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds what histograms have gathered into their buckets; to be called every few seconds, or memory grows.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// The recorder is the process's: one for all apps that tests start in it.
static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// Starts recording metrics, for the whole process; later calls return the same exporter.
///
/// # Errors
/// [`crate::error::ErrorKind::Config`] if somebody else records the process's metrics.
pub fn install_metrics() -> Result<Exporter> {
    // Two threads may get here at once; the one that comes second finds the recorder taken, and the exporter set.
    static INSTALLING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(exporter) = EXPORTER.get() {
        return Ok(exporter.clone());
    }
    let mut builder = PrometheusBuilder::new();
    for histogram in metrics::histograms() {
        builder = builder
            .set_buckets_for_metric(Matcher::Full(histogram.name().to_owned()), histogram.buckets())
            .map_err(|error| Error::config("a metric has no buckets").with_source(error))?;
    }
    let handle = builder
        .install_recorder()
        .map_err(|error| Error::config("the process's metrics are recorded by somebody else").with_source(error))?;
    metrics::describe();
    process::refresh();
    Ok(EXPORTER.get_or_init(|| Exporter { handle }).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_come_with_help_and_the_contracts_buckets() {
        let exporter = install_metrics().unwrap();
        let again = install_metrics().unwrap();
        metrics::QUERY_LATENCY.record(0.3, &[("stage", "total".to_owned())]);
        metrics::QUERIES.add(1, &[("status", "success".to_owned()), ("model", "extractive".to_owned())]);
        again.upkeep();
        let text = exporter.render();
        assert!(text.contains("# HELP rag_queries_total questions answered"), "{text}");
        assert!(text.contains("rag_queries_total{status=\"success\",model=\"extractive\"} 1"), "{text}");
        for bucket in ["0.1", "0.25", "0.5", "1", "2.5", "5", "10"] {
            let line = format!("rag_query_latency_seconds_bucket{{stage=\"total\",le=\"{bucket}\"}}");
            assert!(text.contains(&line), "{line}");
        }
    }
}
