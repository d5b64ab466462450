//! The local rerankers, with real models.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use rag_api::embedding::{Embedder, EmbeddingModel, Priority, TokenCounter, TokenEmbedder, TokenVectors};
use rag_api::error::{ErrorKind, Result};
use rag_api::models::ModelSource;
use rag_api::rerank::{self, Candidate, RerankUse, Reranker};
use serde::Deserialize;
use uuid::Uuid;

use crate::models::{config, minilm, tiny_cross_encoder};

fn candidate(id: u128, text: &str) -> Candidate {
    Candidate { id: Uuid::from_u128(id), text: text.to_owned() }
}

fn cross_encoder(sessions: usize) -> Arc<dyn Reranker> {
    let model = ModelSource::Path(tiny_cross_encoder());
    rerank::build(&rerank::Config::CrossEncoder { model, sessions }, &config(), &minilm(1)).unwrap().unwrap()
}

fn late_interaction(embedder: &Arc<dyn Embedder>) -> Result<Arc<dyn Reranker>> {
    let wanted = rerank::Config::LateInteraction { cache_bytes: 8 << 20 };
    Ok(rerank::build(&wanted, &config(), embedder)?.unwrap())
}

/// A line of `expected.json`: what ONNX Runtime scored in Python.
#[derive(Debug, Deserialize)]
struct Expected {
    question: String,
    passage: String,
    logit: f32,
}

#[tokio::test]
async fn a_cross_encoder_scores_as_onnx_runtime_itself_does() {
    let text = std::fs::read_to_string(tiny_cross_encoder().join("expected.json")).unwrap();
    let expected: Vec<Expected> = serde_json::from_str(&text).unwrap();
    assert!(expected.len() >= 8);
    let reranker = cross_encoder(2);
    // All at once: concurrent questions share the sessions, and scores do not depend on it.
    let scores = futures::future::join_all(expected.iter().map(async |pair| {
        let candidates = [candidate(1, &pair.passage), candidate(2, "in its company")];
        reranker.rerank(&pair.question, &candidates).await.unwrap()[0]
    }));
    for (score, pair) in scores.await.into_iter().zip(&expected) {
        let relevance = 1.0 / (1.0 + (-pair.logit).exp());
        assert!((score - relevance).abs() < 1e-4, "{score} for {pair:?}");
    }
    assert!(reranker.rerank("nothing", &[]).await.unwrap().is_empty());
    assert_eq!(reranker.usage(), RerankUse::FuseProbabilities);
}

#[test]
fn a_folder_without_a_model_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = rerank::Config::CrossEncoder { model: ModelSource::Path(dir.path().to_owned()), sessions: 1 };
    let error = rerank::build(&wanted, &config(), &minilm(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("tokenizer.json is missing"), "{error}");
    assert!(rerank::build(&rerank::Config::None, &config(), &minilm(1)).unwrap().is_none());
}

const PASSAGES: [&str; 4] = [
    "The queen of Denmark opened the new bridge in Copenhagen on Tuesday.",
    "Employees are entitled to 28 days of paid annual leave, and must ask for it two weeks before.",
    "Annual accounts are closed in March and audited in April.",
    "水在一百摄氏度沸腾。",
];

#[tokio::test]
async fn late_interaction_puts_the_relevant_passage_first() {
    let reranker = late_interaction(&minilm(2)).unwrap();
    let mut candidates: Vec<_> = (0_u128..).zip(PASSAGES).map(|(id, text)| candidate(id, text)).collect();
    candidates.push(candidate(9, ""));
    let scores = reranker.rerank("How many days of holiday do employees get?", &candidates).await.unwrap();
    assert_eq!(scores.len(), 5);
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
    assert!(scores[1] > 0.4 && scores.iter().enumerate().all(|(i, &s)| i == 1 || s < scores[1]), "{scores:?}");
    assert_eq!(scores[4], 0.0, "nothing is relevant to nothing");
    assert_eq!(reranker.rerank("", &candidates[..1]).await.unwrap(), [0.0]);
    assert_eq!(reranker.usage(), RerankUse::Fuse);
}

