//! What `/v1/query` and `/v1/search` take and send.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::{Answer, Citation, FailureCode, Question, SearchAnswer};
use crate::document::Metadata;
use crate::error::Result;
use crate::http::extract::Call;
use crate::llm::{ScoredPassage, Usage};
use crate::retrieve::filter::Filter;
use crate::retrieve::{Explanation, Mode};

/// A question.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "query": "How long are invoices kept?", "top_k": 5, "filters": {"department": "finance", "year": {"$gte": 2023}}
}))]
pub(in crate::http) struct QueryRequest {
    /// 1 to 2,000 characters after trimming.
    #[schema(min_length = 1)]
    query: String,
    /// Passages wanted; `RAG_RERANK_TOP_K` (5) by default.
    #[schema(minimum = 1, maximum = 50)]
    top_k: Option<usize>,
    /// Conditions on metadata: `{"field": value}`, operators `$eq $ne $in $nin $gt $gte $lt $lte $exists`, combined by
    /// `$and $or $not`.
    #[schema(value_type = Option<Object>)]
    filters: Option<Value>,
    /// Answer as server-sent events.
    #[serde(default)]
    pub(super) stream: bool,
    /// Which branches search.
    #[serde(default)]
    mode: Mode,
    /// Whether passages are reranked.
    #[serde(default = "yes")]
    #[schema(default = true)]
    rerank: bool,
    /// Whether the answer explains the rank of every candidate.
    #[serde(default)]
    explain: bool,
}

/// A search.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"query": "invoice retention", "top_k": 10, "mode": "hybrid", "explain": true}))]
pub(in crate::http) struct SearchRequest {
    /// 1 to 2,000 characters after trimming.
    #[schema(min_length = 1)]
    query: String,
    /// Passages wanted; `RAG_RERANK_TOP_K` (5) by default.
    #[schema(minimum = 1, maximum = 50)]
    top_k: Option<usize>,
    /// Conditions on metadata, as in a question.
    #[schema(value_type = Option<Object>)]
    filters: Option<Value>,
    /// Which branches search.
    #[serde(default)]
    mode: Mode,
    /// Whether passages are reranked.
    #[serde(default = "yes")]
    #[schema(default = true)]
    rerank: bool,
    /// Whether the result explains the rank of every candidate.
    #[serde(default)]
    explain: bool,
}

fn yes() -> bool {
    true
}

impl From<QueryRequest> for SearchRequest {
    fn from(request: QueryRequest) -> Self {
        let QueryRequest { query, top_k, filters, stream: _, mode, rerank, explain } = request;
        Self { query, top_k, filters, mode, rerank, explain }
    }
}

impl SearchRequest {
    /// The question that was meant; the answerer checks its text and its `top_k`.
    pub(super) fn question(self, call: &Call) -> Result<Question> {
        Ok(Question {
            scope: call.identity.scope()?,
            text: self.query,
            top_k: self.top_k,
            filter: self.filters.as_ref().map(Filter::parse).transpose()?,
            mode: self.mode,
            rerank: self.rerank,
            explain: self.explain,
            deadline: call.deadline,
            caller: call.caller(),
        })
    }
}

/// A passage that an answer may cite.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct SourceView {
    /// `{document_id}_{chunk_idx}`.
    id: String,
    /// Its document.
    document_id: String,
    /// Its position in the document, from 0.
    chunk_idx: u32,
    /// The document's title.
    title: String,
    /// The text.
    text: String,
    /// The score it is ranked by.
    score: f32,
    /// Page of the first character, from 1, where the document has pages.
    page: Option<u32>,
    /// First character in the extracted text, in Unicode scalar values.
    start: u64,
    /// One past the last character.
    end: u64,
    /// The document's metadata.
    #[schema(value_type = Object)]
    metadata: Metadata,
}

impl From<ScoredPassage> for SourceView {
    fn from(scored: ScoredPassage) -> Self {
        let passage = scored.passage;
        Self {
            id: passage.chunk_id(),
            document_id: passage.document_id.into(),
            chunk_idx: passage.chunk.chunk_idx,
            title: passage.title,
            text: passage.chunk.text,
            score: scored.score,
            page: passage.chunk.page,
            start: passage.chunk.start,
            end: passage.chunk.end,
            metadata: passage.metadata,
        }
    }
}

/// Tokens that were read and written.
#[derive(Debug, Clone, Copy, Default, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct UsageView {
    /// Tokens of the prompt.
    input_tokens: u64,
    /// Tokens of the answer.
    output_tokens: u64,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        Self { input_tokens: usage.input_tokens, output_tokens: usage.output_tokens }
    }
}

/// Why the candidates stand where they stand.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct ExplainView {
    /// The filter that was applied besides the caller's access, as it was understood.
    #[schema(value_type = Option<Object>)]
    filter: Option<Filter>,
    /// Every candidate, in the final order.
    candidates: Vec<Explanation>,
}

/// The explanation, if the question asked for it: then `filter` says what the question's filter was.
fn explained(filter: Option<Option<Filter>>, candidates: Vec<Explanation>) -> Option<ExplainView> {
    filter.map(|filter| ExplainView { filter, candidates })
}

/// An answer with its sources.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct QueryResponse {
    /// The text, with `[n]` where it cites `sources[n - 1]`.
    answer: String,
    /// Whether the sources answer the question.
    answerable: bool,
    /// What the answer may cite, best first; empty if they do not answer the question.
    sources: Vec<SourceView>,
    /// The rest, as in the event `done`.
    #[serde(flatten)]
    rest: AnswerFields,
}

