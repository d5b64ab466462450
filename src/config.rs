//! The configuration: one section per module; the only reader of the environment.

use std::fmt;

/// A secret: it never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself; where it is called is where it leaves.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// HTTP.
    pub http: crate::http::Config,
    /// Keys.
    pub auth: crate::auth::Config,
    /// Limits per key.
    pub limit: crate::limit::Config,
    /// The answer cache.
    pub cache: crate::cache::Config,
    /// Answers.
    pub answer: crate::answer::Config,
    /// Retrieval.
    pub retrieve: crate::retrieve::Config,
    /// Document intake.
    pub ingest: crate::ingest::Config,
    /// Models and native libraries.
    pub models: crate::models::Config,
    /// The embedding model.
    pub embedding: crate::embedding::Config,
    /// The reranker.
    pub rerank: crate::rerank::Config,
    /// The chain of language models, never empty.
    pub llm: Vec<crate::llm::Config>,
    /// The vector store.
    pub vector_store: crate::vector_store::Config,
    /// The catalog.
    pub catalog: crate::catalog::Config,
    /// Originals.
    pub blob: crate::blob::Config,
    /// Logs.
    pub telemetry: crate::telemetry::Config,
}
