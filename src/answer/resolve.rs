//! From a clean question to its answer: cache → retrieve → generate → cache.

use std::time::Duration;

use tokio::time::Instant;

use super::audience::Audience;
use super::flight::Joined;
use super::generation::{Generated, Generator, Material};
use super::{Answer, Answerer, Ask, FailureCode, fallback, stored};
use crate::cache::{self, Cache};
use crate::error::{Error, ErrorKind, Result};
use crate::retrieve::{Retrieval, RetrievalRequest};
use crate::telemetry::metrics;

/// Longest wait for the catalog to say which generation it has.
const CATALOG_LIMIT: Duration = Duration::from_secs(5);

impl Answerer {
    /// The answer to a question. The error is [`ErrorKind::Invalid`] only; all else is an answer with its code.
    pub(super) async fn resolve(&self, ask: &Ask, audience: &mut Audience) -> Result<Answer> {
        let generation = match self.generation(ask).await {
            Ok(generation) => generation,
            Err(error) => return Ok(self.failure(ask, retrieval_code(&error), &error)),
        };
        // An explanation is about this very retrieval, so it is neither taken from the cache nor kept.
        if ask.explain {
            return self.compute(ask, audience).await;
        }
        let key = stored::key(ask, generation, &self.models, &self.parts.config)?;
        let (cached, cache_failed) = self.look_up(&key).await;
        if let Some(answer) = cached {
            return Ok(replay(answer, ask, audience).await);
        }
        let joined = ask.deadline.run("an identical question", async { Ok(self.flights.join(&key).await) }).await;
        let leader = match joined {
            Ok(Joined::Landed(answer)) => {
                return Ok(replay(Answer { cached: true, ..*answer }, ask, audience).await);
            }
            Ok(Joined::Leader(leader)) => Some(leader),
            Ok(Joined::Alone) => None,
            Err(error) => return Ok(self.failure(ask, FailureCode::Timeout, &error)),
        };
        let mut answer = self.compute(ask, audience).await?;
        let shareable = answer.code.is_none() && answer.degraded.is_empty();
        // What was retrieved belongs to this generation only if none began meanwhile.
        let current = shareable && self.generation(ask).await.is_ok_and(|now| now == generation);
        if let Some(leader) = leader {
            leader.land(current.then_some(&answer));
        }
        let keep_failed = current && !cache_failed && !self.keep(&key, &answer).await;
        // What was deleted meanwhile has also been forgotten meanwhile: before, or after, but not never.
        if current && self.cache().is_some() && !self.generation(ask).await.is_ok_and(|now| now == generation) {
            self.forget(ask).await;
        }
        if cache_failed || keep_failed {
            metrics::DEGRADED.add(1, &[("what", "cache")]);
            answer.degraded.push("cache".to_owned());
        }
        Ok(answer)
    }

    async fn generation(&self, ask: &Ask) -> Result<u64> {
        let limit = ask.deadline.at_most(CATALOG_LIMIT);
        limit.run("the catalog", self.parts.catalog.generation(ask.scope.tenant())).await
    }

    async fn compute(&self, ask: &Ask, audience: &mut Audience) -> Result<Answer> {
        let retrieval = match self.retrieve(ask).await {
            Ok(retrieval) => retrieval,
            Err(error) if error.kind() == ErrorKind::Invalid => return Err(error),
            Err(error) => return Ok(self.failure(ask, retrieval_code(&error), &error)),
        };
        let started = Instant::now();
        let material = Material { question: &ask.text, passages: &retrieval.passages, deadline: ask.deadline };
        let generated = match retrieval.passages.is_empty() {
            true => Ok(None),
            false => self.generator().generate(material, audience).await.map(Some),
        };
        let mut answer = match generated {
            Ok(Some(generated)) if generated.answerable => accept(generated, &retrieval),
            Ok(generated) => self.not_found(generated, audience, ask).await,
            Err(error) => self.generation_failed(ask, &error, &retrieval, audience).await,
        };
        let seconds = started.elapsed().as_secs_f64();
        metrics::QUERY_LATENCY.record(seconds, &[("stage", "generation")]);
        let generation = ("generation".to_owned(), seconds * 1e3);
        let stages = retrieval.timings_ms.iter().map(|(stage, ms)| ((*stage).to_owned(), *ms));
        answer.timings_ms = stages.chain([generation]).collect();
        answer.degraded.splice(0..0, retrieval.degraded);
        answer.explain = retrieval.explain;
        Ok(answer)
    }

    /// Retrieves, and notes that it did.
    pub(super) async fn retrieve(&self, ask: &Ask) -> Result<Retrieval> {
        let request = RetrievalRequest {
            scope: ask.scope.clone(),
            question: ask.text.clone(),
            top_k: ask.top_k,
            filter: ask.filter.clone(),
            mode: ask.mode,
            rerank: ask.rerank,
            explain: ask.explain,
            deadline: ask.deadline,
        };
        let retrieve = self.parts.retriever.retrieve(&request);
        let retrieval = ask.deadline.run("the retrieval", retrieve).await?;
        let num_documents = retrieval.passages.len();
        let (request_id, user_id) = (&ask.caller.request_id, &ask.caller.user_id);
        tracing::info!(request_id, user_id, num_documents, "retrieval_complete");
        Ok(retrieval)
    }

