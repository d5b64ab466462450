//! The answerer: guard → cache → retrieve → prompt → generate → cite; whole or as a stream.

mod audience;
pub mod citation;
pub mod fallback;
mod flight;
mod generation;
pub mod guard;
pub mod prompt;
mod resolve;
mod stored;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::catalog::Catalog;
use crate::document::Scope;
use crate::embedding::TokenCounter;
use crate::error::{Error, ErrorKind, Result};
use crate::llm::{Llm, ScoredPassage, Usage};
use crate::resilience::Deadline;
use crate::retrieve::filter::Filter;
use crate::retrieve::{Explanation, Mode, Retriever};
use crate::telemetry::metrics;
use audience::Audience;
use flight::Flights;

/// Most passages of a request.
pub const MAX_TOP_K: usize = 50;

/// A question, as every way in (HTTP, command line, evaluation) states it.
#[derive(Debug, Clone)]
pub struct Question {
    /// What the caller may see.
    pub scope: Scope,
    /// The question as it was sent; the guard cleans it.
    pub text: String,
    /// Passages wanted, 1 to 50; `None`: the configured number.
    pub top_k: Option<usize>,
    /// The user's filter.
    pub filter: Option<Filter>,
    /// Which branches search.
    pub mode: Mode,
    /// Whether to rerank.
    pub rerank: bool,
    /// Whether to explain every candidate.
    pub explain: bool,
    /// When it must be answered.
    pub deadline: Deadline,
    /// Who asks and in which request, for the log.
    pub caller: Caller,
}

/// Who asks and in which request, for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The request's id.
    pub request_id: String,
    /// The user of the key.
    pub user_id: String,
}

/// Where an answer says `[n]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Citation {
    /// Index into `sources`.
    pub source: usize,
    /// First character of the marker in the answer, in Unicode scalar values.
    pub start: usize,
    /// One past its last character.
    pub end: usize,
}

/// What went wrong, where the answer's body says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The knowledge base could not be reached.
    RetrievalFailed,
    /// The deadline passed.
    Timeout,
    /// No model answered; the sources are still worth having.
    GenerationFailed,
    /// A defect of ours.
    Internal,
}

/// An answer with its sources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The text, with `[n]` where it cites `sources[n - 1]`.
    pub answer: String,
    /// Whether the sources answer the question.
    pub answerable: bool,
    /// What the answer may cite, best first; empty if they do not answer it.
    pub sources: Vec<ScoredPassage>,
    /// Where the text cites.
    pub citations: Vec<Citation>,
    /// The model that answered.
    pub model: String,
    /// Tokens read and written.
    pub usage: Usage,
    /// Milliseconds by stage.
    pub timings_ms: Vec<(String, f64)>,
    /// Whether it came from the cache.
    pub cached: bool,
    /// What did not work and was done without.
    pub degraded: Vec<String>,
    /// What the caller should know, such as text that the guard removed.
    pub warnings: Vec<String>,
    /// Every candidate, if asked for.
    pub explain: Vec<Explanation>,
    /// What went wrong.
    pub code: Option<FailureCode>,
}

/// Found passages, without an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchAnswer {
    /// The passages, best first.
    pub sources: Vec<ScoredPassage>,
    /// Milliseconds by stage.
    pub timings_ms: Vec<(String, f64)>,
    /// What did not work and was done without.
    pub degraded: Vec<String>,
    /// What the caller should know.
    pub warnings: Vec<String>,
    /// Every candidate, if asked for.
    pub explain: Vec<Explanation>,
}

/// A piece of a streamed answer, in this order: sources once, tokens, done once.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerEvent {
    /// The sources (empty if they do not answer the question).
    Sources(Vec<ScoredPassage>),
    /// Text to append.
    Token(String),
    /// The whole answer (failures too, by their [`FailureCode`]).
    Done(Box<Answer>),
}

/// What an [`Answerer`] drives.
#[derive(Debug)]
pub struct AnswererParts {
    /// Finds the passages.
    pub retriever: Arc<Retriever>,
    /// The chain of language models, never empty.
    pub llms: Vec<Arc<dyn Llm>>,
    /// Keeps answers, if a cache is configured.
    pub cache: Option<Arc<dyn Cache>>,
    /// How long an answer is kept; zero: not at all.
    pub cache_ttl: Duration,
    /// Says which generation of the corpus there is.
    pub catalog: Arc<dyn Catalog>,
    /// Counts the tokens of prompts.
    pub token_counter: Arc<dyn TokenCounter>,
    /// How answers are made.
    pub config: Config,
}

/// Answers questions. Built by [`crate::app`]; HTTP, command line and evaluation all use this one.
#[derive(Debug, Clone)]
pub struct Answerer {
    parts: Arc<AnswererParts>,
    /// Every model that has a part in an answer, for cache keys.
    models: Arc<[String]>,
    flights: Arc<Flights>,
}

impl Answerer {
    /// An answerer of these parts.
    pub fn new(parts: AnswererParts) -> Self {
        let mut models = parts.retriever.model_names();
        models.extend(parts.llms.iter().map(|model| model.name().to_owned()));
        Self { parts: Arc::new(parts), models: models.into(), flights: Arc::default() }
    }

