//! Models behind the [`Cache`]: what was computed before is not computed again.
//!
//! A model is told apart by its name, its limits and what it makes of a probe, so that another model under the same name
//! has entries of its own.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use uuid::Uuid;

use super::cache::{Cache, Key};
use crate::embedding::{
    Embedder, EmbeddingModel, Priority, TokenCounter, TokenEmbedder, TokenVectors, numbers_from_bytes, numbers_to_bytes,
};
use crate::error::{Error, ErrorKind, Result};
use crate::rerank::{Candidate, RerankUse, Reranker};

/// What models are told apart by.
const PROBE: &str = "what does the model make of a text such as this one?";

/// An embedder behind the cache.
#[derive(Debug)]
pub(super) struct CachedEmbedder {
    inner: Arc<dyn Embedder>,
    cache: Arc<Cache>,
    identity: Key,
    tokens: Option<Arc<dyn TokenEmbedder>>,
}

impl CachedEmbedder {
    pub(super) async fn new(inner: Arc<dyn Embedder>, cache: Arc<Cache>) -> Result<Self> {
        let probe = inner.embed(vec![PROBE.to_owned()], Priority::Bulk).await?;
        let probe: Vec<u8> = probe.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        let model = inner.model();
        let identity = Key::of(&[model.name.as_bytes(), &model.max_tokens.to_le_bytes(), &probe]);
        let tokens = inner
            .token_embedder()
            .map(|inner| Arc::new(CachedTokens { inner, cache: cache.clone(), identity }) as Arc<dyn TokenEmbedder>);
        Ok(Self { inner, cache, identity, tokens })
    }

    async fn one(&self, text: String, priority: Priority) -> Result<Vec<f32>> {
        let key = Key::of(&[b"vector", self.identity.bytes(), text.as_bytes()]);
        if let Some(vector) = self.cache.get(key).await.and_then(|bytes| numbers_from_bytes(&bytes))
            && vector.len() == self.inner.model().dimensions
        {
            return Ok(vector);
        }
        let vector = self.inner.embed(vec![text], priority).await?.pop().ok_or_else(nothing)?;
        self.cache.put(key, &numbers_to_bytes(&vector)).await;
        Ok(vector)
    }
}

#[async_trait]
impl Embedder for CachedEmbedder {
    fn model(&self) -> &EmbeddingModel {
        self.inner.model()
    }

    async fn embed(&self, texts: Vec<String>, priority: Priority) -> Result<Vec<Vec<f32>>> {
        try_join_all(texts.into_iter().map(|text| self.one(text, priority))).await
    }

    fn token_counter(&self) -> Arc<dyn TokenCounter> {
        self.inner.token_counter()
    }

    fn token_embedder(&self) -> Option<Arc<dyn TokenEmbedder>> {
        self.tokens.clone()
    }
}

/// Token vectors behind the cache, as int8 with one scale a row, which is how late interaction keeps them too. What was
/// just computed goes through the same form, so that results do not depend on what was there.
#[derive(Debug)]
struct CachedTokens {
    inner: Arc<dyn TokenEmbedder>,
    cache: Arc<Cache>,
    identity: Key,
}

impl CachedTokens {
    async fn one(&self, text: String, max_tokens: usize, priority: Priority) -> Result<TokenVectors> {
        let key = Key::of(&[b"tokens", self.identity.bytes(), &max_tokens.to_le_bytes(), text.as_bytes()]);
        if let Some(vectors) = self.cache.get(key).await.and_then(|bytes| decode_tokens(&bytes)) {
            return Ok(vectors);
        }
        let vectors = self.inner.token_vectors(vec![text], max_tokens, priority).await?.pop().ok_or_else(nothing)?;
        let bytes = encode_tokens(&vectors);
        self.cache.put(key, &bytes).await;
        decode_tokens(&bytes).ok_or_else(nothing)
    }
}

#[async_trait]
impl TokenEmbedder for CachedTokens {
    async fn token_vectors(
        &self,
        texts: Vec<String>,
        max_tokens: usize,
        priority: Priority,
    ) -> Result<Vec<TokenVectors>> {
        try_join_all(texts.into_iter().map(|text| self.one(text, max_tokens, priority))).await
    }
}

/// A cross-encoder behind the cache. It scores each pair by itself, so that one score is one entry.
#[derive(Debug)]
pub(super) struct CachedCrossEncoder {
    inner: Arc<dyn Reranker>,
    cache: Arc<Cache>,
    identity: Key,
}

