//! Deadlines, retries and breakers: written once, and stacked round a trait where it is built.
//!
//! [`retry`] and [`breaker`] know no trait; the wrappers below are the trait they wrap.

pub mod breaker;
pub mod breaker_cache;
pub mod breaker_limiter;
pub mod breaker_llm;
pub mod breaker_store;
pub mod fallback_limiter;
pub mod retry;
pub mod retrying_embedder;
pub mod retrying_store;

use std::sync::Arc;
use std::time::Duration;

pub use breaker::{Breaker, BreakerState};
pub use breaker_cache::BreakerCache;
pub use breaker_limiter::BreakerLimiter;
pub use breaker_llm::BreakerLlm;
pub use breaker_store::BreakerStore;
pub use fallback_limiter::FallbackLimiter;
pub use retry::Retry;
pub use retrying_embedder::RetryingEmbedder;
pub use retrying_store::RetryingStore;

use tokio::time::Instant;

use crate::cache::Cache;
use crate::embedding::Embedder;
use crate::error::{Error, ErrorKind, Result};
use crate::limit::RateLimiter;
use crate::llm::Llm;
use crate::vector_store::VectorStore;

/// The moment by which a request must have its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline so far from now.
    pub fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    /// The earlier of this deadline and one so far from now: a stage's share of a request.
    #[must_use]
    pub fn at_most(self, duration: Duration) -> Self {
        Self(self.0.min(Instant::now() + duration))
    }

    /// What is left, zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn is_over(self) -> bool {
        self.remaining().is_zero()
    }

    /// Runs `work` until the deadline; past it the work is dropped and the error is [`ErrorKind::Timeout`].
    pub async fn run<T>(self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout_at(self.0, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("{what} took too long"))),
        }
    }
}

/// An embedder that tries again: 3 tries within 5 s.
pub fn retrying_embedder(inner: Arc<dyn Embedder>) -> Arc<dyn Embedder> {
    let retry = Retry::new("embedding", retry::Policy::default());
    Arc::new(RetryingEmbedder::new(inner, retry, Duration::from_secs(5)))
}

/// A vector store over a network that tries again: 3 tries, of a search within 2 s (it has 5 s, and a lost connection is
/// noticed at once), of a change within 30 s.
pub fn retrying_store(inner: Arc<dyn VectorStore>) -> Arc<dyn VectorStore> {
    let policy = retry::Policy { base: Duration::from_millis(200), cap: Duration::from_secs(2), ..Default::default() };
    let (reads, writes) = (Duration::from_secs(2), Duration::from_secs(30));
    Arc::new(RetryingStore::new(inner, Retry::new("vector_store", policy), reads, writes))
}

/// A vector store behind a breaker for searches and one for changes. A search has 5 s, so one that took 4 has hung.
pub fn breaking_store(inner: Arc<dyn VectorStore>) -> Arc<dyn VectorStore> {
    let policy = breaker::Policy { patience: Duration::from_secs(4), ..breaker::Policy::default() };
    let (reads, writes) = (Breaker::new("vector_store", policy), Breaker::new("vector_store_writes", policy));
    Arc::new(BreakerStore::new(inner, reads, writes))
}

/// A cache behind a breaker. A look-up has [`crate::cache::LIMIT`].
pub fn breaking_cache(inner: Arc<dyn Cache>) -> Arc<dyn Cache> {
    let policy = breaker::Policy { patience: crate::cache::LIMIT / 2, ..breaker::Policy::default() };
    Arc::new(BreakerCache::new(inner, Breaker::new("cache", policy)))
}

/// A shared rate limiter behind a breaker, and a local one for while it is down. Redis is back before its callers know
/// it, so it is left alone for 2 s only: limits are to be exact again within 5.
pub fn falling_back_limiter(shared: Arc<dyn RateLimiter>, local: Arc<dyn RateLimiter>) -> Arc<dyn RateLimiter> {
    let policy = breaker::Policy {
        open_for: Duration::from_secs(2),
        patience: Duration::from_millis(100),
        ..breaker::Policy::default()
    };
    let shared = BreakerLimiter::new(shared, Breaker::new("limit", policy));
    Arc::new(FallbackLimiter::new(Arc::new(shared), local))
}

/// A language model behind a breaker of its own. The client gives a first token 20 s, and a short deadline of the caller
/// less: one that has not begun after 9 has hung.
pub fn breaking_llm(inner: Arc<dyn Llm>) -> Arc<dyn Llm> {
    let policy = breaker::Policy { patience: Duration::from_secs(9), ..breaker::Policy::default() };
    let breaker = Breaker::new(format!("llm:{}", inner.name()), policy);
    Arc::new(BreakerLlm::new(inner, breaker))
}
