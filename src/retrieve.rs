//! The retriever: embed → dense + sparse search → fuse → check against the catalog → rerank → keep.

mod candidates;
pub mod filter;
pub mod fusion;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cache::Cache;
use crate::catalog::Catalog;
use crate::document::Scope;
use crate::embedding::Embedder;
use crate::embedding::questions::QuestionVectors;
use crate::error::{Error, ErrorKind, Result};
use crate::llm::ScoredPassage;
use crate::rerank::{self, RerankUse, Reranker};
use crate::resilience::Deadline;
use crate::telemetry::metrics;
use crate::vector_store::VectorStore;
use crate::vector_store::bm25::Bm25;
use candidates::Candidate;
use filter::Filter;
use fusion::{Reordered, Weights};

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
    /// What is fused: scores or ranks.
    pub fusion: fusion::Method,
    /// Weight of the dense branch.
    pub dense_weight: f32,
    /// Weight of the sparse branch.
    pub sparse_weight: f32,
    /// Weight of the reranker, where it is fused with retrieval.
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
    /// Cosine similarity; known for most hits of the sparse branch too.
    pub dense_score: Option<f32>,
    /// Rank in the sparse branch.
    pub sparse_rank: Option<usize>,
    /// BM25.
    pub sparse_score: Option<f32>,
    /// Rank after fusion.
    pub fused_rank: usize,
    /// What the fused rank is by, 0..=1.
    pub fused_score: f32,
    /// The reranker's relevance, if it was reranked.
    pub rerank_score: Option<f32>,
    /// What the final order is by, 0..=1.
    pub score: f32,
}

/// What retrieval found, and how.
#[derive(Debug, Clone, Default)]
pub struct Retrieval {
    /// The best passages, best first. Their `score` is what the final order is by, as a share of the highest that is
    /// possible: 0..=1 and never rising. It compares passages of one response, not of two.
    pub passages: Vec<ScoredPassage>,
    /// Every candidate, if asked for, in the final order.
    pub explain: Vec<Explanation>,
    /// Milliseconds by stage: `embedding`, `retrieval`, `rerank`.
    pub timings_ms: Vec<(&'static str, f64)>,
    /// What did not work and was done without: `rerank`.
    pub degraded: Vec<String>,
}

/// Longest time for the question's embedding, with its retries.
const EMBEDDING_SHARE: Duration = Duration::from_secs(5);
/// Longest time for search and the catalog's check.
const RETRIEVAL_SHARE: Duration = Duration::from_secs(5);
/// Longest time for reranking; past it the fused order stands.
const RERANK_SHARE: Duration = Duration::from_secs(2);

/// What a [`Retriever`] drives.
#[derive(Debug, Clone)]
pub struct Backends {
    /// Embeds the question.
    pub embedder: Arc<dyn Embedder>,
    /// Searches.
    pub store: Arc<dyn VectorStore>,
    /// Reranks, if one is configured.
    pub reranker: Option<Arc<dyn Reranker>>,
    /// Says what is current and readable.
    pub catalog: Arc<dyn Catalog>,
}

/// Finds passages. HTTP, command line and evaluation all use this one.
#[derive(Debug)]
pub struct Retriever {
    backends: Backends,
    questions: QuestionVectors,
    bm25: Bm25,
    config: Config,
}

impl Retriever {
    /// A retriever over `backends`.
    pub fn new(backends: Backends, config: Config) -> Result<Self> {
        let questions = QuestionVectors::new(backends.embedder.clone(), None);
        Ok(Self { backends, questions, bm25: Bm25::new()?, config })
    }

    /// Keeps the vectors of questions in `cache` for `ttl`.
    #[must_use]
    pub fn with_cache(mut self, cache: Option<Arc<dyn Cache>>, ttl: Duration) -> Self {
        let cache = cache.map(|cache| (cache, ttl));
        self.questions = QuestionVectors::new(self.backends.embedder.clone(), cache);
        self
    }

    /// How retrieval works, besides the request.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The models that have a part in what is found, for cache keys.
    pub fn model_names(&self) -> Vec<String> {
        let embedding = self.backends.embedder.model().name.clone();
        let reranker = self.backends.reranker.as_ref().map_or("none", |reranker| reranker.name()).to_owned();
        vec![embedding, reranker]
    }

