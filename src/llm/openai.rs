//! Any server that speaks OpenAI's chat completions, streaming.

mod stream;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Response, StatusCode};
use serde_json::json;

use super::{Generation, GenerationRequest, Llm};
use crate::config::Secret;
use crate::error::{ErrorKind, Result};
use crate::remote::{self, Endpoint, Service};
use crate::resilience::Deadline;

/// As errors call it.
const SERVICE: Service = Service {
    what: "language model",
    model: "RAG_LLM_MODEL",
    base_url: "RAG_OPENAI_BASE_URL",
    api_key: "RAG_OPENAI_API_KEY",
    // A prompt that is too long, or that its filter does not like: nothing is wrong with the server.
    refused: (ErrorKind::Invalid, ""),
};

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
            connect: remote::CONNECT,
            first_token: Duration::from_secs(20),
            between_tokens: Duration::from_secs(10),
            total: Duration::from_secs(60),
        }
    }
}

/// A server that asks to wait no longer than this is asked once more; one that asks for longer is left to the chain.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(2);

/// One model of an OpenAI-compatible server.
pub struct OpenAi {
    endpoint: Endpoint,
    model: String,
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
        let endpoint = Endpoint::new(SERVICE, (base_url, "/chat/completions"), api_key.as_ref(), timeouts.connect)?;
        Ok(Self { endpoint, model: model.to_owned(), timeouts, dialect: Dialect::default() })
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

    /// Sends until the server takes it: once more after a short `Retry-After`, and in its own dialect.
    async fn start(&self, request: &GenerationRequest) -> Result<Response> {
        let mut waited = false;
        loop {
            let response = self.endpoint.post(&self.body(request)).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let pause = remote::retry_after(&response).filter(|pause| *pause <= MAX_RETRY_AFTER);
            let detail = remote::error_body(response).await;
            match pause {
                Some(pause) if !waited && is_overload(status) => {
                    waited = true;
                    tokio::time::sleep(pause).await;
                }
                _ if status == StatusCode::BAD_REQUEST && self.dialect.learn(&detail) => {}
                _ => return Err(self.endpoint.refusal(status, &detail)),
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

fn is_overload(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}
