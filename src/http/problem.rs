//! Every refusal, its status and its body (`application/problem+json`, RFC 9457), in one place.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::catalog::KeyScope;
use crate::error::{Error, ErrorKind};
use crate::limit::Decision;

/// When a client of an overloaded server, or of a server whose dependency is down, should come back.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// Why a request is not answered.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The request cannot be read: not JSON, not multipart, a broken path.
    Malformed(String),
    /// A key is needed and none was sent.
    KeyMissing,
    /// The key is unknown, revoked or expired.
    KeyUnknown,
    /// The key lacks a scope.
    ScopeMissing(KeyScope),
    /// There is no such route.
    NoRoute,
    /// The route is there, the method is not.
    MethodNotAllowed,
    /// The client stopped sending its body.
    BodyTimeout,
    /// The body is over the limit, in bytes.
    BodyTooLarge(u64),
    /// The body is of a kind that the route does not take; the value says what it takes.
    UnsupportedMediaType(&'static str),
    /// Over a limit, of the key or of the client's address.
    RateLimited(Decision),
    /// Shed before any work began.
    Overloaded,
    /// Models are being loaded.
    Starting,
    /// What the query or the document path said.
    Failed(Error),
    /// A handler panicked.
    Panicked,
}

impl Refusal {
    /// The only place that knows which status a refusal or an error is.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::KeyMissing => StatusCode::UNAUTHORIZED,
            Self::KeyUnknown | Self::ScopeMissing(_) => StatusCode::FORBIDDEN,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::Starting => StatusCode::SERVICE_UNAVAILABLE,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Failed(error) => match error.kind() {
                ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
                ErrorKind::NotFound => StatusCode::NOT_FOUND,
                ErrorKind::Conflict => StatusCode::CONFLICT,
                ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
                ErrorKind::Config | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// What the client reads.
    fn detail(&self) -> String {
        match self {
            Self::Malformed(detail) => detail.clone(),
            Self::KeyMissing => "send a key as `X-API-Key: KEY` or `Authorization: Bearer KEY`".to_owned(),
            Self::KeyUnknown => "the key is unknown, revoked or expired".to_owned(),
            Self::ScopeMissing(scope) => format!("the key lacks the scope `{}`", scope_name(*scope)),
            Self::NoRoute => "no such route".to_owned(),
            Self::MethodNotAllowed => "the route does not take this method".to_owned(),
            Self::BodyTimeout => "the body stopped arriving".to_owned(),
            Self::BodyTooLarge(limit) => format!("the body is larger than {limit} bytes"),
            Self::UnsupportedMediaType(taken) => format!("the route takes {taken}"),
            Self::RateLimited(_) => "too many requests, try again after `Retry-After` seconds".to_owned(),
            Self::Overloaded => "the server is busy, try again shortly".to_owned(),
            Self::Starting => "the server is starting, try again shortly".to_owned(),
            Self::Failed(error) => error.message().to_owned(),
            Self::Panicked => "an unexpected error occurred".to_owned(),
        }
    }

    /// The field that is wrong, if it is known.
    fn errors(&self) -> Vec<FieldError> {
        match self {
            Self::Failed(error) => error
                .pointer()
                .map(|pointer| FieldError { pointer: pointer.to_owned(), detail: error.message().to_owned() })
                .into_iter()
                .collect(),
            _ => Vec::new(),
        }
    }

    fn set_headers(&self, headers: &mut HeaderMap) {
        match self {
            Self::KeyMissing => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::RateLimited(decision) => {
                set_limit_headers(decision, headers);
                headers.insert(RETRY_AFTER, whole_seconds(decision.retry_after.max(RETRY_SOON)).into());
            }
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, whole_seconds(RETRY_SOON).into());
            }
            _ => {}
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Status and headers now; the body is written by [`render`], which knows the request's id.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        self.set_headers(response.headers_mut());
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// The name of a scope in the API.
pub(super) fn scope_name(scope: KeyScope) -> &'static str {
    match scope {
        KeyScope::Query => "query",
        KeyScope::Ingest => "ingest",
        KeyScope::Admin => "admin",
    }
}

/// `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (seconds).
pub(super) fn set_limit_headers(decision: &Decision, headers: &mut HeaderMap) {
    headers.insert(HeaderName::from_static("ratelimit-limit"), decision.limit.into());
    headers.insert(HeaderName::from_static("ratelimit-remaining"), decision.remaining.into());
    headers.insert(HeaderName::from_static("ratelimit-reset"), whole_seconds(decision.reset).into());
}

/// Rounded up, so that who waits so long has waited enough.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// An error body (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "type": "about:blank", "title": "Unprocessable Entity", "status": 422,
    "detail": "top_k must be 1 to 50", "request_id": "0193a5c4-6f6e-7c11-a1a5-1f8f2f6f0b7e",
    "errors": [{"pointer": "/top_k", "detail": "top_k must be 1 to 50"}]
}))]
pub(super) struct Problem {
    /// `about:blank`: the status says what kind of problem it is.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong with this request.
    detail: String,
    /// The request's id, as in `x-request-id`.
    request_id: String,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

/// A field that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(super) struct FieldError {
    /// JSON pointer into the body (RFC 6901); for a parameter of the query, the path or a header: `/` and its name.
    pointer: String,
    /// What is wrong with it.
    detail: String,
}

