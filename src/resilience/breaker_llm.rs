//! A language model behind a breaker.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};

use super::Breaker;
use super::breaker::Permit;
use crate::error::Result;
use crate::llm::{Generation, GenerationEvent, GenerationRequest, Llm};

/// Asks the model only while its breaker is closed. A generation counts when it is over: one that breaks off is a
/// failure, one that the caller drops after its first text is not.
#[derive(Debug)]
pub struct BreakerLlm {
    inner: Arc<dyn Llm>,
    breaker: Breaker,
}

impl BreakerLlm {
    /// Puts `inner` behind `breaker`.
    pub fn new(inner: Arc<dyn Llm>, breaker: Breaker) -> Self {
        Self { inner, breaker }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Llm for BreakerLlm {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn generate(&self, request: &GenerationRequest) -> Result<Generation> {
        let permit = self.breaker.admit()?;
        match self.inner.generate(request).await {
            Ok(generation) => Ok(watch(generation, permit)),
            Err(error) => {
                let result = Err(error);
                permit.settle(&result);
                result
            }
        }
    }
}

/// Passes a generation on, and tells the breaker how it went.
fn watch(generation: Generation, permit: Permit) -> Generation {
    stream::unfold((generation, Some(permit)), |(mut generation, mut permit)| async move {
        let event = generation.next().await;
        match &event {
            Some(Ok(GenerationEvent::Text(_))) => {
                if let Some(permit) = &mut permit {
                    permit.progressed();
                }
            }
            Some(Ok(_)) => {}
            Some(result @ Err(_)) => {
                if let Some(permit) = permit.take() {
                    permit.settle(result);
                }
            }
            None => {
                if let Some(permit) = permit.take() {
                    permit.settle(&Ok(()));
                }
            }
        }
        event.map(|event| (event, (generation, permit)))
    })
    .boxed()
}