    /// Answers a question. A wrong question is an error ([`crate::error::ErrorKind::Invalid`]); what fails on the way
    /// is an [`Answer`] with a [`FailureCode`].
    pub async fn answer(&self, question: Question) -> Result<Answer> {
        let (ask, warning) = self.ask(question)?;
        self.run(ask, warning, Audience::nobody()).await
    }

    /// Answers a question piece by piece. Dropping the stream stops the work. A failure before there is anything to
    /// show is [`AnswerEvent::Done`] alone.
    pub async fn stream(&self, question: Question) -> Result<BoxStream<'static, AnswerEvent>> {
        let (ask, warning) = self.ask(question)?;
        let answerer = self.clone();
        Ok(audience::stream(move |audience| async move {
            let caller = ask.caller.clone();
            let answer = answerer.run(ask, warning, audience).await;
            let answer = answer.unwrap_or_else(|error| Self::broke_off(&caller, &error));
            AnswerEvent::Done(Box::new(answer))
        }))
    }

    /// What is answered when an answer broke off before it could say itself what went wrong; counted and logged.
    pub fn broke_off(caller: &Caller, error: &Error) -> Answer {
        let code = match error.kind() {
            ErrorKind::Timeout => FailureCode::Timeout,
            _ => FailureCode::Internal,
        };
        metrics::QUERIES.add(1, &[("status", "error".to_owned()), ("model", String::new())]);
        let Caller { request_id, user_id } = caller;
        tracing::warn!(request_id, user_id, ?code, error = error.chain(), "query_failed");
        Answer::failed(code)
    }

    /// The same retrieval without generation. All that goes wrong is an error.
    pub async fn search(&self, question: Question) -> Result<SearchAnswer> {
        let (ask, warning) = self.ask(question)?;
        let retrieval = self.retrieve(&ask).await.inspect_err(|error| {
            let (request_id, user_id) = (&ask.caller.request_id, &ask.caller.user_id);
            tracing::warn!(request_id, user_id, error = error.chain(), "query_failed");
        })?;
        Ok(SearchAnswer {
            sources: retrieval.passages,
            timings_ms: retrieval.timings_ms.into_iter().map(|(stage, ms)| (stage.to_owned(), ms)).collect(),
            degraded: retrieval.degraded,
            warnings: warning.into_iter().collect(),
            explain: retrieval.explain,
        })
    }

    /// Cleans and checks a question; the second value warns of what was removed.
    fn ask(&self, question: Question) -> Result<(Ask, Option<String>)> {
        let clean = guard::sanitise(&question.text)?;
        for (pattern, count) in &clean.removed {
            metrics::GUARD_REMOVED.add(*count, &[("pattern", (*pattern).to_owned())]);
        }
        clean.check()?;
        let top_k = question.top_k.unwrap_or(self.parts.retriever.config().rerank_top_k);
        if !(1..=MAX_TOP_K).contains(&top_k) {
            return Err(Error::invalid("/top_k", format!("top_k must be 1 to {MAX_TOP_K}")));
        }
        let (request_id, user_id) = (&question.caller.request_id, &question.caller.user_id);
        tracing::info!(request_id, user_id, query_length = clean.text.chars().count(), "query_started");
        let warning = clean.warning();
        let ask = Ask {
            scope: question.scope,
            text: clean.text,
            top_k,
            filter: question.filter,
            mode: question.mode,
            rerank: question.rerank,
            explain: question.explain,
            deadline: question.deadline,
            caller: question.caller,
        };
        Ok((ask, warning))
    }

    async fn run(&self, ask: Ask, warning: Option<String>, mut audience: Audience) -> Result<Answer> {
        let started = Instant::now();
        let mut answer = self.resolve(&ask, &mut audience).await?;
        answer.warnings.splice(0..0, warning);
        let status = if answer.code.is_some() { "error" } else { "success" };
        metrics::QUERIES.add(1, &[("status", status.to_owned()), ("model", answer.model.clone())]);
        metrics::QUERY_LATENCY.record(started.elapsed().as_secs_f64(), &[("stage", "total")]);
        if answer.code.is_some() {
            return Ok(answer);
        }
        let Usage { input_tokens, output_tokens } = answer.usage;
        if !answer.cached {
            metrics::TOKENS.add(input_tokens, &[("type", "input")]);
            metrics::TOKENS.add(output_tokens, &[("type", "output")]);
        }
        let (request_id, user_id) = (&ask.caller.request_id, &ask.caller.user_id);
        tracing::info!(request_id, user_id, input_tokens, output_tokens, cached = answer.cached, "query_complete");
        Ok(answer)
    }
}

/// A question that was cleaned and checked.
#[derive(Debug)]
struct Ask {
    scope: Scope,
    text: String,
    top_k: usize,
    filter: Option<Filter>,
    mode: Mode,
    rerank: bool,
    explain: bool,
    deadline: Deadline,
    caller: Caller,
}

/// How answers are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Most tokens of the sources in a prompt, counted with the embedding model's tokenizer.
    pub max_context_tokens: usize,
    /// Most tokens that a model writes.
    pub max_output_tokens: u32,
}
