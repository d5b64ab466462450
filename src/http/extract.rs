//! Extractors that refuse in this API's way: JSON, parameters, path, and what the guards know of the call.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::answer::Caller;
use crate::auth::Identity;
use crate::document::DocumentId;
use crate::error::{Error, ErrorKind, Result};
use crate::http::admission::Admission;
use crate::http::observe::RequestContext;
use crate::http::problem::Refusal;
use crate::http::{body, guard};
use crate::resilience::Deadline;

/// Most bytes of a JSON body that holds no document: a question with the largest filter is far below it.
const MAX_JSON_BYTES: u64 = 1024 * 1024;

/// What the guards know of a call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) context: RequestContext,
    pub(super) identity: Arc<Identity>,
    pub(super) deadline: Deadline,
    /// The call's place; who keeps the call keeps it.
    pub(super) _admission: Admission,
}

impl Call {
    fn find(extensions: &Extensions) -> Option<Self> {
        Some(Self {
            context: extensions.get::<RequestContext>()?.clone(),
            identity: extensions.get::<Arc<Identity>>()?.clone(),
            deadline: *extensions.get::<Deadline>()?,
            _admission: extensions.get::<Admission>()?.clone(),
        })
    }

    /// Who calls, for the log.
    pub(super) fn caller(&self) -> Caller {
        Caller { request_id: self.context.id.to_string(), user_id: self.identity.user.clone() }
    }

    /// Milliseconds since the request came in.
    pub(super) fn latency_ms(&self) -> f64 {
        self.context.started.elapsed().as_secs_f64() * 1000.0
    }
}

impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Self::find(&parts.extensions).ok_or_else(|| guard::unguarded().into())
    }
}

/// A JSON body: 415 of another kind, 413 too large, 400 not JSON, 422 not what it should be.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::UnsupportedMediaType("application/json"));
        }
        parse(&body::read(request.into_body(), MAX_JSON_BYTES).await?).map(Self)
    }
}

/// Whether the body says that it is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|kind| kind == "application/json" || kind.ends_with("+json"))
}

/// The media type of the body, in lower case, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Parses JSON; what is well-formed but wrong names its field.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(error.path());
        refusal_for(&error.into_inner(), pointer)
    })?;
    json.end().map_err(|error| Refusal::Malformed(format!("the body is not JSON: {error}")))?;
    Ok(value)
}

fn refusal_for(error: &serde_json::Error, mut pointer: String) -> Refusal {
    if !error.is_data() {
        return Refusal::Malformed(format!("the body is not JSON: {error}"));
    }
    let message = error.to_string();
    // The place in the text says nothing that the pointer does not say better.
    let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
    // serde names a missing field in its message alone.
    if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        pointer = format!("{pointer}/{}", escape(field));
    }
    Error::invalid(pointer, shortened(message)).into()
}

/// serde quotes the value that it did not expect, however long it is.
fn shortened(message: &str) -> String {
    const ENDS: usize = 120;
    let length = message.chars().count();
    if length <= 2 * ENDS {
        return message.to_owned();
    }
    let head: String = message.chars().take(ENDS).collect();
    let tail: String = message.chars().skip(length - ENDS).collect();
    format!("{head} … {tail}")
}

/// RFC 6901.
fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escape(key))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

fn escape(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

/// The parameters of a query string, taken one by one; what is left over is refused.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Query(pairs) = Query::try_from_uri(&parts.uri)
            .map_err(|_| Refusal::Malformed("the query string could not be read".to_owned()))?;
        Ok(Self(pairs))
    }
}

