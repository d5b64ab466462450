//! A small client of the HTTP API, for the commands that talk to a running server.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rag_api::config::Secret;
use rag_api::error::{Error, ErrorKind, Result};
use reqwest::{RequestBuilder, Response, StatusCode};

/// Longest wait for one response; a question has its own deadline on the server.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Tries of a request that a server refused for now.
const MAX_TRIES: u32 = 8;

#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// The server (or `RAG_URL`)
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The API key (better: `RAG_API_KEY` in the environment, which other users cannot see)
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

/// A server and how to speak to it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<Secret>,
}

impl Client {
    pub(crate) fn new(arguments: &ServerArgs) -> Result<Self> {
        let environment = rag_api::config::client()?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| Error::internal("the HTTP client cannot start", error))?;
        let base = arguments.url.clone().or(environment.url).unwrap_or_else(|| "http://127.0.0.1:8000".to_owned());
        let key = arguments.key.clone().map(Secret::new).or(environment.key);
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), key })
    }

    /// A request to a path such as `/v1/query`, with the key.
    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.header("x-api-key", key.expose()),
            None => request,
        }
    }

    /// Sends; waits and repeats where the server says so (429, 503 with `Retry-After`).
    pub(crate) async fn send(&self, build: impl Fn() -> Result<RequestBuilder>) -> Result<Response> {
        let mut tries = 0;
        loop {
            let response = build()?.send().await.map_err(|error| self.unreachable(error))?;
            tries += 1;
            let busy = matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            match retry_after(&response) {
                Some(pause) if busy && tries < MAX_TRIES => tokio::time::sleep(pause).await,
                _ => return Ok(response),
            }
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> Error {
        Error::unavailable(format!("no answer from {}; is the server running?", self.base), error)
    }
}

/// At most a minute: a server that asks for more is asked again sooner.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds: u64 = response.headers().get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.clamp(1, 60)))
}

/// The body of a response that went well; else what the server said was wrong.
pub(crate) async fn body(response: Response) -> Result<serde_json::Value> {
    let status = response.status();
    let body: serde_json::Value = response
        .json()
        .await
        .map_err(|error| Error::unavailable(format!("the server answered {status} with no JSON"), error))?;
    if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
}

/// What the server said was wrong, in its words.
pub(crate) fn refusal(status: StatusCode, body: &serde_json::Value) -> Error {
    let said = body["detail"].as_str().or(body["answer"].as_str()).or(body["title"].as_str()).unwrap_or("no reason");
    let fields = body["errors"].as_array().into_iter().flatten();
    let fields: String = fields
        .filter_map(|error| Some(format!("; {}: {}", error["pointer"].as_str()?, error["detail"].as_str()?)))
        .collect();
    let hint = if status == StatusCode::UNAUTHORIZED { "; give --key or RAG_API_KEY" } else { "" };
    Error::new(ErrorKind::Invalid, format!("{}: {said}{fields}{hint}", status.as_u16()))
}

pub(crate) async fn health(arguments: &ServerArgs) -> Result<ExitCode> {
    let client = Client::new(arguments)?;
    let response = client.send(|| Ok(client.request(reqwest::Method::GET, "/health"))).await?;
    if response.status().is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Error::new(ErrorKind::Unavailable, format!("the server answered {}", response.status())))
}