    fn generator(&self) -> Generator<'_> {
        let parts = &self.parts;
        Generator { models: &parts.llms, counter: &*parts.token_counter, config: &parts.config }
    }

    async fn not_found(&self, generated: Option<Generated>, audience: &mut Audience, ask: &Ask) -> Answer {
        audience.sources(&[], ask.deadline).await;
        audience.text(fallback::NOT_FOUND, ask.deadline).await;
        let (model, usage, degraded) = match generated {
            Some(generated) => (generated.model, generated.usage, generated.degraded),
            None => (self.first_model(), Default::default(), false),
        };
        Answer {
            answer: fallback::NOT_FOUND.to_owned(),
            model,
            usage,
            degraded: generation_degraded(degraded),
            ..Answer::default()
        }
    }

    async fn generation_failed(
        &self,
        ask: &Ask,
        error: &Error,
        retrieval: &Retrieval,
        audience: &mut Audience,
    ) -> Answer {
        if ask.deadline.is_over() {
            return self.failure(ask, FailureCode::Timeout, error);
        }
        audience.sources(&retrieval.passages, ask.deadline).await;
        let failure = self.failure(ask, FailureCode::GenerationFailed, error);
        Answer { sources: retrieval.passages.clone(), degraded: generation_degraded(true), ..failure }
    }

    /// An answer that says what went wrong. A deadline that is over explains every error.
    fn failure(&self, ask: &Ask, code: FailureCode, error: &Error) -> Answer {
        let code = if ask.deadline.is_over() { FailureCode::Timeout } else { code };
        let (request_id, user_id) = (&ask.caller.request_id, &ask.caller.user_id);
        tracing::warn!(request_id, user_id, ?code, error = error.chain(), "query_failed");
        Answer { model: self.first_model(), ..Answer::failed(code) }
    }

    fn first_model(&self) -> String {
        self.parts.llms.first().map(|model| model.name().to_owned()).unwrap_or_default()
    }

    /// The cached answer, and whether the cache failed. A cache that fails or is slow is a miss.
    async fn look_up(&self, key: &str) -> (Option<Answer>, bool) {
        let Some(cache) = self.cache() else { return (None, false) };
        match cache::look_up(cache, "answer", key, |bytes| stored::decode(bytes).map(Some)).await {
            Ok(found) => (found, false),
            Err(error) => {
                tracing::warn!(error = error.chain(), "the answer cache failed");
                (None, true)
            }
        }
    }

    /// Keeps an answer; false if the cache failed.
    async fn keep(&self, key: &str, answer: &Answer) -> bool {
        let Some(cache) = self.cache() else { return true };
        let put = async {
            let bytes = stored::encode(answer)?;
            cache.put(key, bytes, self.parts.cache_ttl).await
        };
        match tokio::time::timeout(cache::LIMIT, put).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(error = error.chain(), "an answer could not be cached");
                false
            }
            Err(_) => false,
        }
    }

    async fn forget(&self, ask: &Ask) {
        let Some(cache) = self.cache() else { return };
        if !matches!(tokio::time::timeout(cache::LIMIT, cache.forget(ask.scope.tenant())).await, Ok(Ok(()))) {
            tracing::warn!("an answer of an earlier generation stays in the cache until it expires; it is not served");
        }
    }

    fn cache(&self) -> Option<&dyn Cache> {
        self.parts.cache.as_deref().filter(|_| !self.parts.cache_ttl.is_zero())
    }
}

/// An answer that was there already, shown as if it were made now.
async fn replay(answer: Answer, ask: &Ask, audience: &mut Audience) -> Answer {
    audience.sources(&answer.sources, ask.deadline).await;
    audience.text(&answer.answer, ask.deadline).await;
    Answer { timings_ms: Vec::new(), ..answer }
}

fn accept(generated: Generated, retrieval: &Retrieval) -> Answer {
    let mut warnings = Vec::new();
    if generated.citations.is_empty() {
        warnings.push("the answer cites no source".to_owned());
    }
    if generated.truncated {
        warnings.push("the answer was cut off at the limit of tokens".to_owned());
    }
    Answer {
        answer: generated.answer,
        answerable: true,
        sources: retrieval.passages[..generated.sources].to_vec(),
        citations: generated.citations,
        model: generated.model,
        usage: generated.usage,
        degraded: generation_degraded(generated.degraded),
        warnings,
        ..Answer::default()
    }
}

fn generation_degraded(degraded: bool) -> Vec<String> {
    if !degraded {
        return Vec::new();
    }
    metrics::DEGRADED.add(1, &[("what", "generation")]);
    vec!["generation".to_owned()]
}

/// What a failed retrieval is called: down, or a defect of ours.
fn retrieval_code(error: &Error) -> FailureCode {
    match error.is_transient() {
        true => FailureCode::RetrievalFailed,
        false => FailureCode::Internal,
    }
}
