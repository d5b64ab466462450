//! What stands before a guarded handler: its deadline, the key, the key's limit, and admission.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::timeout::TimeoutBody;

use crate::auth::Identity;
use crate::catalog::KeyScope;
use crate::error::{Error, ErrorKind};
use crate::http::problem::{self, Refusal};
use crate::http::routes::{LimitClass, class_name};
use crate::http::state::AppState;
use crate::limit::Quota;
use crate::resilience::Deadline;
use crate::telemetry::metrics;

/// Shortens a request's deadline, in milliseconds.
pub(super) const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Longest pause while a body arrives.
const BODY_PAUSE: Duration = Duration::from_secs(15);

/// The query path keeps the deadline itself and answers with what it has; only what has not stopped by itself so long
/// after the deadline is cut off here.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// What a guarded route asks for.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) state: AppState,
    pub(super) scope: KeyScope,
    pub(super) class: LimitClass,
}

/// Stands before a handler. One layer and not four: each would cost every request its own boxes and clones.
///
/// First: the deadline of all that follows, and of every pause of the body.
pub(super) async fn guard(
    State(post): State<Arc<Post>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let configured = post.state.config.request_timeout;
    // What is wrong with the header is said once the key is known.
    let timeout = request_timeout(request.headers(), configured).unwrap_or(configured);
    request.extensions_mut().insert(Deadline::after(timeout));
    let request = request.map(|body| Body::new(TimeoutBody::new(BODY_PAUSE, body)));
    let work = async { Ok(authenticate(&post, request, next).await) };
    let mut response = Deadline::after(timeout + GRACE).run("the request", work).await?;
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Second: who is calling, and whether they may.
async fn authenticate(post: &Post, mut request: Request, next: Next) -> Response {
    let identity = match identify(post, request.headers()).await {
        Ok(identity) => Arc::new(identity),
        Err(refusal) => return refusal.into_response(),
    };
    let timeout = request_timeout(request.headers(), post.state.config.request_timeout);
    request.extensions_mut().insert(Arc::clone(&identity));
    let mut response = match (identity.may(post.scope), timeout) {
        (true, Ok(_)) => limit(post, &identity, request, next).await.into_response(),
        (true, Err(error)) => Refusal::Failed(error).into_response(),
        (false, _) => Refusal::ScopeMissing(post.scope).into_response(),
    };
    // For the log.
    response.extensions_mut().insert(identity);
    response
}

/// Third: the key's own limit.
async fn limit(post: &Post, identity: &Identity, request: Request, next: Next) -> Result<Response, Refusal> {
    let bucket = format!("{}:{}", identity.key_id, class_name(post.class));
    let decision = post.state.services.limiter.take(&bucket, quota(post)).await?;
    if !decision.allowed {
        metrics::RATE_LIMITED.add(1, &[("whose", "key")]);
        return Err(Refusal::RateLimited(decision));
    }
    let mut response = admit(post, request, next).await.into_response();
    problem::set_limit_headers(&decision, response.headers_mut());
    Ok(response)
}

/// Fourth: a place among the requests that run. A stream takes a clone of it along.
async fn admit(post: &Post, mut request: Request, next: Next) -> Result<Response, Refusal> {
    let Some(admission) = post.state.gates.admit(post.class).await else {
        metrics::SHED.add(1, &[("class", class_name(post.class))]);
        return Err(Refusal::Overloaded);
    };
    request.extensions_mut().insert(admission.clone());
    let response = next.run(request).await;
    drop(admission);
    Ok(response)
}

async fn identify(post: &Post, headers: &HeaderMap) -> Result<Identity, Refusal> {
    let key = presented_key(headers).ok_or(Refusal::KeyMissing)?;
    post.state.services.keys.authenticate(key).await?.ok_or(Refusal::KeyUnknown)
}

/// The key of `X-API-Key`, or of `Authorization: Bearer`.
fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    };
    let key = match headers.get(API_KEY) {
        Some(key) => key.to_str().ok(),
        None => bearer(),
    };
    key.map(str::trim).filter(|key| !key.is_empty())
}

/// The configured timeout, or a shorter one that the client asked for.
fn request_timeout(headers: &HeaderMap, configured: Duration) -> Result<Duration, Error> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(configured) };
    let millis = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok()).filter(|millis| *millis > 0);
    let wrong = || Error::invalid("/x-request-timeout-ms", "x-request-timeout-ms must be a whole number above 0");
    Ok(Duration::from_millis(millis.ok_or_else(wrong)?).min(configured))
}

/// Changes of keys have a bucket of their own, as large as that of changes of documents.
fn quota(post: &Post) -> Quota {
    match post.class {
        LimitClass::Query => post.state.limits.query,
        LimitClass::Ingest | LimitClass::Admin | LimitClass::None => post.state.limits.ingest,
    }
}

/// A guarded handler ran without its guards: a defect of the route table.
pub(super) fn unguarded() -> Error {
    Error::new(ErrorKind::Internal, "an unexpected error occurred").with_source("a guarded handler ran without guards")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_key_comes_in_either_header() {
        assert_eq!(presented_key(&headers(&[("x-api-key", "k")])), Some("k"));
        assert_eq!(presented_key(&headers(&[("authorization", "Bearer k")])), Some("k"));
        assert_eq!(presented_key(&headers(&[("authorization", "bearer  k ")])), Some("k"));
        assert_eq!(presented_key(&headers(&[("x-api-key", "a"), ("authorization", "Bearer b")])), Some("a"));
        for none in [&[][..], &[("x-api-key", "")], &[("authorization", "k")], &[("authorization", "Basic k")]] {
            assert_eq!(presented_key(&headers(none)), None, "{none:?}");
        }
    }

    #[test]
    fn a_client_can_only_shorten_the_deadline() {
        let configured = Duration::from_secs(45);
        let timeout = |value| request_timeout(&headers(&[("x-request-timeout-ms", value)]), configured);
        assert_eq!(request_timeout(&HeaderMap::new(), configured).unwrap(), configured);
        assert_eq!(timeout("1500").unwrap(), Duration::from_millis(1500));
        assert_eq!(timeout("999999999").unwrap(), configured);
        for wrong in ["0", "-1", "1.5", "soon", ""] {
            assert_eq!(timeout(wrong).unwrap_err().pointer(), Some("/x-request-timeout-ms"), "{wrong}");
        }
    }
}
