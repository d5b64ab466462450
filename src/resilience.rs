//! Deadlines, retries and breakers: written once, and stacked round a trait where it is built.
//!
//! [`retry`] and [`breaker`] know no trait; the wrappers below are the trait they wrap.

pub mod breaker;
pub mod breaker_cache;
pub mod breaker_llm;
pub mod breaker_store;
pub mod retry;
pub mod retrying_embedder;

use std::time::Duration;

pub use breaker::{Breaker, BreakerState};
pub use breaker_cache::BreakerCache;
pub use breaker_llm::BreakerLlm;
pub use breaker_store::BreakerStore;
pub use retry::Retry;
pub use retrying_embedder::RetryingEmbedder;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};

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
