//! The outermost layer: every request gets an id, a line in the log and its metrics; every refusal its body.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{HeaderMap, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use uuid::Uuid;

use crate::auth::Identity;
use crate::http::body::Guarded;
use crate::http::problem;
use crate::http::routes;
use crate::telemetry::metrics;

/// Where a request's id is read and written.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a client, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// The status in log and metrics of a request whose client went away before there was one (nginx's number).
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What every layer and handler may know of its request.
#[derive(Debug, Clone)]
pub(super) struct RequestContext {
    /// The request's id.
    pub(super) id: Arc<str>,
    /// When its head was read.
    pub(super) started: Instant,
}

/// Gives the request its id, and observes its answer.
pub(super) async fn observe(mut request: Request, next: Next) -> Response {
    let context = RequestContext { id: request_id(request.headers()), started: Instant::now() };
    let mut record = RequestRecord::begin(&request, context.clone());
    request.extensions_mut().insert(context.clone());
    let span = tracing::info_span!("request", request_id = &*context.id);
    let response = next.run(request).instrument(span).await;
    let mut response = problem::render(response, &context.id);
    record.answered(&response);
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&context.id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    // The record ends with the body, so that a stream counts for as long as it runs.
    response.map(|body| Body::new(Guarded::new(body, record)))
}

/// The client's id, if it is one that can safely be logged and sent on, else a fresh one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let sane = |id: &&str| {
        let safe = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=');
        !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(safe)
    };
    match headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(sane) {
        Some(id) => id.into(),
        None => Uuid::now_v7().to_string().into(),
    }
}

/// Logs and counts one request when it is dropped: with its response's body, or before there is a response if the
/// client went away.
#[derive(Debug)]
struct RequestRecord {
    context: RequestContext,
    method: &'static str,
    /// The route's template; never the path, which could hold anything.
    route: String,
    user: Option<String>,
    status: Option<u16>,
}

impl RequestRecord {
    fn begin(request: &Request, context: RequestContext) -> Self {
        metrics::HTTP_IN_FLIGHT.add(1.0, metrics::NONE);
        let route = request.extensions().get::<MatchedPath>();
        let route = route.map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
        Self { context, method: method_name(request.method()), route, user: None, status: None }
    }

    fn answered(&mut self, response: &Response) {
        self.status = Some(response.status().as_u16());
        self.user = response.extensions().get::<Arc<Identity>>().map(|identity| identity.user.clone());
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let latency = self.context.started.elapsed();
        let status = self.status.unwrap_or(CLIENT_CLOSED_REQUEST);
        let labels = [("route", self.route.clone()), ("method", self.method.to_owned())];
        metrics::HTTP_IN_FLIGHT.add(-1.0, metrics::NONE);
        metrics::HTTP_LATENCY.record(latency.as_secs_f64(), &labels[..1]);
        let [route, method] = labels;
        metrics::HTTP_REQUESTS.add(1, &[route, method, ("status", status.to_string())]);
        let latency_ms = (latency.as_secs_f64() * 10_000.0).round() / 10.0;
        let (method, route, request_id) = (self.method, &*self.route, &*self.context.id);
        // Probes and scrapes come every few seconds and would bury the rest.
        if routes::is_probe(route) {
            tracing::debug!(method, route, status, latency_ms, request_id, "request");
        } else {
            tracing::info!(method, route, status, latency_ms, request_id, user_id = self.user, "request");
        }
    }
}

/// A method as a label: a client cannot invent new ones.
fn method_name(method: &Method) -> &'static str {
    const KNOWN: [Method; 8] = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
        Method::TRACE,
    ];
    const NAMES: [&str; 8] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"];
    KNOWN.iter().position(|known| known == method).map_or("OTHER", |at| NAMES[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(sent: &[u8]) -> Arc<str> {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(sent).unwrap());
        request_id(&headers)
    }

    #[test]
    fn a_sane_id_is_kept() {
        assert_eq!(&*id_for(b"trace-1_2.3:4"), "trace-1_2.3:4");
        assert_eq!(id_for(&[b'a'; MAX_REQUEST_ID]).len(), MAX_REQUEST_ID);
    }

    #[test]
    fn any_other_id_is_replaced() {
        for sent in [&b""[..], b"a b", b"<script>", b"\"quoted\"", "ä".as_bytes(), &[b'a'; MAX_REQUEST_ID + 1]] {
            assert!(Uuid::parse_str(&id_for(sent)).is_ok(), "{sent:?}");
        }
        assert!(Uuid::parse_str(&request_id(&HeaderMap::new())).is_ok());
    }

    #[test]
    fn an_invented_method_is_no_label() {
        assert_eq!(method_name(&Method::PATCH), "PATCH");
        assert_eq!(method_name(&Method::from_bytes(b"FOO").unwrap()), "OTHER");
    }
}
