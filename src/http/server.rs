//! The server loop: accept, serve, drain.
//!
//! axum's own has no timer, so a client that sends its head slowly holds a connection for ever, and a stop can hang.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::error::Result;
use crate::http::address::AddressLimit;
use crate::http::connection::{Patience, PatientIo};
use crate::http::state::AppState;
use crate::http::{Config, housekeeping, routes};

/// What clients and connections may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Until a request's head is complete, counted from the end of the request before: so idle connections end too.
    head: Duration,
    patience: Patience,
    /// Between pings of HTTP/2 connections, and until the answer.
    ping: Duration,
}

const LIMITS: Limits = Limits {
    head: Duration::from_secs(10),
    patience: Patience { opening: Duration::from_secs(10), write: Duration::from_secs(30) },
    ping: Duration::from_secs(20),
};

/// Requests at once on an HTTP/2 connection.
const HTTP2_STREAMS: u32 = 128;
/// Bytes that a client may send ahead on an HTTP/2 stream, and on a connection.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// Most headers of a request.
const MAX_HEADERS: usize = 100;

/// Longest pause after `accept` failed for want of something (file descriptors, memory).
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Connections of scrapers at once.
const METRICS_CONNECTIONS: usize = 32;

/// Serves the API, and the metrics on their own listener if there is one, until `shutdown`: then `/ready` says no at
/// once, connections are still accepted for `drain_delay`, requests in flight may finish within `drain_timeout`, and
/// what has not is cut.
///
/// # Errors
/// [`crate::error::ErrorKind::Config`] if the configuration is wrong.
pub async fn serve(
    listener: TcpListener,
    metrics_listener: Option<TcpListener>,
    state: AppState,
    shutdown: CancellationToken,
) -> Result<()> {
    let address_limit = AddressLimit::new(&state.config)?;
    let api = Server::new(routes::api_router(&state, address_limit.as_ref()), state.config.max_connections);
    let metrics = Server::new(routes::metrics_router(&state), METRICS_CONNECTIONS);
    let config = Arc::clone(&state.config);
    let readiness = state.readiness.clone();
    let chores = AbortOnDrop(tokio::spawn(housekeeping::run(state, address_limit)));
    let refuse = CancellationToken::new();
    let metrics_done = CancellationToken::new();
    let stop = async {
        shutdown.cancelled().await;
        readiness.drain();
        tracing::info!(delay_ms = config.drain_delay.as_millis() as u64, "draining");
        tokio::time::sleep(config.drain_delay).await;
        refuse.cancel();
    };
    let serve_api = async {
        api.run(listener, &refuse, &config).await;
        metrics_done.cancel();
    };
    // Scrapers see the process until its last request is done.
    let serve_metrics = async {
        if let Some(listener) = metrics_listener {
            metrics.run(listener, &metrics_done, &config).await;
        }
    };
    tokio::join!(stop, serve_api, serve_metrics);
    drop(chores);
    Ok(())
}