/// What the body of an answer and the event `done` have in common.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct AnswerFields {
    /// Where the text cites.
    citations: Vec<Citation>,
    /// The model that answered.
    model: String,
    /// Tokens that were read and written.
    usage: UsageView,
    /// Milliseconds from the request's arrival to this body.
    latency_ms: f64,
    /// Milliseconds by stage: `embedding`, `retrieval`, `rerank`, `generation`.
    timings_ms: BTreeMap<String, f64>,
    /// Whether it came from the cache.
    cached: bool,
    /// What did not work and was done without: `rerank`, `cache`, `generation`.
    degraded: Vec<String>,
    /// What the caller should know, such as text that was removed from the question.
    warnings: Vec<String>,
    /// Whether something went wrong.
    error: bool,
    /// What went wrong.
    code: Option<FailureCode>,
    /// The request's id, as in `x-request-id`.
    request_id: String,
    /// Only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<ExplainView>,
}

/// The event `sources`.
#[derive(Debug, Serialize)]
pub(in crate::http) struct SourcesEvent {
    pub(in crate::http) sources: Vec<SourceView>,
}

/// The event `token`.
#[derive(Debug, Serialize)]
pub(in crate::http) struct TokenEvent {
    pub(in crate::http) text: String,
}

/// The events `done` and `error`: an answer without its sources.
#[derive(Debug, Serialize)]
pub(in crate::http) struct DoneEvent {
    answer: String,
    answerable: bool,
    #[serde(flatten)]
    rest: AnswerFields,
}

impl QueryResponse {
    pub(super) fn new(mut answer: Answer, call: &Call, explain: Option<Option<Filter>>) -> Self {
        let sources = std::mem::take(&mut answer.sources).into_iter().map(SourceView::from).collect();
        let DoneEvent { answer, answerable, rest } = DoneEvent::new(answer, call, explain);
        Self { answer, answerable, sources, rest }
    }
}

impl DoneEvent {
    pub(in crate::http) fn new(answer: Answer, call: &Call, explain: Option<Option<Filter>>) -> Self {
        let rest = AnswerFields {
            citations: answer.citations,
            model: answer.model,
            usage: answer.usage.into(),
            latency_ms: rounded(call.latency_ms()),
            timings_ms: rounded_timings(answer.timings_ms),
            cached: answer.cached,
            degraded: answer.degraded,
            warnings: answer.warnings,
            error: answer.code.is_some(),
            code: answer.code,
            request_id: call.context.id.to_string(),
            explain: explained(explain, answer.explain),
        };
        Self { answer: answer.answer, answerable: answer.answerable, rest }
    }
}

/// Found passages.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct SearchResponse {
    /// Best first.
    sources: Vec<SourceView>,
    /// Milliseconds by stage: `embedding`, `retrieval`, `rerank`.
    timings_ms: BTreeMap<String, f64>,
    /// Milliseconds from the request's arrival to this body.
    latency_ms: f64,
    /// What did not work and was done without: `rerank`.
    degraded: Vec<String>,
    /// What the caller should know.
    warnings: Vec<String>,
    /// The request's id, as in `x-request-id`.
    request_id: String,
    /// Only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<ExplainView>,
}

impl SearchResponse {
    pub(super) fn new(found: SearchAnswer, call: &Call, explain: Option<Option<Filter>>) -> Self {
        Self {
            sources: found.sources.into_iter().map(SourceView::from).collect(),
            timings_ms: rounded_timings(found.timings_ms),
            latency_ms: rounded(call.latency_ms()),
            degraded: found.degraded,
            warnings: found.warnings,
            request_id: call.context.id.to_string(),
            explain: explained(explain, found.explain),
        }
    }
}

/// To a tenth of a millisecond: more is noise.
fn rounded(millis: f64) -> f64 {
    (millis * 10.0).round() / 10.0
}

fn rounded_timings(timings: Vec<(String, f64)>) -> BTreeMap<String, f64> {
    timings.into_iter().map(|(stage, millis)| (stage, rounded(millis))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::parse;
    use crate::http::problem::Refusal;

    fn wrong_at(json: &str) -> String {
        match parse::<QueryRequest>(json.as_bytes()) {
            Err(Refusal::Failed(error)) => error.pointer().unwrap_or("none").to_owned(),
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn a_question_has_defaults() {
        let request: QueryRequest = parse(br#"{"query": "why"}"#).unwrap();
        assert!(request.rerank && !request.stream && !request.explain);
        assert_eq!((request.top_k, request.mode), (None, Mode::Hybrid));
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert_eq!(wrong_at(r#"{"query": "why", "topk": 5}"#), "/topk");
        assert_eq!(wrong_at(r#"{"query": "why", "top_k": -1}"#), "/top_k");
        assert_eq!(wrong_at(r#"{"query": "why", "top_k": "5"}"#), "/top_k");
        assert_eq!(wrong_at(r#"{"query": "why", "mode": "fuzzy"}"#), "/mode");
        assert_eq!(wrong_at(r#"{"top_k": 5}"#), "/query");
    }

    #[test]
    fn a_search_does_not_stream() {
        let refused = parse::<SearchRequest>(br#"{"query": "why", "stream": true}"#);
        assert!(matches!(refused, Err(Refusal::Failed(error)) if error.pointer() == Some("/stream")));
    }
}
