//! A way to retrieve, asked as the server asks it.

use std::collections::HashSet;
use std::sync::Arc;

use super::index::{HOUR, Index};
use super::models::Models;
use crate::error::{Error, ErrorKind, Result};
use crate::rerank::Reranker;
use crate::resilience::Deadline;
use crate::retrieve::{self, Backends, Mode, Retrieval, RetrievalRequest, Retriever};

/// Most tries of a question for which a stage took too long on a busy machine. What one try computed is there for the next.
pub(super) const MAX_TRIES: usize = 20;

/// A way to retrieve, by the name it has in tables.
#[derive(Debug, Clone)]
pub struct Variant {
    /// Such as `hybrid + late-interaction`.
    pub name: String,
    /// Which branches search.
    pub mode: Mode,
    /// Fusion and numbers of candidates.
    pub retrieve: retrieve::Config,
    /// What reranks.
    pub reranker: Option<Arc<dyn Reranker>>,
}

impl Variant {
    /// Dense, sparse, hybrid, and hybrid with each reranker; and hybrid by plain reciprocal rank fusion, where `configured`
    /// is another than `plain`.
    pub fn all(configured: &retrieve::Config, plain: &retrieve::Config, models: &Models) -> Vec<Self> {
        let variant = |name: &str, mode, retrieve: &retrieve::Config| Self {
            name: name.to_owned(),
            mode,
            retrieve: retrieve.clone(),
            reranker: None,
        };
        let mut all = vec![variant("dense", Mode::Dense, configured), variant("sparse", Mode::Sparse, configured)];
        if plain != configured {
            all.push(variant("hybrid, plain rrf", Mode::Hybrid, plain));
        }
        all.push(variant("hybrid", Mode::Hybrid, configured));
        all.extend(Self::reranked(configured, models));
        all
    }

    /// Hybrid with each reranker.
    pub fn reranked(configured: &retrieve::Config, models: &Models) -> Vec<Self> {
        let variant = |reranker: &Arc<dyn Reranker>| Self {
            name: format!("hybrid + {}", reranker.name()),
            mode: Mode::Hybrid,
            retrieve: configured.clone(),
            reranker: Some(reranker.clone()),
        };
        models.rerankers().iter().map(variant).collect()
    }

    pub(super) fn retriever(&self, models: &Models, index: &Index) -> Result<Retriever> {
        let backends = Backends {
            embedder: models.embedder.clone(),
            store: index.store.clone(),
            reranker: self.reranker.clone(),
            catalog: index.catalog.clone(),
        };
        Retriever::new(backends, self.retrieve.clone())
    }
}

/// A variant over an index.
#[derive(Debug)]
pub struct Ranking<'a> {
    index: &'a Index,
    retriever: Retriever,
    mode: Mode,
    reranks: bool,
}

impl<'a> Ranking<'a> {
    /// Asks `index` by `variant`.
    pub fn new(models: &Models, index: &'a Index, variant: &Variant) -> Result<Self> {
        let retriever = variant.retriever(models, index)?;
        Ok(Self { index, retriever, mode: variant.mode, reranks: variant.reranker.is_some() })
    }

    /// The numbers of the best `depth` chunks. The first are those of a real question, which has the configured number of
    /// candidates and has them reranked; after them come the others in the order of retrieval.
    pub async fn chunks(&self, question: &str, depth: usize) -> Result<Vec<usize>> {
        let candidates = self.retriever.config().top_k.min(depth);
        let head = self.retrieve(question, candidates).await?;
        let mut chunks = numbers(&head);
        if depth > candidates {
            let tail = self.search(question, depth, false).await?;
            let seen: HashSet<usize> = chunks.iter().copied().collect();
            chunks.extend(numbers(&tail).into_iter().filter(|number| !seen.contains(number)));
            chunks.truncate(depth);
        }
        Ok(chunks)
    }

    /// The best `top_k` passages, as a question for so many finds them.
    pub async fn retrieve(&self, question: &str, top_k: usize) -> Result<Retrieval> {
        self.search(question, top_k, self.reranks).await
    }

    async fn search(&self, question: &str, top_k: usize, rerank: bool) -> Result<Retrieval> {
        let request = RetrievalRequest {
            scope: self.index.scope.clone(),
            question: question.to_owned(),
            top_k,
            filter: None,
            mode: self.mode,
            rerank,
            explain: false,
            deadline: Deadline::after(HOUR),
        };
        for _ in 0..MAX_TRIES {
            match self.retriever.retrieve(&request).await {
                Ok(found) if found.degraded.is_empty() => return Ok(found),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Timeout => {}
                Err(error) => return Err(error),
            }
        }
        Err(too_busy(question))
    }
}

pub(super) fn too_busy(question: &str) -> Error {
    let message =
        format!("{question:?} was not retrieved for in time, {MAX_TRIES} times over: the machine is too busy");
    Error::new(ErrorKind::Timeout, message)
}

/// The numbers of chunks that were found, best first.
fn numbers(found: &Retrieval) -> Vec<usize> {
    found.passages.iter().map(|scored| scored.passage.chunk.chunk_idx as usize).collect()
}