/// Serves `/health`, `/ready` and `/metrics` alone, for a process without the API: until `done`; from `shutdown` on
/// `/ready` says no.
pub async fn serve_operations(
    listener: TcpListener,
    state: AppState,
    shutdown: &CancellationToken,
    done: &CancellationToken,
) {
    let server = Server::new(routes::metrics_router(&state), METRICS_CONNECTIONS);
    let (config, readiness) = (Arc::clone(&state.config), state.readiness.clone());
    let chores = AbortOnDrop(tokio::spawn(housekeeping::run(state, None)));
    let draining = async {
        tokio::select! {
            () = shutdown.cancelled() => readiness.drain(),
            // The work ended by itself.
            () = done.cancelled() => {}
        }
    };
    tokio::join!(draining, server.run(listener, done, &config));
    drop(chores);
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One listener's connections.
pub(super) struct Server {
    router: Router,
    builder: Builder<TokioExecutor>,
    limits: Limits,
    places: Arc<Semaphore>,
    connections: TaskTracker,
    graceful: GracefulShutdown,
    /// Cuts what has not finished in time.
    cut: CancellationToken,
}

impl Server {
    pub(super) fn new(router: Router, max_connections: usize) -> Self {
        Self::with_limits(router, max_connections, LIMITS)
    }

    fn with_limits(router: Router, max_connections: usize, limits: Limits) -> Self {
        Self {
            router,
            builder: builder(limits),
            limits,
            places: Arc::new(Semaphore::new(max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            connections: TaskTracker::new(),
            graceful: GracefulShutdown::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Accepts until `refuse`, then lets requests in flight finish.
    pub(super) async fn run(self, listener: TcpListener, refuse: &CancellationToken, config: &Config) {
        tokio::select! {
            () = refuse.cancelled() => {}
            () = self.accept(&listener) => {}
        }
        drop(listener);
        self.connections.close();
        let finished = tokio::time::timeout(config.drain_timeout, self.graceful.shutdown()).await;
        if finished.is_err() {
            tracing::warn!(connections = self.connections.len(), "requests cut, they took too long to finish");
        }
        self.cut.cancel();
        self.connections.wait().await;
    }

    async fn accept(&self, listener: &TcpListener) {
        let mut pause = Duration::ZERO;
        loop {
            // Past the limit, clients wait in the kernel's queue.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    pause = Duration::ZERO;
                    self.spawn(stream, peer, place);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    pause = (pause * 2).clamp(Duration::from_millis(10), MAX_ACCEPT_PAUSE);
                    tracing::error!(%error, "accept failed");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn spawn(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        // Only a hint for latency; the connection works without.
        let _ = stream.set_nodelay(true);
        let router = self.router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request)
        });
        let io = TokioIo::new(PatientIo::new(stream, self.limits.patience));
        let connection = self.builder.serve_connection(io, service).into_owned();
        let connection = self.graceful.watch(connection);
        let cut = self.cut.clone();
        self.connections.spawn(async move {
            tokio::select! {
                outcome = connection => if let Err(error) = outcome {
                    tracing::debug!(%error, %peer, "connection ended");
                },
                () = cut.cancelled() => {}
            }
            drop(place);
        });
    }
}

fn builder(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .keep_alive(true)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.ping);
    builder
}

/// Errors of `accept` that are over with the connection they belong to.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
pub(super) mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    use super::*;

    /// A configuration for tests.
    pub(in crate::http) fn config() -> Config {
        Config {
            listen: ([127, 0, 0, 1], 0).into(),
            metrics_listen: None,
            request_timeout: Duration::from_secs(45),
            max_body_bytes: 1024 * 1024,
            trusted_proxies: vec![],
            address_rate: 0,
            address_burst: 0,
            max_connections: 16,
            max_concurrent_queries: 4,
            max_concurrent_ingests: 4,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }

    struct Running {
        address: SocketAddr,
        refuse: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start(server: Server, config: Config) -> Running {
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let refuse = CancellationToken::new();
        let stop = refuse.clone();
        let task = tokio::spawn(async move { server.run(listener, &stop, &config).await });
        Running { address, refuse, task }
    }

    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    #[tokio::test]
    async fn requests_in_flight_finish_and_new_connections_are_refused() {
        let (began, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (handler_began, handler_go) = (began.clone(), go.clone());
        let handler = async move || {
            handler_began.notify_one();
            handler_go.notified().await;
            "done"
        };
        let running = start(Server::new(Router::new().route("/", get(handler)), 4), config()).await;
        let in_flight = tokio::spawn(exchange(running.address, GET));
        began.notified().await;
        running.refuse.cancel();
        while TcpStream::connect(running.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        go.notify_one();
        assert!(in_flight.await.unwrap().ends_with("done"));
        running.task.await.unwrap();
    }

    #[tokio::test]
    async fn what_does_not_finish_in_time_is_cut() {
        let began = Arc::new(Notify::new());
        let handler_began = began.clone();
        let handler = async move || {
            handler_began.notify_one();
            std::future::pending::<()>().await;
        };
        let config = Config { drain_timeout: Duration::from_millis(10), ..config() };
        let running = start(Server::new(Router::new().route("/", get(handler)), 4), config).await;
        let in_flight = tokio::spawn(exchange(running.address, GET));
        began.notified().await;
        running.refuse.cancel();
        running.task.await.unwrap();
        assert_eq!(in_flight.await.unwrap(), "");
    }

    #[tokio::test]
    async fn slow_heads_and_silent_clients_are_given_up() {
        let short = Duration::from_millis(20);
        let patience = Patience { opening: short, ..LIMITS.patience };
        let server = Server::with_limits(Router::new(), 1, Limits { head: short, patience, ..LIMITS });
        let running = start(server, config()).await;
        for sent in ["", "PRI", "GET / HTTP/1.1\r\nHost:", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
            // The last one is an idle connection after its response. That the next one is served shows that the only
            // place was freed.
            let response = exchange(running.address, sent).await;
            assert_eq!(response.starts_with("HTTP/1.1 404"), sent.ends_with("\r\n\r\n"), "{sent:?}: {response}");
        }
        running.refuse.cancel();
        running.task.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_goes_away_drops_its_handler() {
        struct Work(Arc<Notify>);
        impl Drop for Work {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let (began, stopped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (handler_began, handler_stopped) = (began.clone(), stopped.clone());
        let handler = async move || {
            let _work = Work(handler_stopped.clone());
            handler_began.notify_one();
            std::future::pending::<()>().await;
        };
        let running = start(Server::new(Router::new().route("/", get(handler)), 4), config()).await;
        let mut client = TcpStream::connect(running.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        began.notified().await;
        drop(client);
        stopped.notified().await;
        running.refuse.cancel();
        running.task.await.unwrap();
    }
}
