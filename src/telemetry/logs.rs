//! Log lines, on standard error.

mod json;

use std::io::{self, BufWriter, IsTerminal};
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, Result};
use crate::telemetry::metrics;

/// How logs are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `json` (one object a line) or text for people.
    pub json: bool,
    /// A filter, such as `info` or `rag_api=debug,info`.
    pub filter: String,
}

/// Lines that may wait for whoever reads standard error. More are dropped and counted: nobody who reads slowly, or not
/// at all, holds up a request.
const WAITING_LINES: usize = 8192;

/// Bytes that are written at once, where there are as many.
const BUFFER: usize = 64 * 1024;

/// Writes the lines; what waits is written when it is dropped, for at most a second.
#[derive(Debug)]
pub struct Logs {
    _writer: WorkerGuard,
}

/// Lines dropped by the process's writer.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Starts logging to standard error, for the whole process and until the value is dropped. A second call changes
/// nothing.
///
/// A JSON line is `{timestamp, level, message, target, span, …}` with the event's fields beside; `span` has the
/// `request_id` where a request is being served.
///
/// # Errors
/// [`crate::error::ErrorKind::Config`] if the filter cannot be read.
pub fn init_logs(config: &Config) -> Result<Logs> {
    // Before the configured filter, which so has the last word: the embedded store's engine warns of choices that are
    // its host's to make and are made.
    let filter = EnvFilter::try_new(format!("qdrant_edge=error,{}", config.filter)).map_err(|error| {
        Error::config(format!("the log filter `{}` cannot be read", config.filter)).with_source(error)
    })?;
    // The writer's thread flushes whenever no line waits.
    let (lines, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        .finish(BufWriter::with_capacity(BUFFER, io::stderr()));
    let dropped = lines.error_counter();
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(lines);
    let installed = if config.json {
        registry.with(layer.fmt_fields(JsonFields::new()).event_format(json::JsonLine)).try_init()
    } else {
        registry.with(layer.with_ansi(io::stderr().is_terminal())).try_init()
    };
    // An error means that a subscriber is installed already: by us, or by a test of ours.
    if installed.is_ok() {
        let _ = DROPPED.set(dropped);
    }
    Ok(Logs { _writer: writer })
}

/// Says in the metrics how many lines were dropped.
pub(super) fn refresh() {
    if let Some(dropped) = DROPPED.get() {
        metrics::LOG_DROPPED.reach(dropped.dropped_lines() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_stops_the_start() {
        let config = Config { json: true, filter: "info,=!".to_owned() };
        let error = init_logs(&config).unwrap_err();
        assert!(error.message().contains("info,=!"), "{error}");
    }
}
