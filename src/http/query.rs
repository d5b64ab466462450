//! `POST /v1/query` and `POST /v1/search`.

mod view;

use axum::Json as Reply;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::answer::{Answer, Answerer, FailureCode, Question};
use crate::error::ErrorKind;
use crate::http::extract::{Call, Json};
use crate::http::guard::GRACE;
use crate::http::problem::{Problem, Refusal};
use crate::http::sse;
use crate::http::state::AppState;
use crate::resilience::Deadline;
pub(super) use view::{DoneEvent, SourceView, SourcesEvent, TokenEvent};
use view::{QueryRequest, QueryResponse, SearchRequest, SearchResponse};

/// Ask a question.
///
/// With `"stream": true` the answer comes as server-sent events: `sources` once (`{"sources": […]}`), `token`
/// (`{"text": "…"}`) repeatedly, then `done` (this body without the sources), or `error` (the same, with `error: true`).
#[utoipa::path(
    post, path = "/v1/query", tag = "questions",
    request_body = QueryRequest,
    responses(
        (status = 200, description = "The answer; `error: true` with `generation_failed` if only its sources were found", content(
            (QueryResponse = "application/json"), (String = "text/event-stream"))),
        (status = 415, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "`code: internal`", content(
            (QueryResponse = "application/json"), (Problem = "application/problem+json"))),
        (status = 503, description = "`code: retrieval_failed`, or the server is busy", content(
            (QueryResponse = "application/json"), (Problem = "application/problem+json"))),
        (status = 504, description = "`code: timeout`", content(
            (QueryResponse = "application/json"), (Problem = "application/problem+json"))),
    ),
)]
pub(super) async fn query(
    State(state): State<AppState>,
    call: Call,
    Json(request): Json<QueryRequest>,
) -> Result<Response, Refusal> {
    let stream = request.stream;
    let question = SearchRequest::from(request).question(&call)?;
    let explain = question.explain.then(|| question.filter.clone());
    if stream {
        let events = state.services.answerer.stream(question).await?;
        return Ok(sse::respond(events, call, explain));
    }
    let answer = answer_in_time(&state.services.answerer, question).await?;
    let status = answer.code.map_or(StatusCode::OK, status);
    Ok((status, Reply(QueryResponse::new(answer, &call, explain))).into_response())
}

/// Find passages, without an answer.
#[utoipa::path(
    post, path = "/v1/search", tag = "questions",
    request_body = SearchRequest,
    responses(
        (status = 200, description = "The passages, best first", body = SearchResponse),
        (status = 415, description = "Not JSON", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn search(
    State(state): State<AppState>,
    call: Call,
    Json(request): Json<SearchRequest>,
) -> Result<Reply<SearchResponse>, Refusal> {
    let question = request.question(&call)?;
    let explain = question.explain.then(|| question.filter.clone());
    let deadline = question.deadline;
    let found = deadline.run("the search", state.services.answerer.search(question)).await?;
    Ok(Reply(SearchResponse::new(found, &call, explain)))
}

/// The answerer keeps the deadline, and says itself what went wrong; should it not, the body is the same.
async fn answer_in_time(answerer: &Answerer, question: Question) -> Result<Answer, Refusal> {
    let cut = Deadline::after(question.deadline.remaining() + GRACE / 2);
    let caller = question.caller.clone();
    match cut.run("the answer", answerer.answer(question)).await {
        Err(error) if error.kind() == ErrorKind::Invalid => Err(error.into()),
        Err(error) => Ok(Answerer::broke_off(&caller, &error)),
        Ok(answer) => Ok(answer),
    }
}

/// The status of an answer that went wrong.
fn status(code: FailureCode) -> StatusCode {
    match code {
        FailureCode::RetrievalFailed => StatusCode::SERVICE_UNAVAILABLE,
        FailureCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
        FailureCode::GenerationFailed => StatusCode::OK,
        FailureCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
