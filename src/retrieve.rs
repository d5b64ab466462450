//! The retriever: embed → dense + sparse search → fuse → check against the catalog → rerank → keep.

pub mod filter;
pub mod fusion;

use std::sync::Arc;

use serde::Serialize;

use crate::catalog::Catalog;
use crate::document::Scope;
use crate::embedding::Embedder;
use crate::error::Result;
use crate::llm::ScoredPassage;
use crate::rerank::Reranker;
use crate::resilience::Deadline;
use crate::vector_store::VectorStore;
use filter::Filter;

/// Which branches search.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Dense and sparse, fused.
    #[default]
    Hybrid,
    /// Embeddings alone.
    Dense,
    /// BM25 alone.
    Sparse,
}

/// How retrieval works, besides the request.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Candidates kept after fusion, raised to a request's `top_k` where that is larger.
    pub top_k: usize,
    /// The default `top_k` of a request.
    pub rerank_top_k: usize,
    /// k of reciprocal rank fusion.
    pub rrf_k: f32,
    /// Weight of the dense branch.
    pub dense_weight: f32,
    /// Weight of the sparse branch.
    pub sparse_weight: f32,
    /// Weight of the reranker's order beside the retrieval order, where the two are fused.
    pub rerank_weight: f32,
}

/// A question to retrieve for.
#[derive(Debug, Clone)]
pub struct RetrievalRequest {
    /// What the caller may see.
    pub scope: Scope,
    /// The sanitised question.
    pub question: String,
    /// Passages wanted.
    pub top_k: usize,
    /// The user's filter.
    pub filter: Option<Filter>,
    /// Which branches search.
    pub mode: Mode,
    /// Whether to rerank.
    pub rerank: bool,
    /// Whether to explain every candidate.
    pub explain: bool,
    /// When it must be done.
    pub deadline: Deadline,
}

/// Why a candidate stands where it stands. Ranks count from 1.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Explanation {
    /// The chunk, `{document_id}_{chunk_idx}`.
    pub id: String,
    /// Rank in the dense branch.
    pub dense_rank: Option<usize>,
    /// Cosine similarity.
    pub dense_score: Option<f32>,
    /// Rank in the sparse branch.
    pub sparse_rank: Option<usize>,
    /// BM25.
    pub sparse_score: Option<f32>,
    /// Rank after fusion.
    pub fused_rank: usize,
    /// Weighted sum of reciprocal ranks.
    pub fused_score: f32,
    /// The reranker's relevance, if it was reranked.
    pub rerank_score: Option<f32>,
}

/// What retrieval found, and how.
#[derive(Debug, Clone, Default)]
pub struct Retrieval {
    /// The best passages, best first.
    pub passages: Vec<ScoredPassage>,
    /// Every candidate, if asked for, in the final order.
    pub explain: Vec<Explanation>,
    /// Milliseconds by stage: `embedding`, `retrieval`, `rerank`.
    pub timings_ms: Vec<(&'static str, f64)>,
    /// What did not work and was done without: `rerank`.
    pub degraded: Vec<String>,
}

/// Finds passages. HTTP, command line and evaluation all use this one.
#[derive(Debug)]
pub struct Retriever {
    pub(crate) embedder: Arc<dyn Embedder>,
    pub(crate) store: Arc<dyn VectorStore>,
    pub(crate) reranker: Option<Arc<dyn Reranker>>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) config: Config,
}

impl Retriever {
    /// Finds the best passages that the caller may read.
    pub async fn retrieve(&self, request: &RetrievalRequest) -> Result<Retrieval> {
        let _ = request;
        todo!()
    }
}
