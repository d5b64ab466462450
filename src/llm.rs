//! The seam to language models: a prompt in, a stream of text out.

pub mod extractive;
pub mod openai;
mod sse;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use futures::stream::BoxStream;
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::document::Passage;
use crate::error::{Error, Result};

/// What a model writes, alone in a line, where the sources do not answer.
pub const SENTINEL: &str = "NO_ANSWER_IN_SOURCES";

/// The text without [`SENTINEL`]: a document that holds it must not speak for the model.
pub fn without_sentinel(text: &str) -> Cow<'_, str> {
    static PATTERN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(&format!("(?i){SENTINEL}")).expect("the pattern is a regular expression"));
    PATTERN.replace_all(text, "no answer in sources")
}

/// What a model is asked. `extractive` reads `question` and `passages`; a chat model reads `system` and `user`, which
/// [`crate::answer::prompt`] rendered from the same passages.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRequest {
    /// The sanitised question.
    pub question: String,
    /// The passages of the prompt, best first; a citation `[n]` means `passages[n - 1]`.
    pub passages: Vec<ScoredPassage>,
    /// The rendered instructions.
    pub system: String,
    /// The rendered question with its delimited sources.
    pub user: String,
    /// Most tokens to generate.
    pub max_tokens: u32,
}

/// A passage with its relevance to the question.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredPassage {
    /// What was found.
    pub passage: Passage,
    /// The score it is ranked by.
    pub score: f32,
    /// Cosine similarity to the question, where the dense branch found it.
    pub dense_score: Option<f32>,
    /// The reranker's relevance (0..=1), where it was reranked.
    pub rerank_score: Option<f32>,
}

/// Tokens that were read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
}

/// A piece of a generation.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerationEvent {
    /// Text to append.
    Text(String),
    /// The model stopped at the limit of tokens, in the middle of what it had to say.
    Truncated,
    /// The counts, once, last; what a server does not count is counted with our tokenizer by the caller.
    Usage(Usage),
}

/// A running generation. Dropping it stops the work.
pub type Generation = BoxStream<'static, Result<GenerationEvent>>;

/// Writes an answer from a prompt.
#[async_trait]
pub trait Llm: fmt::Debug + Send + Sync {
    /// The model's name, as answers and metrics show it.
    fn name(&self) -> &str;

    /// Begins a generation. An error before the first text is worth another try; one after it is not.
    async fn generate(&self, request: &GenerationRequest) -> Result<Generation>;
}

/// One model of the chain; the next is asked when one fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// Cited sentences of the passages, without a model.
    Extractive,
    /// An OpenAI-compatible chat API.
    OpenAi {
        /// The model's name, as the server knows it.
        model: String,
        /// Such as `https://api.openai.com/v1`.
        base_url: String,
        /// Sent as a bearer token.
        api_key: Option<crate::config::Secret>,
    },
}

/// Builds the chain of models. [`crate::error::ErrorKind::Config`] if a model cannot be set up.
pub fn build(configs: &[Config]) -> Result<Vec<Arc<dyn Llm>>> {
    if configs.is_empty() {
        return Err(Error::config("RAG_LLM_MODEL is empty: name at least one model, such as `extractive`"));
    }
    configs
        .iter()
        .map(|config| match config {
            Config::Extractive => Ok(Arc::new(extractive::Extractive) as Arc<dyn Llm>),
            Config::OpenAi { model, base_url, api_key } => {
                let timeouts = openai::Timeouts::default();
                Ok(Arc::new(openai::OpenAi::new(model, base_url, api_key.clone(), timeouts)?) as Arc<dyn Llm>)
            }
        })
        .collect()
}
