//! Models behind an HTTP API: one client for all of them, what a server's refusal means, and nothing secret in either.

use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};

/// Longest time until a connection stands.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);
/// Most of an error's body that is read for the log, in bytes.
const MAX_ERROR_BODY: usize = 2_000;

/// What errors call a kind of server, and the settings that choose it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    /// What it serves, such as `language model`.
    pub(crate) what: &'static str,
    /// The setting that names the model.
    pub(crate) model: &'static str,
    /// The setting that names the server.
    pub(crate) base_url: &'static str,
    /// The setting that holds the key.
    pub(crate) api_key: &'static str,
    /// What it means that the server takes the key and the model, but not the request, and what to do about it.
    pub(crate) refused: (ErrorKind, &'static str),
}

/// One path of a server, with the key that it wants.
pub(crate) struct Endpoint {
    service: Service,
    client: Client,
    url: String,
    authorization: Option<HeaderValue>,
}

impl Endpoint {
    /// `path` below `base_url` (such as `https://api.openai.com/v1`); [`ErrorKind::Config`] if that is no URL, or the
    /// key cannot be sent.
    pub(crate) fn new(
        service: Service,
        (base_url, path): (&str, &str),
        api_key: Option<&Secret>,
        connect: Duration,
    ) -> Result<Self> {
        // Whoever builds a client needs a provider; the one that is already there stays.
        drop(rustls::crypto::ring::default_provider().install_default());
        let url = format!("{}{path}", base_url.trim_end_matches('/'));
        let parsed = reqwest::Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if parsed.is_none() {
            return Err(Error::config(format!("{} is not an http(s) URL", service.base_url)));
        }
        let authorization = api_key.map(|key| bearer(key, service.api_key)).transpose()?;
        let client = Client::builder()
            .connect_timeout(connect)
            // A redirect would take the documents to a server that nobody configured.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| {
                Error::config(format!("cannot set up an HTTP client for the {}", service.what)).with_source(error)
            })?;
        Ok(Self { service, client, url, authorization })
    }

    /// Sends a request; the response has any status.
    pub(crate) async fn post(&self, body: &impl Serialize) -> Result<Response> {
        let mut post = self.client.post(&self.url).json(body);
        if let Some(authorization) = &self.authorization {
            post = post.header(AUTHORIZATION, authorization);
        }
        post.send().await.map_err(|error| {
            Error::unavailable(format!("the {} cannot be reached", self.service.what), error.without_url())
        })
    }

    /// Sends a request and reads its answer, of at most so many bytes. A refusal is [`Endpoint::refusal`], with the time
    /// that the server asks to wait.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, body: &impl Serialize, max_bytes: usize) -> Result<T> {
        let response = self.post(body).await?;
        let status = response.status();
        if !status.is_success() {
            let pause = retry_after(&response);
            let error = self.refusal(status, &error_body(response).await);
            return Err(match pause {
                Some(pause) => error.with_retry_after(pause),
                None => error,
            });
        }
        let body = self.read(response, max_bytes).await?;
        // The cause says where, and of what type; it quotes numbers, and no text but names of fields.
        serde_json::from_slice(&body).map_err(|error| self.nonsense(format!("{} at {}", kind(&error), error.column())))
    }

    async fn read(&self, mut response: Response, max_bytes: usize) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(bytes)) if body.len() + bytes.len() > max_bytes => {
                    return Err(self.nonsense(format!("more than {max_bytes} bytes")));
                }
                Ok(Some(bytes)) => body.extend_from_slice(&bytes),
                Ok(None) => return Ok(body),
                Err(error) => {
                    let message = format!("the {}'s answer broke off", self.service.what);
                    return Err(Error::unavailable(message, error.without_url()));
                }
            }
        }
    }

    /// What a refused request means: later ([`ErrorKind::Unavailable`] of 429 and 5xx), or not before somebody changes
    /// the configuration or the request.
    pub(crate) fn refusal(&self, status: StatusCode, detail: &str) -> Error {
        let Service { what, model, base_url, api_key, refused } = self.service;
        let (kind, message) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                (ErrorKind::Config, format!("the {what}'s server refuses the key: check {api_key}"))
            }
            StatusCode::NOT_FOUND => (
                ErrorKind::Config,
                format!("the {what}'s server knows no such model or path: check {model} and {base_url}"),
            ),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                (ErrorKind::Unavailable, format!("the {what} is overloaded"))
            }
            status if status.is_server_error() => (ErrorKind::Unavailable, format!("the {what}'s server failed")),
            status if status.is_redirection() => {
                (ErrorKind::Config, format!("the {what}'s server redirects: check {base_url}"))
            }
            _ => (refused.0, format!("the {what}'s server refuses the request{}", refused.1)),
        };
        let body = serde_json::from_str(detail).unwrap_or_default();
        Error::new(kind, message).with_source(format!("status {}{}", status.as_u16(), summary(&body)))
    }

    /// The error for an answer that is none to what was asked. A proxy's page is such a one, so it may pass.
    pub(crate) fn nonsense(&self, detail: impl fmt::Display) -> Error {
        Error::unavailable(format!("the {}'s server answered nonsense", self.service.what), detail.to_string())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("service", &self.service.what).finish_non_exhaustive()
    }
}

