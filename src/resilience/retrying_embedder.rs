//! An embedder that tries again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Deadline, Retry};
use crate::embedding::{Embedder, EmbeddingModel, Priority, TokenCounter, TokenEmbedder};
use crate::error::Result;

/// Tries again what the embedder could not do for the moment. Token vectors come straight from the inner embedder:
/// reranking has a degraded answer, and better things to do with its time.
#[derive(Debug)]
pub struct RetryingEmbedder {
    inner: Arc<dyn Embedder>,
    retry: Retry,
    within: Duration,
}

impl RetryingEmbedder {
    /// No try begins later than `within` after the first.
    pub fn new(inner: Arc<dyn Embedder>, retry: Retry, within: Duration) -> Self {
        Self { inner, retry, within }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Embedder for RetryingEmbedder {
    fn model(&self) -> &EmbeddingModel {
        self.inner.model()
    }

    async fn embed(&self, texts: Vec<String>, priority: Priority) -> Result<Vec<Vec<f32>>> {
        self.retry.run(Deadline::after(self.within), || self.inner.embed(texts.clone(), priority)).await
    }

    fn token_counter(&self) -> Arc<dyn TokenCounter> {
        self.inner.token_counter()
    }

    fn token_embedder(&self) -> Option<Arc<dyn TokenEmbedder>> {
        self.inner.token_embedder()
    }
}
