//! How answers are kept in the cache, and under which key.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Answer, Ask, Citation, Config, prompt};
use crate::cache;
use crate::document::Passage;
use crate::error::{Error, Result};
use crate::llm::{ScoredPassage, Usage};

/// Of an answer, what another caller with the same key may have. Read with [`decode`] only.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    answer: String,
    answerable: bool,
    sources: Vec<StoredSource>,
    citations: Vec<Citation>,
    model: String,
    usage: Usage,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredSource {
    passage: Passage,
    score: f32,
    dense_score: Option<f32>,
    rerank_score: Option<f32>,
}

/// Changes when what is stored changes its form.
const FORMAT: u32 = 1;

/// The key of an answer. `generation` counts the changes of what the tenant's questions may see, `models` are all that had
/// a part in it.
pub(super) fn key(ask: &Ask, generation: u64, models: &[String], config: &Config) -> Result<String> {
    let question: Vec<&str> = ask.text.split_whitespace().collect();
    let scope = (ask.scope.tenant(), ask.scope.principals(), generation);
    let makers = (FORMAT, models, prompt::version(), config.max_context_tokens, config.max_output_tokens);
    let parameters = (ask.top_k, &ask.filter, ask.mode, ask.rerank);
    cache::key(ask.scope.tenant(), "answer", &(scope, makers, question, parameters))
}

/// An answer as bytes.
pub(super) fn encode(answer: &Answer) -> Result<Bytes> {
    let source = |source: &ScoredPassage| StoredSource {
        passage: source.passage.clone(),
        score: source.score,
        dense_score: source.dense_score,
        rerank_score: source.rerank_score,
    };
    let stored = Stored {
        answer: answer.answer.clone(),
        answerable: answer.answerable,
        sources: answer.sources.iter().map(source).collect(),
        citations: answer.citations.clone(),
        model: answer.model.clone(),
        usage: answer.usage,
        warnings: answer.warnings.clone(),
    };
    let bytes = serde_json::to_vec(&stored).map_err(|error| Error::internal("an answer cannot be cached", error))?;
    Ok(bytes.into())
}

/// An answer from bytes, marked as cached.
pub(super) fn decode(bytes: &[u8]) -> Result<Answer> {
    let stored: Stored =
        serde_json::from_slice(bytes).map_err(|error| Error::internal("a cached answer cannot be read", error))?;
    let source = |source: StoredSource| ScoredPassage {
        passage: source.passage,
        score: source.score,
        dense_score: source.dense_score,
        rerank_score: source.rerank_score,
    };
    Ok(Answer {
        answer: stored.answer,
        answerable: stored.answerable,
        sources: stored.sources.into_iter().map(source).collect(),
        citations: stored.citations,
        model: stored.model,
        usage: stored.usage,
        warnings: stored.warnings,
        cached: true,
        ..Answer::default()
    })
}
