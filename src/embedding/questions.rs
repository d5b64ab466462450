//! The vectors of questions, kept in the cache for when they are asked again.
//!
//! Asking again what has an answer in the cache needs no vector; searches do, other parameters, and all questions after
//! the corpus has changed. A look into Redis costs less than the smallest model's 1.5 ms of processor time, and much less
//! than a call of a remote one.
//!
//! Nobody learns from it what others ask, not even by the time that it takes: like an answer, a vector is found only by
//! those who may read exactly the same. That is why this is no wrapper of the embedder, which knows of no caller.

use std::sync::Arc;
use std::time::Duration;

use super::{Embedder, EmbeddingModel, Priority, numbers_from_bytes, numbers_to_bytes};
use crate::cache::{self, Cache};
use crate::document::Scope;
use crate::error::{Error, ErrorKind, Result};

/// Embeds questions, each once while the cache remembers it. Chunks of documents never come here: they are embedded once.
#[derive(Debug)]
pub struct QuestionVectors {
    embedder: Arc<dyn Embedder>,
    /// With the time to live of its entries.
    cache: Option<(Arc<dyn Cache>, Duration)>,
}

impl QuestionVectors {
    /// Without a cache, each question is embedded.
    pub fn new(embedder: Arc<dyn Embedder>, cache: Option<(Arc<dyn Cache>, Duration)>) -> Self {
        Self { embedder, cache: cache.filter(|(_, ttl)| !ttl.is_zero()) }
    }

    /// The vector of a question of `scope`. A cache that fails or is slow is a miss.
    pub async fn embed(&self, scope: &Scope, question: &str) -> Result<Vec<f32>> {
        let Some((cache, ttl)) = &self.cache else { return self.computed(question).await };
        let model = self.embedder.model();
        let key = key(scope, model, question)?;
        match cache::look_up(&**cache, "embedding", &key, |bytes| Ok(decode(bytes, model.dimensions))).await {
            Ok(Some(vector)) => return Ok(vector),
            Ok(None) => {}
            Err(error) => tracing::debug!(error = error.chain(), "the cache of questions' vectors failed"),
        }
        let vector = self.computed(question).await?;
        let put = cache.put(&key, numbers_to_bytes(&vector).into(), *ttl);
        if !matches!(tokio::time::timeout(cache::LIMIT, put).await, Ok(Ok(()))) {
            tracing::debug!("a question's vector could not be cached");
        }
        Ok(vector)
    }

    async fn computed(&self, question: &str) -> Result<Vec<f32>> {
        let mut vectors = self.embedder.embed(vec![question.to_owned()], Priority::Interactive).await?;
        vectors.pop().ok_or_else(|| Error::new(ErrorKind::Internal, "the embedding model gave no vector"))
    }
}

/// It depends on what the vector does, and on who may find it. Of a question's white space, models see no more than where
/// words end.
fn key(scope: &Scope, model: &EmbeddingModel, question: &str) -> Result<String> {
    let words: Vec<&str> = question.split_whitespace().collect();
    cache::key(scope.tenant(), "embedding", &(scope.tenant(), scope.principals(), &model.name, model.dimensions, words))
}

/// `None` for what is no vector of so many numbers.
fn decode(bytes: &[u8], dimensions: usize) -> Option<Vec<f32>> {
    let vector = numbers_from_bytes(bytes)?;
    (vector.len() == dimensions && vector.iter().all(|number| number.is_finite())).then_some(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_the_same_when_it_comes_back_and_nothing_else_is_one() {
        let vector = [0.0, -0.0, 1.0, f32::MIN_POSITIVE, -0.123_456_79, f32::MAX];
        let bytes = numbers_to_bytes(&vector);
        assert_eq!(decode(&bytes, 6).unwrap().map_bits(), vector.to_vec().map_bits());
        assert_eq!(decode(&bytes, 5), None);
        assert_eq!(decode(&bytes[1..], 6), None);
        assert_eq!(decode(&numbers_to_bytes(&[f32::NAN]), 1), None);
    }

    trait Bits {
        fn map_bits(self) -> Vec<u32>;
    }

    impl Bits for Vec<f32> {
        fn map_bits(self) -> Vec<u32> {
            self.into_iter().map(f32::to_bits).collect()
        }
    }

    #[test]
    fn nobody_shares_a_key_with_those_who_may_read_otherwise() {
        let scope = |tenant: &str, principals: &[&str]| {
            Scope::new(tenant.parse().unwrap(), principals.iter().map(|name| name.parse().unwrap()).collect())
        };
        let model = EmbeddingModel { name: "a".to_owned(), dimensions: 4, max_tokens: 8 };
        let key = |scope: &Scope, model: &EmbeddingModel, text: &str| key(scope, model, text).unwrap();
        let ann = scope("acme", &["public", "user:ann"]);
        let asked = key(&ann, &model, "how long?");
        assert!(asked.starts_with("acme/embedding/"));
        assert_eq!(asked, key(&ann, &model, "  how\tlong?\n"));
        let other_model = EmbeddingModel { name: "b".to_owned(), ..model.clone() };
        let others = [
            key(&ann, &model, "How long?"),
            key(&ann, &model, "howlong?"),
            key(&ann, &other_model, "how long?"),
            key(&scope("acme", &["public", "user:bob"]), &model, "how long?"),
            key(&scope("umbra", &["public", "user:ann"]), &model, "how long?"),
        ];
        assert!(!others.contains(&asked));
    }
}
