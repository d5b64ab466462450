//! Breakers and retries round real backends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use rag_api::cache::{self, Cache};
use rag_api::document::Scope;
use rag_api::embedding::{Embedder, EmbeddingModel, Priority, TokenCounter, TokenEmbedder};
use rag_api::error::{Error, ErrorKind, Result};
use rag_api::llm::openai::{OpenAi, Timeouts};
use rag_api::llm::{GenerationRequest, Llm};
use rag_api::resilience::breaker::{Permit, Policy};
use rag_api::resilience::{
    Breaker, BreakerCache, BreakerLlm, BreakerState, BreakerStore, Retry, RetryingEmbedder, retry,
};
use rag_api::vector_store::{self, SearchQuery, VectorStore};

use crate::models::minilm;
use crate::support::llm_server::{LlmServer, Script};

const HOUR: Duration = Duration::from_secs(3600);

fn breaker(open_for: Duration) -> Breaker {
    Breaker::new("test", Policy { failures: 5, open_for, patience: HOUR })
}

/// Makes everything behind `breaker` unavailable until the permit is settled: it is open for no time, and its one
/// probe is kept.
fn outage(breaker: &Breaker) -> Permit {
    let down: Result<()> = Err(Error::new(ErrorKind::Unavailable, "down"));
    while let Ok(permit) = breaker.admit() {
        if breaker.state() == BreakerState::HalfOpen {
            return permit;
        }
        permit.settle(&down);
    }
    unreachable!("an open breaker of no time always lets a probe through")
}

