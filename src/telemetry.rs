//! Logs and metrics.

pub mod metrics;

/// How logs are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `json` (one object a line) or text for people.
    pub json: bool,
    /// A filter, such as `info` or `rag_api=debug,info`.
    pub filter: String,
}
