//! The answerer: guard → cache → retrieve → prompt → generate → cite; whole or as a stream.

pub mod citation;
pub mod fallback;
pub mod guard;
pub mod prompt;

use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::document::Scope;
use crate::error::Result;
use crate::llm::{ScoredPassage, Usage};
use crate::resilience::Deadline;
use crate::retrieve::filter::Filter;
use crate::retrieve::{Explanation, Mode};

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

/// Answers questions. Built by [`crate::app`]; HTTP, command line and evaluation all use this one.
#[derive(Debug)]
pub struct Answerer {}

impl Answerer {
    /// Answers a question. A wrong question is an error ([`crate::error::ErrorKind::Invalid`]); what fails on the way
    /// is an [`Answer`] with a [`FailureCode`].
    pub async fn answer(&self, question: Question) -> Result<Answer> {
        let _ = question;
        todo!()
    }

    /// Answers a question piece by piece. Dropping the stream stops the work.
    pub async fn stream(&self, question: Question) -> Result<BoxStream<'static, AnswerEvent>> {
        let _ = question;
        todo!()
    }

    /// The same retrieval without generation.
    pub async fn search(&self, question: Question) -> Result<SearchAnswer> {
        let _ = question;
        todo!()
    }
}

/// How answers are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Most tokens of the sources in a prompt, counted with the embedding model's tokenizer.
    pub max_context_tokens: usize,
    /// Most tokens that a model writes.
    pub max_output_tokens: u32,
}