/// Checks open, half-open and closed of a wrapper; `call` asks it once, `outage` brings down what is behind it.
async fn check<C: AsyncFn() -> Result<()>>(open_for: Duration, guard: &Breaker, outage: Permit, call: C) {
    assert_eq!(guard.state(), BreakerState::Closed);
    for _ in 0..5 {
        assert_eq!(call().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    outage.settle(&Ok(()));
    if open_for.is_zero() {
        assert_eq!(guard.state(), BreakerState::HalfOpen);
        call().await.unwrap();
        assert_eq!(guard.state(), BreakerState::Closed);
        call().await.unwrap();
    } else {
        assert_eq!(guard.state(), BreakerState::Open);
        let error = call().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("test"), "{error}");
    }
}

#[tokio::test]
async fn the_cache_breaker_opens_probes_and_closes() {
    for open_for in [HOUR, Duration::ZERO] {
        let config = cache::Config { ttl: HOUR, backend: cache::Backend::Memory { max_bytes: 1 << 20 } };
        let memory = cache::build(&config).await.unwrap().unwrap();
        let (inner, outer) = (breaker(Duration::ZERO), breaker(open_for));
        let cache = BreakerCache::new(Arc::new(BreakerCache::new(memory, inner.clone())), outer.clone());
        cache.put("a", Bytes::from_static(b"1"), HOUR).await.unwrap();
        let get = async || cache.get("a").await.map(|found| assert!(found.is_some()));
        check(open_for, &outer, outage(&inner), get).await;
    }
}

#[tokio::test]
async fn the_store_breaker_opens_probes_and_closes() {
    for open_for in [HOUR, Duration::ZERO] {
        let dir = tempfile::tempdir().unwrap();
        let config = vector_store::Config::Edge { path: dir.path().to_owned(), collection: "documents".to_owned() };
        let model = EmbeddingModel { name: "test".to_owned(), dimensions: 4, max_tokens: 8 };
        let edge = vector_store::build(&config, &model).await.unwrap();
        let (inner, outer) = (breaker(Duration::ZERO), breaker(open_for));
        let store = BreakerStore::new(edge, inner.clone(), breaker(HOUR));
        let store = BreakerStore::new(Arc::new(store), outer.clone(), breaker(HOUR));
        let scope = Scope::new("acme".parse().unwrap(), vec!["public".parse().unwrap()]);
        let search = async || {
            let query = SearchQuery { dense: Some(vec![1.0, 0.0, 0.0, 0.0]), limit: 1, ..SearchQuery::default() };
            store.search(&scope, query).await.map(|_| ())
        };
        check(open_for, &outer, outage(&inner), search).await;
        store.check().await.expect("a check goes past the breaker");
    }
}

fn request() -> GenerationRequest {
    GenerationRequest {
        question: "q".to_owned(),
        passages: Vec::new(),
        system: "s".to_owned(),
        user: "u".to_owned(),
        max_tokens: 5,
    }
}

fn guarded(server: &LlmServer, breaker: &Breaker) -> BreakerLlm {
    let model = OpenAi::new("m", &server.base_url, None, Timeouts::default()).unwrap();
    BreakerLlm::new(Arc::new(model), breaker.clone())
}

async fn generate(model: &BreakerLlm) -> Result<()> {
    let mut generation = model.generate(&request()).await?;
    while let Some(event) = generation.next().await {
        event?;
    }
    Ok(())
}

#[tokio::test]
async fn the_model_breaker_spares_a_server_that_is_down() {
    let server = LlmServer::start([Script::Status(500, None)]).await;
    let breaker = breaker(HOUR);
    let model = guarded(&server, &breaker);
    for _ in 0..8 {
        assert_eq!(generate(&model).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(server.requests().len(), 5, "an open breaker asks nobody");
}

#[tokio::test]
async fn the_model_breaker_probes_and_closes() {
    let down = [Script::Status(503, None), Script::Cut(vec!["a"]), Script::Fail(vec![]), Script::Body(b"?")];
    let scripts = down.into_iter().chain([Script::Status(500, None), Script::Say(vec!["Ten"])]);
    let server = LlmServer::start(scripts).await;
    let breaker = breaker(Duration::ZERO);
    let model = guarded(&server, &breaker);
    for _ in 0..5 {
        assert_eq!(breaker.state(), BreakerState::Closed);
        generate(&model).await.unwrap_err();
    }
    assert_eq!(breaker.state(), BreakerState::HalfOpen, "an answer that breaks off is a failure too");
    generate(&model).await.unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test]
async fn a_refused_key_is_no_outage_and_a_cancelled_probe_no_end() {
    let server = LlmServer::start([Script::Status(401, None)]).await;
    let breaker = breaker(Duration::ZERO);
    let model = guarded(&server, &breaker);
    for _ in 0..8 {
        assert_eq!(generate(&model).await.unwrap_err().kind(), ErrorKind::Config);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);

    drop(outage(&breaker));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.admit().is_ok(), "the next call is a probe again");
}

#[tokio::test]
async fn a_call_that_its_caller_gave_up_on_counts_only_after_patience() {
    for (patience, state) in [(HOUR, BreakerState::Closed), (Duration::ZERO, BreakerState::Open)] {
        let breaker = Breaker::new("test", Policy { failures: 5, open_for: HOUR, patience });
        for _ in 0..5 {
            drop(breaker.admit().unwrap());
        }
        assert_eq!(breaker.state(), state, "{patience:?}");
    }
}

/// An embedder that is down for its first calls.
#[derive(Debug)]
struct Waking {
    inner: Arc<dyn Embedder>,
    failures: AtomicU32,
    calls: AtomicU32,
}

#[async_trait]
impl Embedder for Waking {
    fn model(&self) -> &EmbeddingModel {
        self.inner.model()
    }

    async fn embed(&self, texts: Vec<String>, priority: Priority) -> Result<Vec<Vec<f32>>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => Err(Error::new(ErrorKind::Unavailable, "waking up")),
            Err(_) => self.inner.embed(texts, priority).await,
        }
    }

    fn token_counter(&self) -> Arc<dyn TokenCounter> {
        self.inner.token_counter()
    }

    fn token_embedder(&self) -> Option<Arc<dyn TokenEmbedder>> {
        self.inner.token_embedder()
    }
}

#[tokio::test]
async fn the_embedder_is_tried_three_times() {
    for (failures, calls, works) in [(0, 1, true), (2, 3, true), (3, 3, false)] {
        let waking = Arc::new(Waking { inner: minilm(1), failures: failures.into(), calls: 0.into() });
        let policy = retry::Policy { base: Duration::ZERO, ..retry::Policy::default() };
        let embedder = RetryingEmbedder::new(waking.clone(), Retry::new("embedding", policy), HOUR);
        let result = embedder.embed(vec!["text".to_owned()], Priority::Interactive).await;
        assert_eq!((result.is_ok(), waking.calls.load(Ordering::SeqCst)), (works, calls));
        assert_eq!(embedder.model().dimensions, 384);
        assert!(embedder.token_embedder().is_some() && embedder.token_counter().count("two words") == 2);
    }
}
