//! The seam to rerankers: a question and passages in, one relevance per passage out.

pub mod cohere;
mod cross_encoder;
mod late_interaction;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::embedding::Embedder;
use crate::error::{Error, Result};
use crate::models;

/// Most passages that are reranked for a question; the rest keep their fused order below.
pub const MAX_CANDIDATES: usize = 20;

/// A passage to judge.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The point's id. (A key for caches of passage vectors, together with a hash of the text: an id comes back when a
    /// document is deleted and made anew.)
    pub id: Uuid,
    /// Title, headings and text ([`crate::document::contextual_text`]).
    pub text: String,
}

/// How a reranker's order is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RerankUse {
    /// Its order replaces the retrieval order.
    Replace,
    /// It is fused with retrieval ([`crate::retrieve::fusion`]).
    Fuse,
    /// The same for a classifier, whose relevances are probabilities, most of them near 0 or 1.
    FuseProbabilities,
}

/// Judges passages against a question.
#[async_trait]
pub trait Reranker: fmt::Debug + Send + Sync {
    /// The model's name, for cache keys and reports.
    fn name(&self) -> &str;

    /// How its order is used.
    fn usage(&self) -> RerankUse;

    /// One score per candidate, in order; higher is more relevant. Scores are relevances in 0..=1.
    async fn rerank(&self, question: &str, candidates: &[Candidate]) -> Result<Vec<f32>>;
}

/// Which reranker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// None: the fused order stands.
    None,
    /// MaxSim over the embedding model's token vectors.
    LateInteraction {
        /// Bound of the cache of passage token vectors, in bytes.
        cache_bytes: u64,
    },
    /// An ONNX sequence-classification model in this process.
    CrossEncoder {
        /// Where its files are.
        model: models::ModelSource,
        /// Single-thread sessions; 0: one per core.
        sessions: usize,
    },
    /// A model of a Cohere-compatible server.
    Cohere(cohere::Config),
}

/// Loads the reranker that `config` names. Blocks while it loads, is fetched, or is asked
/// for the first time.
pub fn build(
    config: &Config,
    models: &models::Config,
    embedder: &Arc<dyn Embedder>,
) -> Result<Option<Arc<dyn Reranker>>> {
    match config {
        Config::None => Ok(None),
        Config::LateInteraction { cache_bytes } => match embedder.token_embedder() {
            Some(tokens) => Ok(Some(Arc::new(late_interaction::LateInteraction::new(tokens, *cache_bytes)))),
            None => Err(Error::config(format!(
                "RAG_RERANKER_MODEL=late-interaction needs token vectors, which embedding model {} does not give",
                embedder.model().name
            ))),
        },
        Config::CrossEncoder { model, sessions } => {
            Ok(Some(Arc::new(cross_encoder::CrossEncoder::open(model, *sessions, models)?)))
        }
        Config::Cohere(server) => Ok(Some(Arc::new(cohere::Cohere::connect(server, cohere::PATIENCE)?))),
    }
}