impl Params {
    /// The value of a parameter; twice is once too often.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<String>> {
        let mut values = self.0.extract_if(.., |(key, _)| key == name).map(|(_, value)| value);
        let value = values.next();
        match values.next() {
            Some(_) => Err(Error::invalid(format!("/{name}"), format!("{name} must be given once"))),
            None => Ok(value),
        }
    }

    /// The size of a page, 1 to `max`.
    pub(super) fn take_limit(&mut self, default: u32, max: u32) -> Result<u32> {
        let Some(limit) = self.take("limit")? else { return Ok(default) };
        let limit = limit.parse().ok().filter(|limit| (1..=max).contains(limit));
        limit.ok_or_else(|| Error::invalid("/limit", format!("limit must be 1 to {max}")))
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self) -> Result<()> {
        match self.0.first() {
            Some((name, _)) => Err(Error::invalid(format!("/{}", escape(name)), "unknown parameter")),
            None => Ok(()),
        }
    }
}

/// The `{id}` of a document's route.
#[derive(Debug)]
pub(super) struct DocumentPath(pub(super) DocumentId);

impl<S: Send + Sync> FromRequestParts<S> for DocumentPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let IdPath(id) = IdPath::from_request_parts(parts, state).await?;
        Ok(Self(id.parse()?))
    }
}

/// An `{id}` that nothing is known of but that it is text.
#[derive(Debug)]
pub(super) struct IdPath(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for IdPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(PathRejection::FailedToDeserializePathParams(_)) => {
                Err(Refusal::Malformed("the path could not be read".to_owned()))
            }
            Err(_) => Err(Error::new(ErrorKind::Internal, "an unexpected error occurred").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Uri};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Body {
        name: String,
        #[serde(default)]
        parts: Vec<Part>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Part {
        size: u32,
    }

    fn wrong_at(json: &str) -> (String, String) {
        match parse::<Body>(json.as_bytes()) {
            Err(Refusal::Failed(error)) => (error.pointer().unwrap_or("none").to_owned(), error.message().to_owned()),
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        assert_eq!(wrong_at(r#"{"name": "a", "sise": 1}"#).0, "/sise");
        assert_eq!(wrong_at(r#"{"name": 5}"#), ("/name".into(), "invalid type: integer `5`, expected a string".into()));
        assert_eq!(wrong_at("{}"), ("/name".into(), "missing field `name`".into()));
        assert_eq!(wrong_at(r#"{"name": "a", "parts": [{"size": 1}, {"size": -1}]}"#).0, "/parts/1/size");
        assert_eq!(wrong_at(r#"{"name": "a", "parts": [{"size": 1, "a/b~": 2}]}"#).0, "/parts/0/a~1b~0");
        assert_eq!(wrong_at(r#"{"name": "a", "parts": [{}]}"#).0, "/parts/0/size");
        assert_eq!(wrong_at("[]").0, "");
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for text in ["", "{", "{\"name\": \"a\"} x", "name=a", "\u{feff}{}", "{\"name\": \"\\ud800\"}"] {
            assert!(matches!(parse::<Body>(text.as_bytes()), Err(Refusal::Malformed(_))), "{text}");
        }
        assert!(matches!(parse::<Body>(b"{\"name\": \"\xff\"}"), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn json_by_its_media_type() {
        let json = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            is_json(&headers)
        };
        assert!(json("application/json") && json("Application/JSON; charset=utf-8") && json("application/ld+json"));
        assert!(!json("text/plain") && !json("application/x-www-form-urlencoded"));
        assert!(!is_json(&HeaderMap::new()));
    }

    fn params(query: &str) -> Params {
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        let Query(pairs) = Query::try_from_uri(&uri).unwrap();
        Params(pairs)
    }

    #[test]
    fn parameters_are_checked_by_name() {
        let mut sent = params("limit=5&cursor=a%20b");
        assert_eq!(sent.take_limit(50, 100).unwrap(), 5);
        assert_eq!(sent.take("cursor").unwrap().as_deref(), Some("a b"));
        sent.finish().unwrap();
        assert_eq!(params("").take_limit(50, 100).unwrap(), 50);
        for wrong in ["limit=0", "limit=101", "limit=x", "limit=", "limit=1&limit=2"] {
            assert_eq!(params(wrong).take_limit(50, 100).unwrap_err().pointer(), Some("/limit"), "{wrong}");
        }
        assert_eq!(params("colour=red").finish().unwrap_err().pointer(), Some("/colour"));
    }
}
