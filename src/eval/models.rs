//! The models of a configuration, behind the cache of what they computed before.

use std::sync::Arc;

use super::cache::Cache;
use super::cached::{CachedCrossEncoder, CachedEmbedder};
use crate::config::Config;
use crate::embedding::{self, Embedder};
use crate::error::Result;
use crate::models;
use crate::rerank::{self, Reranker};

/// What is measured, besides the settings.
#[derive(Debug, Clone)]
pub struct Models {
    pub(super) embedder: Arc<dyn Embedder>,
    rerankers: Vec<Arc<dyn Reranker>>,
}

impl Models {
    /// Loads the embedding model of `config` and these rerankers.
    pub async fn load(config: &Config, rerankers: &[rerank::Config], cache: Arc<Cache>) -> Result<Self> {
        models::init_runtime(&config.models)?;
        let embedder = embedding::build(&config.embedding, &config.models)?;
        let embedder: Arc<dyn Embedder> = Arc::new(CachedEmbedder::new(embedder, cache.clone()).await?);
        let mut loaded = Vec::new();
        for reranker in rerankers {
            let built = rerank::build(reranker, &config.models, &embedder)?;
            loaded.extend(match (built, reranker) {
                (Some(built), rerank::Config::CrossEncoder { .. }) => {
                    Some(Arc::new(CachedCrossEncoder::new(built, cache.clone()).await?) as Arc<dyn Reranker>)
                }
                // The embedder's cache serves it.
                (built, _) => built,
            });
        }
        Ok(Self { embedder, rerankers: loaded })
    }

    /// The embedding model's name.
    pub fn embedding_model(&self) -> &str {
        &self.embedder.model().name
    }

    /// Most tokens of a chunk that the embedding model reads whole.
    pub fn max_chunk_tokens(&self) -> usize {
        self.embedder.model().max_tokens.saturating_sub(embedding::SPECIAL_TOKENS)
    }

    /// The rerankers, in the order in which they were named.
    pub fn rerankers(&self) -> &[Arc<dyn Reranker>] {
        &self.rerankers
    }
}
