//! Late interaction (ColBERT's MaxSim, arXiv:2004.12832) over the token vectors of the embedding model that is loaded
//! anyway: no other model, and a passage that was judged before costs no forward pass.

mod matrix;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Candidate, RerankUse, Reranker};
use crate::embedding::{Priority, TokenEmbedder};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::metrics;
use matrix::{Matrix, max_sim};

/// Most tokens of a question that count.
const QUESTION_TOKENS: usize = 64;
/// Most tokens of a passage that count; a chunk has fewer.
const PASSAGE_TOKENS: usize = 256;
/// What an entry of the cache costs beside its numbers.
const ENTRY_BYTES: usize = 160;

/// MaxSim with a cache of passage token vectors.
#[derive(Debug)]
pub(super) struct LateInteraction {
    embedder: Arc<dyn TokenEmbedder>,
    passages: Cache<PassageKey, Arc<Matrix>>,
}

/// A passage's vectors are found by its point and by its text: an id comes back when a document is deleted and made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PassageKey {
    point: Uuid,
    text: [u8; 16],
}

impl PassageKey {
    fn of(candidate: &Candidate) -> Self {
        let mut text = [0; 16];
        text.copy_from_slice(&Sha256::digest(&candidate.text)[..16]);
        Self { point: candidate.id, text }
    }
}

impl LateInteraction {
    pub(super) fn new(embedder: Arc<dyn TokenEmbedder>, cache_bytes: u64) -> Self {
        let bytes =
            |_: &PassageKey, matrix: &Arc<Matrix>| u32::try_from(matrix.bytes() + ENTRY_BYTES).unwrap_or(u32::MAX);
        let passages = Cache::builder().weigher(bytes).max_capacity(cache_bytes).build();
        Self { embedder, passages }
    }

    async fn question(&self, question: &str) -> Result<Matrix> {
        self.matrix(question, QUESTION_TOKENS).await
    }

    /// A passage's vectors: from the cache, or computed. A passage that is being computed for somebody else is waited for;
    /// if that one goes away, the next one waiting computes it.
    async fn passage(&self, candidate: &Candidate) -> Result<Arc<Matrix>> {
        let key = PassageKey::of(candidate);
        if let Some(matrix) = self.passages.get(&key).await {
            count("hit");
            return Ok(matrix);
        }
        count("miss");
        let compute = async { self.matrix(&candidate.text, PASSAGE_TOKENS).await.map(Arc::new) };
        self.passages
            .try_get_with(key, compute)
            .await
            .map_err(|shared: Arc<Error>| Error::new(shared.kind(), shared.message()).with_source(shared.chain()))
    }

    async fn matrix(&self, text: &str, max_tokens: usize) -> Result<Matrix> {
        let texts = vec![text.to_owned()];
        let vectors = self.embedder.token_vectors(texts, max_tokens, Priority::Interactive).await?;
        let vectors = vectors.first().ok_or_else(|| Error::new(ErrorKind::Internal, "no token vectors came back"))?;
        Ok(Matrix::quantise(vectors))
    }
}

fn count(result: &'static str) {
    metrics::TOKEN_VECTORS.add(1, &[("result", result)]);
}

#[async_trait]
impl Reranker for LateInteraction {
    fn name(&self) -> &str {
        "late-interaction"
    }

    /// Fused: with retrieval it orders better than either alone.
    fn usage(&self) -> RerankUse {
        RerankUse::Fuse
    }

    async fn rerank(&self, question: &str, candidates: &[Candidate]) -> Result<Vec<f32>> {
        let passages = try_join_all(candidates.iter().map(|candidate| self.passage(candidate)));
        let (question, passages) = futures::try_join!(self.question(question), passages)?;
        // Every question token counts the same. (IDF weights gain less than .003 nDCG@10, whether over the
        // corpus or over the candidates.)
        let weights = vec![1.0; question.rows()];
        let mut scores = Vec::with_capacity(passages.len());
        for passage in &passages {
            scores.push(max_sim(&question, &weights, passage));
            // Up to a millisecond each: let others have the thread between them.
            tokio::task::yield_now().await;
        }
        Ok(scores)
    }
}
