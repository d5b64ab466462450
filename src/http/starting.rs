//! What a process says while it loads its models: it lives, and takes no requests yet.

use std::time::Duration;

use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json as Reply, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::http::problem::Refusal;
use crate::http::readiness::Readiness;
use crate::http::server::Server;
use crate::http::{Config, observe, operations};

/// Answers on a listener that another server takes over: `/health` says 200, all else 503.
#[derive(Debug)]
pub struct Starting {
    stop: CancellationToken,
}

/// Connections of probes at once.
const CONNECTIONS: usize = 64;
/// How long an answer that is on its way may still take.
const DRAIN: Duration = Duration::from_secs(5);

impl Starting {
    /// Answers until [`Starting::finish`]; returns the listener, on which connections that nobody took wait.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Internal`] if the socket cannot be shared.
    pub fn serve(listener: TcpListener, config: &Config) -> Result<(Self, TcpListener)> {
        let failed = |error| Error::internal("the socket cannot be shared", error);
        let listener = listener.into_std().map_err(failed)?;
        let ours = TcpListener::from_std(listener.try_clone().map_err(failed)?).map_err(failed)?;
        let theirs = TcpListener::from_std(listener).map_err(failed)?;
        let stop = CancellationToken::new();
        let (refuse, config) = (stop.clone(), Config { drain_timeout: DRAIN, ..config.clone() });
        tokio::spawn(async move { Server::new(router(), CONNECTIONS).run(ours, &refuse, &config).await });
        Ok((Self { stop }, theirs))
    }

    /// Takes no more connections; a request in flight still gets its answer.
    pub fn finish(self) {
        self.stop.cancel();
    }
}

fn router() -> Router {
    let router = Router::new()
        .route("/health", get(operations::health))
        .route("/ready", get(ready))
        .fallback(async || Refusal::Starting)
        .layer(axum::middleware::from_fn(observe::observe));
    // What is open after the start belongs to the server that takes over.
    router.layer(axum::middleware::map_response(async |mut response: Response| {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }))
}

async fn ready() -> impl IntoResponse {
    (StatusCode::SERVICE_UNAVAILABLE, Reply(Readiness::default().response()))
}