impl CachedCrossEncoder {
    pub(super) async fn new(inner: Arc<dyn Reranker>, cache: Arc<Cache>) -> Result<Self> {
        let probe = inner.rerank(PROBE, &[Candidate { id: Uuid::nil(), text: PROBE.to_owned() }]).await?;
        let identity = Key::of(&[inner.name().as_bytes(), &numbers_to_bytes(&probe)]);
        Ok(Self { inner, cache, identity })
    }

    async fn one(&self, question: &str, candidate: &Candidate) -> Result<f32> {
        let key = Key::of(&[b"score", self.identity.bytes(), question.as_bytes(), candidate.text.as_bytes()]);
        if let Some(&[score]) = self.cache.get(key).await.and_then(|bytes| numbers_from_bytes(&bytes)).as_deref() {
            return Ok(score);
        }
        let scores = self.inner.rerank(question, std::slice::from_ref(candidate)).await?;
        self.cache.put(key, &numbers_to_bytes(&scores)).await;
        scores.first().copied().ok_or_else(nothing)
    }
}

#[async_trait]
impl Reranker for CachedCrossEncoder {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn usage(&self) -> RerankUse {
        self.inner.usage()
    }

    async fn rerank(&self, question: &str, candidates: &[Candidate]) -> Result<Vec<f32>> {
        try_join_all(candidates.iter().map(|candidate| self.one(question, candidate))).await
    }
}

fn nothing() -> Error {
    Error::new(ErrorKind::Internal, "a model gave nothing for a text")
}

/// Rows and dimensions, then ids, scales and values.
fn encode_tokens(vectors: &TokenVectors) -> Vec<u8> {
    let rows = vectors.values.chunks_exact(vectors.dimensions.max(1));
    let scales: Vec<f32> = rows
        .clone()
        .map(|row| (row.iter().fold(0.0_f32, |most, value| most.max(value.abs())) / 127.0).max(f32::MIN_POSITIVE))
        .collect();
    let mut bytes = Vec::with_capacity(8 + 8 * scales.len() + vectors.values.len());
    bytes.extend((vectors.ids.len() as u32).to_le_bytes());
    bytes.extend((vectors.dimensions as u32).to_le_bytes());
    bytes.extend(vectors.ids.iter().flat_map(|id| id.to_le_bytes()));
    bytes.extend(numbers_to_bytes(&scales));
    for (row, scale) in rows.zip(&scales) {
        bytes.extend(row.iter().map(|value| ((value / scale).round() as i8).to_le_bytes()[0]));
    }
    bytes
}

fn decode_tokens(bytes: &[u8]) -> Option<TokenVectors> {
    let (rows, bytes) = bytes.split_first_chunk::<4>()?;
    let (dimensions, bytes) = bytes.split_first_chunk::<4>()?;
    let (rows, dimensions) = (u32::from_le_bytes(*rows) as usize, u32::from_le_bytes(*dimensions) as usize);
    let (ids, bytes) = bytes.split_at_checked(rows.checked_mul(4)?)?;
    let (scales, values) = bytes.split_at_checked(rows * 4)?;
    if values.len() != rows.checked_mul(dimensions)? {
        return None;
    }
    let ids = ids.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
    let scales = numbers_from_bytes(scales)?;
    let row = |(row, scale): (&[u8], &f32)| -> Vec<f32> {
        row.iter().map(|value| f32::from(i8::from_le_bytes([*value])) * scale).collect()
    };
    let values = values.chunks_exact(dimensions.max(1)).zip(&scales).flat_map(row).collect();
    Some(TokenVectors { ids, values, dimensions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_vectors_keep_their_values_to_a_percent() {
        let vectors = TokenVectors { ids: vec![7, 9], values: vec![0.6, -0.8, 1.0, 0.001], dimensions: 2 };
        let bytes = encode_tokens(&vectors);
        let back = decode_tokens(&bytes).unwrap();
        assert_eq!((&back.ids, back.dimensions), (&vectors.ids, 2));
        let error = back.values.iter().zip(&vectors.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 0.01, "{back:?}");
        assert_eq!(encode_tokens(&back), bytes, "the second time nothing changes");
        let none = TokenVectors { ids: vec![], values: vec![], dimensions: 384 };
        assert_eq!(decode_tokens(&encode_tokens(&none)), Some(none));
    }

    #[test]
    fn what_is_cut_off_is_nothing() {
        let bytes = encode_tokens(&TokenVectors { ids: vec![7], values: vec![0.6, -0.8], dimensions: 2 });
        for length in 0..bytes.len() {
            assert_eq!(decode_tokens(&bytes[..length]), None, "{length}");
        }
        assert_eq!(decode_tokens(&[0xff; 64]), None);
        assert_eq!(numbers_from_bytes(&[0; 5]), None);
    }
}
