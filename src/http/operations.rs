//! `/health`, `/ready`, `/metrics`, `/openapi.json` and `/docs`.

use std::sync::{Arc, LazyLock};

use axum::Json as Reply;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use serde::Serialize;
use utoipa_swagger_ui::Config as SwaggerConfig;

use crate::error::{Error, ErrorKind};
use crate::http::extract::IdPath;
use crate::http::openapi::openapi_json;
use crate::http::problem::Refusal;
use crate::http::readiness::{Phase, ReadyResponse};
use crate::http::state::AppState;
use crate::telemetry::Exporter;

/// Prometheus' text format.
const METRICS_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Swagger UI styles its elements directly, and inlines its pictures.
const DOCS_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| openapi_json().into());

static SWAGGER: LazyLock<Arc<SwaggerConfig<'static>>> = LazyLock::new(|| {
    // `none`: the default validator would send the description to a server of somebody else.
    Arc::new(SwaggerConfig::new(["../openapi.json"]).validator_url("none").persist_authorization(false))
});

/// The body of `/health`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct HealthResponse {
    /// Always `ok`.
    status: &'static str,
}

/// Whether the process lives; looks at no dependency.
#[utoipa::path(
    get, path = "/health", tag = "operations",
    responses((status = 200, description = "It does", body = HealthResponse)),
)]
pub(super) async fn health() -> Reply<HealthResponse> {
    Reply(HealthResponse { status: "ok" })
}

/// Whether the process should get requests.
#[utoipa::path(
    get, path = "/ready", tag = "operations",
    responses(
        (status = 200, description = "It should", body = ReadyResponse),
        (status = 503, description = "It is starting or stopping", body = ReadyResponse),
    ),
)]
pub(super) async fn ready(State(state): State<AppState>) -> (StatusCode, Reply<ReadyResponse>) {
    let body = state.readiness.response();
    let status = match body.status {
        Phase::Ready => StatusCode::OK,
        Phase::Starting | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Reply(body))
}

/// Metrics for Prometheus. Not here if they have a listener of their own.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain")),
)]
pub(super) async fn metrics(State(state): State<AppState>) -> Response {
    rendered_metrics(&state.exporter)
}

/// The body of `/metrics`, also for a listener of its own.
pub(super) fn rendered_metrics(exporter: &Exporter) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], exporter.render()).into_response()
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")),
)]
pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], OPENAPI.clone()).into_response()
}

/// This description, to read and to try.
#[utoipa::path(
    get, path = "/docs", tag = "operations",
    responses((status = 303, description = "To `/docs/index.html`")),
)]
pub(super) async fn docs() -> Redirect {
    Redirect::to("/docs/index.html")
}

/// A file of the description's page.
#[utoipa::path(
    get, path = "/docs/{file}", tag = "operations",
    params(("file" = String, Path, description = "Such as `index.html`")),
    responses((status = 200, description = "The file", body = String, content_type = "*/*")),
)]
pub(super) async fn docs_file(IdPath(file): IdPath) -> Result<Response, Refusal> {
    let found = utoipa_swagger_ui::serve(&file, Arc::clone(&SWAGGER));
    let file = found.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?.ok_or(Refusal::NoRoute)?;
    let kind = HeaderValue::from_str(&file.content_type).unwrap_or(HeaderValue::from_static("text/plain"));
    let headers = [(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, DOCS_POLICY)];
    Ok((headers, Bytes::from(file.bytes.into_owned())).into_response())
}