/// Writes the body of a response that is a [`Refusal`], and logs the ones that are our fault, once, with their causes.
pub(super) fn render(mut response: Response, request_id: &str) -> Response {
    let Some(refusal) = response.extensions_mut().remove::<Arc<Refusal>>() else { return response };
    let status = refusal.status();
    log(&refusal, status, request_id);
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: refusal.detail(),
        request_id: request_id.to_owned(),
        errors: refusal.errors(),
    };
    // A struct of strings and numbers always serialises.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    // The router has noted the length of the empty body that stood here.
    headers.insert(CONTENT_LENGTH, body.len().into());
    *response.body_mut() = Body::from(body);
    response
}

fn log(refusal: &Refusal, status: StatusCode, request_id: &str) {
    match refusal {
        Refusal::Failed(error) if status.is_server_error() => {
            tracing::error!(request_id, kind = ?error.kind(), error = error.chain(), "request failed");
        }
        _ => tracing::debug!(request_id, status = status.as_u16(), "request refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn body(refusal: Refusal) -> (StatusCode, HeaderMap, serde_json::Value) {
        let response = render(refusal.into_response(), "req-1");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn every_kind_of_error_has_its_status() {
        let expected = [
            (ErrorKind::Invalid, 422),
            (ErrorKind::NotFound, 404),
            (ErrorKind::Conflict, 409),
            (ErrorKind::TooLarge, 413),
            (ErrorKind::Unavailable, 503),
            (ErrorKind::Timeout, 504),
            (ErrorKind::Config, 500),
            (ErrorKind::Internal, 500),
        ];
        for (kind, status) in expected {
            assert_eq!(Refusal::Failed(Error::new(kind, "x")).status().as_u16(), status, "{kind:?}");
        }
        assert_eq!(Refusal::KeyMissing.status().as_u16(), 401);
        assert_eq!(Refusal::KeyUnknown.status().as_u16(), 403);
        assert_eq!(Refusal::ScopeMissing(KeyScope::Admin).status().as_u16(), 403);
        assert_eq!(Refusal::BodyTooLarge(1).status().as_u16(), 413);
        assert_eq!(Refusal::UnsupportedMediaType("x").status().as_u16(), 415);
    }

    #[tokio::test]
    async fn a_wrong_field_is_named() {
        let (status, headers, body) = body(Error::invalid("/top_k", "top_k must be 1 to 50").into()).await;
        assert_eq!(status, 422);
        assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(
            body,
            serde_json::json!({
                "type": "about:blank", "title": "Unprocessable Entity", "status": 422,
                "detail": "top_k must be 1 to 50", "request_id": "req-1",
                "errors": [{"pointer": "/top_k", "detail": "top_k must be 1 to 50"}]
            })
        );
    }

    #[tokio::test]
    async fn a_cause_is_not_shown() {
        let (_, headers, body) = body(Error::unavailable("the catalog is down", "secret-host:5432").into()).await;
        assert_eq!(headers[RETRY_AFTER], "1");
        assert_eq!(body["detail"], "the catalog is down");
        assert!(!body.to_string().contains("secret-host"));
    }

    #[tokio::test]
    async fn over_the_limit_says_when_to_come_back() {
        let decision = Decision {
            allowed: false,
            limit: 100,
            remaining: 0,
            reset: Duration::from_millis(59_400),
            retry_after: Duration::from_millis(600),
        };
        let (status, headers, _) = body(Refusal::RateLimited(decision)).await;
        assert_eq!(status, 429);
        assert_eq!(headers[RETRY_AFTER], "1");
        assert_eq!(headers["ratelimit-limit"], "100");
        assert_eq!(headers["ratelimit-remaining"], "0");
        assert_eq!(headers["ratelimit-reset"], "60");
    }
}
