//! The vectors of questions, which are computed once for those who may read the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rag_api::cache::{Backend, Config};
use rag_api::document::Scope;
use rag_api::embedding::questions::QuestionVectors;
use rag_api::embedding::{Embedder, EmbeddingModel, Priority, TokenCounter, TokenEmbedder};
use rag_api::error::Result;

use crate::models::minilm;
use crate::support::redis::{RedisServer, server};

const MINUTE: Duration = Duration::from_secs(60);
const QUESTION: &str = "How long are invoices kept?";

/// A real embedder whose calls are counted.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Embedder>,
    calls: AtomicU32,
}

#[async_trait]
impl Embedder for Counted {
    fn model(&self) -> &EmbeddingModel {
        self.inner.model()
    }

    async fn embed(&self, texts: Vec<String>, priority: Priority) -> Result<Vec<Vec<f32>>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.inner.embed(texts, priority).await
    }

    fn token_counter(&self) -> Arc<dyn TokenCounter> {
        self.inner.token_counter()
    }

    fn token_embedder(&self) -> Option<Arc<dyn TokenEmbedder>> {
        self.inner.token_embedder()
    }
}

fn scope(tenant: &str, principals: &[&str]) -> Scope {
    Scope::new(tenant.parse().unwrap(), principals.iter().map(|name| name.parse().unwrap()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_embedded_once_for_those_who_may_read_the_same() {
    let mut redis = RedisServer::start();
    let backend = Backend::Redis(server(&redis.url()));
    let cache = rag_api::cache::build(&Config { ttl: MINUTE, backend }).await.unwrap().expect("switched on");
    let embedder = Arc::new(Counted { inner: minilm(1), calls: AtomicU32::new(0) });
    let calls = || embedder.calls.load(Ordering::SeqCst);
    // Two replicas.
    let questions = || QuestionVectors::new(embedder.clone(), Some((cache.clone(), MINUTE)));
    let (one, two) = (questions(), questions());
    let ann = scope("acme", &["public", "user:ann"]);

    let vector = one.embed(&ann, QUESTION).await.unwrap();
    assert_eq!(vector.len(), embedder.model().dimensions);
    assert!(two.embed(&ann, QUESTION).await.unwrap() == vector);
    assert!(two.embed(&ann, "  How long\tare invoices kept? ").await.unwrap() == vector);
    assert_eq!(calls(), 1);
    for (n, other) in
        [scope("acme", &["public", "user:bob"]), scope("umbra", &["public", "user:ann"])].iter().enumerate()
    {
        one.embed(other, QUESTION).await.unwrap();
        assert_eq!(calls(), 2 + n as u32, "nobody finds what another asked");
    }

    // With what a tenant has forgotten goes the vector; what is no vector is none.
    cache.forget(&"acme".parse().unwrap()).await.unwrap();
    one.embed(&ann, QUESTION).await.unwrap();
    assert_eq!(calls(), 4);
    let key = redis.command(&["ZRANGE", "rag:cache:{acme}", "0", "0"]);
    assert!(key.starts_with("rag:cache:{acme}/embedding/"), "{key}");
    cache.put(&key.replace("rag:cache:{acme}", "acme"), Bytes::from_static(b"half"), MINUTE).await.unwrap();
    assert!(one.embed(&ann, QUESTION).await.unwrap() == vector);
    assert_eq!(calls(), 5);

    redis.kill();
    assert!(one.embed(&ann, QUESTION).await.unwrap() == vector, "it does without");
    assert_eq!(calls(), 6);
}

#[tokio::test]
async fn without_a_time_to_live_nothing_is_kept() {
    let backend = Backend::Memory { max_bytes: 1 << 20 };
    let cache = rag_api::cache::build(&Config { ttl: MINUTE, backend }).await.unwrap().expect("switched on");
    let embedder = Arc::new(Counted { inner: minilm(1), calls: AtomicU32::new(0) });
    let ann = scope("acme", &["user:ann"]);
    for (cache, calls) in [(None, 2), (Some((cache.clone(), Duration::ZERO)), 4), (Some((cache, MINUTE)), 5)] {
        let questions = QuestionVectors::new(embedder.clone(), cache);
        questions.embed(&ann, QUESTION).await.unwrap();
        questions.embed(&ann, QUESTION).await.unwrap();
        assert_eq!(embedder.calls.load(Ordering::SeqCst), calls);
    }
}