    /// Finds the best passages that the caller may read.
    ///
    /// A question's embedding, the search and the reranking each have their share of the deadline. Without the
    /// reranker the fused order stands, and [`Retrieval::degraded`] says so; without the others there is an error.
    pub async fn retrieve(&self, request: &RetrievalRequest) -> Result<Retrieval> {
        let mut retrieval = Retrieval::default();
        let dense = match request.mode {
            Mode::Sparse => None,
            Mode::Hybrid | Mode::Dense => Some(timed("embedding", &mut retrieval, self.embed(request)).await?),
        };
        let share = request.deadline.at_most(RETRIEVAL_SHARE);
        let search = share.run("the search", self.candidates(request, dense));
        let candidates = timed("retrieval", &mut retrieval, search).await?;
        let relevance = match &self.backends.reranker {
            Some(reranker) if request.rerank && !candidates.is_empty() => {
                let rerank = rerank_head(&**reranker, request, &candidates);
                match timed("rerank", &mut retrieval, rerank).await {
                    Ok(relevance) => relevance,
                    Err(error) => {
                        tracing::warn!(error = error.chain(), reranker = reranker.name(), "reranking was left out");
                        metrics::DEGRADED.add(1, &[("what", "rerank")]);
                        retrieval.degraded.push("rerank".to_owned());
                        Vec::new()
                    }
                }
            }
            _ => Vec::new(),
        };
        let order = self.order(request.mode, &candidates, &relevance);
        if request.explain {
            let explain = |place: &Reordered| candidates[place.position].explain(*place, &relevance);
            retrieval.explain = order.iter().map(explain).collect();
        }
        let passage = |place: &Reordered| ScoredPassage {
            passage: candidates[place.position].passage.clone(),
            score: place.score,
            dense_score: candidates[place.position].fused.cosine,
            rerank_score: relevance.get(place.position).copied(),
        };
        retrieval.passages = order.iter().take(request.top_k).map(passage).collect();
        Ok(retrieval)
    }

    async fn embed(&self, request: &RetrievalRequest) -> Result<Vec<f32>> {
        let share = request.deadline.at_most(EMBEDDING_SHARE);
        let embed = self.questions.embed(&request.scope, &request.question);
        share.run("embedding the question", embed).await.map_err(unavailable)
    }

    /// The final order of the candidates, of which the first `relevance.len()` were reranked.
    fn order(&self, mode: Mode, candidates: &[Candidate], relevance: &[f32]) -> Vec<Reordered> {
        let fused: Vec<f32> = candidates.iter().map(|found| found.fused.score).collect();
        match self.backends.reranker.as_ref().map(|reranker| reranker.usage()) {
            Some(RerankUse::Fuse) if !relevance.is_empty() => {
                fusion::fuse_order(self.config.fusion, self.weights(mode), &fused, relevance)
            }
            Some(RerankUse::FuseProbabilities) if !relevance.is_empty() => {
                let relevance: Vec<f32> = relevance.iter().copied().map(fusion::soften).collect();
                fusion::fuse_order(self.config.fusion, self.weights(mode), &fused, &relevance)
            }
            _ => fusion::replace_order(&fused, relevance),
        }
    }

    /// A branch that is asked alone has the weight 1.
    fn weights(&self, mode: Mode) -> Weights {
        let (dense, sparse) = match mode {
            Mode::Hybrid => (self.config.dense_weight, self.config.sparse_weight),
            Mode::Dense => (1.0, 0.0),
            Mode::Sparse => (0.0, 1.0),
        };
        Weights { dense, sparse, rerank: self.config.rerank_weight }
    }
}

/// The relevance of the first candidates, at most [`rerank::MAX_CANDIDATES`].
async fn rerank_head(
    reranker: &dyn Reranker,
    request: &RetrievalRequest,
    candidates: &[Candidate],
) -> Result<Vec<f32>> {
    let text = |found: &Candidate| rerank::Candidate { id: found.fused.id, text: found.passage.contextual_text() };
    let head: Vec<_> = candidates.iter().take(rerank::MAX_CANDIDATES).map(text).collect();
    let share = request.deadline.at_most(RERANK_SHARE);
    let relevance = share.run("reranking", reranker.rerank(&request.question, &head)).await?;
    if relevance.len() != head.len() {
        return Err(Error::new(ErrorKind::Internal, "the reranker gave another number of scores than passages"));
    }
    Ok(relevance)
}

/// Runs a stage and notes its time in the response and in the metrics, whatever came of it.
async fn timed<T>(stage: &'static str, retrieval: &mut Retrieval, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let result = work.await;
    let seconds = started.elapsed().as_secs_f64();
    metrics::QUERY_LATENCY.record(seconds, &[("stage", stage)]);
    retrieval.timings_ms.push((stage, seconds * 1e3));
    result
}

/// A model that fails on a question is a retrieval that is down.
fn unavailable(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Internal => Error::unavailable("the question could not be embedded", error),
        _ => error,
    }
}