#[tokio::test]
async fn a_passage_that_was_seen_costs_nothing() {
    let counting = Counting::new(minilm(2));
    let embedder: Arc<dyn Embedder> = counting.clone();
    let reranker = late_interaction(&embedder).unwrap();
    let candidates = [candidate(1, PASSAGES[0]), candidate(2, PASSAGES[1])];
    let first = reranker.rerank("days of leave", &candidates).await.unwrap();
    assert_eq!(counting.take(), 3, "the question and two passages");
    let second = reranker.rerank("days of leave", &candidates).await.unwrap();
    assert_eq!((counting.take(), second), (1, first), "the question alone");

    reranker.rerank("days of leave", &[candidate(2, PASSAGES[2])]).await.unwrap();
    assert_eq!(counting.take(), 2, "the same id with another text is another passage");

    let new = [candidate(7, PASSAGES[3])];
    let (one, two) = tokio::join!(reranker.rerank("boiling", &new), reranker.rerank("boiling", &new));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(counting.take(), 3, "two questions, and one passage for both");
}

#[tokio::test]
async fn a_question_that_goes_away_does_not_spoil_the_passage_for_the_next() {
    let reranker = late_interaction(&minilm(1)).unwrap();
    let candidates = [candidate(1, PASSAGES[0])];
    let mut gone = Box::pin(reranker.rerank("queen", &candidates));
    assert!(futures::poll!(&mut gone).is_pending());
    let next = reranker.rerank("queen", &candidates);
    drop(gone);
    assert_eq!(next.await.unwrap().len(), 1);
}

#[test]
fn late_interaction_without_token_vectors_stops_the_start() {
    let embedder: Arc<dyn Embedder> = Arc::new(WithoutTokens(minilm(1)));
    let error = late_interaction(&embedder).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("RAG_RERANKER_MODEL=late-interaction needs token vectors"), "{error}");
}

/// The real embedder, with the texts counted whose token vectors were asked for.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Embedder>,
    tokens: Arc<CountingTokens>,
}

#[derive(Debug)]
struct CountingTokens {
    inner: Arc<dyn TokenEmbedder>,
    texts: AtomicUsize,
}

impl Counting {
    fn new(inner: Arc<dyn Embedder>) -> Arc<Self> {
        let tokens = Arc::new(CountingTokens { inner: inner.token_embedder().unwrap(), texts: AtomicUsize::new(0) });
        Arc::new(Self { inner, tokens })
    }

    /// Texts since the last time.
    fn take(&self) -> usize {
        self.tokens.texts.swap(0, Ordering::Relaxed)
    }
}

#[async_trait]
impl TokenEmbedder for CountingTokens {
    async fn token_vectors(&self, texts: Vec<String>, max: usize, priority: Priority) -> Result<Vec<TokenVectors>> {
        self.texts.fetch_add(texts.len(), Ordering::Relaxed);
        self.inner.token_vectors(texts, max, priority).await
    }
}

#[async_trait]
impl Embedder for Counting {
    fn model(&self) -> &EmbeddingModel {
        self.inner.model()
    }

    async fn embed(&self, texts: Vec<String>, priority: Priority) -> Result<Vec<Vec<f32>>> {
        self.inner.embed(texts, priority).await
    }

    fn token_counter(&self) -> Arc<dyn TokenCounter> {
        self.inner.token_counter()
    }

    fn token_embedder(&self) -> Option<Arc<dyn TokenEmbedder>> {
        Some(self.tokens.clone())
    }
}

/// The real embedder as if it were a remote one, which gives no token vectors.
#[derive(Debug)]
struct WithoutTokens(Arc<dyn Embedder>);

#[async_trait]
impl Embedder for WithoutTokens {
    fn model(&self) -> &EmbeddingModel {
        self.0.model()
    }

    async fn embed(&self, texts: Vec<String>, priority: Priority) -> Result<Vec<Vec<f32>>> {
        self.0.embed(texts, priority).await
    }

    fn token_counter(&self) -> Arc<dyn TokenCounter> {
        self.0.token_counter()
    }

    fn token_embedder(&self) -> Option<Arc<dyn TokenEmbedder>> {
        None
    }
}