fn bearer(key: &Secret, setting: &str) -> Result<HeaderValue> {
    // The cause would quote the key.
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
        .map_err(|_| Error::config(format!("{setting} holds characters that no HTTP header may have")))?;
    value.set_sensitive(true);
    Ok(value)
}

fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Data => "JSON of another form",
        _ => "no JSON",
    }
}

/// The seconds of a `Retry-After`.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The beginning of an error's body. It may quote the question, so it is never logged; [`Endpoint::refusal`] keeps what
/// may be.
pub(crate) async fn error_body(mut response: Response) -> String {
    let mut body = Vec::new();
    while body.len() < MAX_ERROR_BODY {
        match response.chunk().await {
            Ok(Some(bytes)) => body.extend_from_slice(&bytes),
            _ => break,
        }
    }
    body.truncate(MAX_ERROR_BODY);
    String::from_utf8_lossy(&body).into_owned()
}

/// Type and code of an error's body, without its message, which may quote the question or a document.
pub(crate) fn summary(body: &serde_json::Value) -> String {
    let error = body.get("error").unwrap_or(body);
    let word = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) if text.len() <= 64 && !text.contains(char::is_whitespace) => {
            Some(text.clone())
        }
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    ["type", "code", "param"]
        .into_iter()
        .filter_map(|field| Some(format!(", {field} {}", word(error.get(field)?)?)))
        .collect()
}

/// The beginning of a text, of at most so many bytes.
pub(crate) fn beginning(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

/// Runs `future` on a thread and a runtime of its own, because models are built in synchronous code, which may or may
/// not run within a runtime. What `future` connected is gone with it.
pub(crate) fn block_on<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| Error::internal("cannot start a runtime", error))?.block_on(future)
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "setting a model up panicked")))
}

/// What a server gave by index for `count` things that were asked, in their order; else what is wrong: each must be there
/// once.
pub(crate) fn in_order<T>(given: Vec<(usize, T)>, count: usize, things: &str, asked: &str) -> Result<Vec<T>, String> {
    if given.len() != count {
        return Err(format!("{} {things} of {count} {asked}", given.len()));
    }
    let mut places: Vec<Option<T>> = std::iter::repeat_with(|| None).take(count).collect();
    for (index, value) in given {
        match places.get_mut(index) {
            Some(place @ None) => *place = Some(value),
            Some(Some(_)) => return Err(format!("index {index} twice")),
            None => return Err(format!("index {index} of {count} {asked}")),
        }
    }
    // As many as were asked, and no place taken twice: none is empty.
    Ok(places.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(beginning("aé", 8), "aé");
        assert_eq!(beginning("aé", 2), "a");
        assert_eq!(beginning("é", 1), "");
    }
}
