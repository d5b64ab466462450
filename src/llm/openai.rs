//! Any server that speaks OpenAI's chat completions, streaming.

mod stream;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};
use serde_json::json;

use super::{Generation, GenerationRequest, Llm};
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::resilience::Deadline;

/// How long each part of a generation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// From the request until the first token (reasoning tokens count).
    pub first_token: Duration,
    /// From one token to the next.
    pub between_tokens: Duration,
    /// All of it.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_token: Duration::from_secs(20),
            between_tokens: Duration::from_secs(10),
            total: Duration::from_secs(60),
        }
    }
}

/// A server that asks to wait no longer than this is asked once more; one that asks for longer is left to the chain.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Most of an error's body that is read for the log, in bytes.
const MAX_ERROR_BODY: usize = 2_000;

/// One model of an OpenAI-compatible server.
pub struct OpenAi {
    client: Client,
    url: String,
    model: String,
    authorization: Option<HeaderValue>,
    timeouts: Timeouts,
    dialect: Dialect,
}

/// What the server was found not to take. Newer models of OpenAI refuse `max_tokens` for `max_completion_tokens`, and
/// any `temperature` but their own; older servers know only `max_tokens`.
#[derive(Debug, Default)]
struct Dialect {
    max_completion_tokens: AtomicBool,
    no_temperature: AtomicBool,
}

impl OpenAi {
    /// A client of `base_url` (such as `https://api.openai.com/v1`); [`ErrorKind::Config`] if that is not a URL.
    pub fn new(model: &str, base_url: &str, api_key: Option<Secret>, timeouts: Timeouts) -> Result<Self> {
        // Whoever builds a client needs a provider; the one that is already there stays.
        drop(rustls::crypto::ring::default_provider().install_default());
        let url = format!("{}/chat/completions", base_url.trim_end_matches('/'));
        let parsed = reqwest::Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if parsed.is_none() {
            return Err(Error::config("RAG_OPENAI_BASE_URL is not an http(s) URL"));
        }
        let authorization = api_key.map(|key| bearer(&key)).transpose()?;
        let client = Client::builder()
            .connect_timeout(timeouts.connect)
            // A redirect would take the documents to a server that nobody configured.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| Error::config("cannot set up an HTTP client for the language model").with_source(error))?;
        Ok(Self { client, url, model: model.to_owned(), authorization, timeouts, dialect: Dialect::default() })
    }

    fn body(&self, request: &GenerationRequest) -> serde_json::Value {
        let mut body = json!({
            "model": self.model,
            "stream": true,
            "stream_options": { "include_usage": true },
            "messages": [
                { "role": "system", "content": request.system },
                { "role": "user", "content": request.user },
            ],
        });
        let limit = match self.dialect.max_completion_tokens.load(Ordering::Relaxed) {
            true => "max_completion_tokens",
            false => "max_tokens",
        };
        body[limit] = request.max_tokens.into();
        if !self.dialect.no_temperature.load(Ordering::Relaxed) {
            body["temperature"] = 0.into();
        }
        body
    }

    async fn send(&self, request: &GenerationRequest) -> Result<Response> {
        let mut post = self.client.post(&self.url).json(&self.body(request));
        if let Some(authorization) = &self.authorization {
            post = post.header(reqwest::header::AUTHORIZATION, authorization);
        }
        post.send()
            .await
            .map_err(|error| Error::unavailable("the language model cannot be reached", error.without_url()))
    }

    /// Sends until the server takes it: once more after a short `Retry-After`, and in its own dialect.
    async fn start(&self, request: &GenerationRequest) -> Result<Response> {
        let mut waited = false;
        loop {
            let response = self.send(request).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let pause = retry_after(&response).filter(|pause| *pause <= MAX_RETRY_AFTER);
            let detail = error_body(response).await;
            match pause {
                Some(pause) if !waited && is_overload(status) => {
                    waited = true;
                    tokio::time::sleep(pause).await;
                }
                _ if status == StatusCode::BAD_REQUEST && self.dialect.learn(&detail) => {}
                _ => return Err(refusal(status, &detail)),
            }
        }
    }
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi").field("model", &self.model).field("timeouts", &self.timeouts).finish_non_exhaustive()
    }
}

#[async_trait]
impl Llm for OpenAi {
    fn name(&self) -> &str {
        &self.model
    }

    async fn generate(&self, request: &GenerationRequest) -> Result<Generation> {
        let total = Deadline::after(self.timeouts.total);
        let first = total.at_most(self.timeouts.first_token);
        let response = first.run("the language model", self.start(request)).await?;
        Ok(stream::read(response, first, total, self.timeouts.between_tokens))
    }
}

impl Dialect {
    /// Learns from a 400, which names the parameter it does not take; false if there is nothing new to learn, so that a
    /// request is sent at most three times for it.
    fn learn(&self, detail: &str) -> bool {
        let body: serde_json::Value = serde_json::from_str(detail).unwrap_or_default();
        match body["error"]["param"].as_str() {
            Some("max_tokens") => !self.max_completion_tokens.swap(true, Ordering::Relaxed),
            Some("temperature") => !self.no_temperature.swap(true, Ordering::Relaxed),
            _ => false,
        }
    }
}

fn bearer(key: &Secret) -> Result<HeaderValue> {
    // The cause would quote the key.
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
        .map_err(|_| Error::config("RAG_OPENAI_API_KEY holds characters that no HTTP header may have"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_overload(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The beginning of an error's body. It may quote the question, so it is never logged; [`summary`] is.
async fn error_body(mut response: Response) -> String {
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

/// What a refused request means to the chain: later (429, 5xx), or not before somebody changes the configuration.
fn refusal(status: StatusCode, detail: &str) -> Error {
    let (kind, message) = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            (ErrorKind::Config, "the language model's server refuses the key: check RAG_OPENAI_API_KEY")
        }
        StatusCode::NOT_FOUND => (
            ErrorKind::Config,
            "the language model's server knows no such model or path: check RAG_LLM_MODEL and RAG_OPENAI_BASE_URL",
        ),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            (ErrorKind::Unavailable, "the language model is overloaded")
        }
        status if status.is_server_error() => (ErrorKind::Unavailable, "the language model's server failed"),
        status if status.is_redirection() => {
            (ErrorKind::Config, "the language model's server redirects: check RAG_OPENAI_BASE_URL")
        }
        // A prompt that is too long, or that its filter does not like: nothing is wrong with the server.
        _ => (ErrorKind::Invalid, "the language model's server refuses the request"),
    };
    let body = serde_json::from_str(detail).unwrap_or_default();
    Error::new(kind, message).with_source(format!("status {}{}", status.as_u16(), summary(&body)))
}

/// Type and code of an error's body, without its message, which may quote the question or a document.
fn summary(body: &serde_json::Value) -> String {
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
