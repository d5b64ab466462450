//! A Qdrant server for tests: the gRPC services of the real one, as far as the product uses them, over qdrant-edge, which
//! is the real one's engine. What it is not asked to do it refuses.
//!
//! It is as unkind as the real one: a write without `wait` shows late, an empty list is no list, requests have a largest
//! size, and it fails when it is told to.

mod collection;
mod collections;
mod convert;
mod points;
mod value;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::{Qdrant, QdrantServer as HealthServer};
use qdrant_client::qdrant::{HealthCheckReply, HealthCheckRequest};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use collection::Collection;

/// The servers outlive the runtimes of the tests that share them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
});

/// One server for all tests that do not trouble it.
pub(crate) static SHARED: LazyLock<QdrantServer> = LazyLock::new(|| QdrantServer::start(Options::default()));

/// How a server differs from the usual one.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) api_key: Option<&'static str>,
    pub(crate) version: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self { api_key: None, version: "1.19.0" }
    }
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// UNAVAILABLE, and nothing was done.
    Refused,
    /// It was done, and the answer was lost: UNAVAILABLE.
    AnswerLost,
    /// It was sent twice, as after a reconnect.
    Twice,
    /// No answer ever.
    Silence,
}

/// What a call was.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    /// Of writes: whether it waited, and its ordering.
    pub(crate) wait: Option<bool>,
    pub(crate) ordering: Option<i32>,
    /// Of upserts: its points.
    pub(crate) points: usize,
}

impl Call {
    fn read(method: &'static str) -> Self {
        Self { method, wait: None, ordering: None, points: 0 }
    }
}

/// What a server knows.
#[derive(Debug)]
struct State {
    options: Options,
    collections: Mutex<HashMap<String, Arc<Collection>>>,
    /// The calls of this method that come after so many fail so.
    faults: Mutex<Vec<(&'static str, usize, Fault)>>,
    calls: Mutex<Vec<Call>>,
}

impl State {
    /// Notes a call; what is to go wrong with it.
    async fn enter(&self, call: Call) -> Result<Option<Fault>, Status> {
        let fault = {
            let mut faults = self.faults.lock().unwrap();
            let position = faults.iter().position(|(method, after, _)| *method == call.method && *after == 0);
            for (method, after, _) in faults.iter_mut() {
                *after -= usize::from(*method == call.method && *after > 0);
            }
            position.map(|position| faults.remove(position).2)
        };
        self.calls.lock().unwrap().push(call);
        match fault {
            Some(Fault::Refused) => Err(Status::unavailable("told to refuse")),
            Some(Fault::Silence) => std::future::pending().await,
            fault => Ok(fault),
        }
    }

    fn collection(&self, name: &str) -> Result<Arc<Collection>, Status> {
        let found = self.collections.lock().unwrap().get(name).cloned();
        found.ok_or_else(|| Status::not_found(format!("Not found: Collection `{name}` doesn't exist!")))
    }
}

/// A running server. It ends with this value.
#[derive(Debug)]
pub(crate) struct QdrantServer {
    pub(crate) url: String,
    state: Arc<State>,
    listener: std::net::TcpListener,
    stop: CancellationToken,
}

impl QdrantServer {
    /// Starts a server on a free port.
    pub(crate) fn start(options: Options) -> Self {
        Self::start_on(std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"), options)
    }

    pub(crate) fn start_on(listener: std::net::TcpListener, options: Options) -> Self {
        listener.set_nonblocking(true).expect("a socket");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(State {
            options,
            collections: Mutex::default(),
            faults: Mutex::default(),
            calls: Mutex::default(),
        });
        let server = Self { url, state, listener, stop: CancellationToken::new() };
        server.run();
        server
    }

    fn run(&self) {
        let listener = self.listener.try_clone().expect("a socket");
        RUNTIME.spawn(serve(listener, self.state.clone(), self.stop.clone()));
    }

    /// Ends every connection; what was written stays.
    pub(crate) fn restart(&mut self) {
        self.stop.cancel();
        self.stop = CancellationToken::new();
        self.run();
    }

    /// Lets the call of a method fail that comes after `after` others of it, counted from now.
    pub(crate) fn fail(&self, method: &'static str, after: usize, fault: Fault) {
        self.state.faults.lock().unwrap().push((method, after, fault));
    }

    /// The calls of a method so far.
    pub(crate) fn calls(&self, method: &str) -> Vec<Call> {
        self.state.calls.lock().unwrap().iter().filter(|call| call.method == method).cloned().collect()
    }

    /// Applies what was written without `wait`.
    pub(crate) fn settle(&self, collection: &str) {
        self.state.collection(collection).expect("the collection").settle().expect("the writes are right");
    }
}

impl Drop for QdrantServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<State>, stop: CancellationToken) {
    let key = state.options.api_key;
    let check = move |request: Request<()>| match (key, request.metadata().get("api-key")) {
        (Some(key), given) if given.is_none_or(|given| given.as_bytes() != key.as_bytes()) => {
            Err(Status::unauthenticated("Must provide an API key or an Authorization bearer token"))
        }
        _ => Ok(request),
    };
    // Not raised: the real server takes more, and what stands before it may not.
    let points = PointsServer::new(points::Service(state.clone()));
    let collections = CollectionsServer::new(collections::Service(state.clone()));
    let listener = TcpListener::from_std(listener).expect("a listener");
    tonic::transport::Server::builder()
        .add_service(HealthServer::new(Health(state)))
        .add_service(InterceptedService::new(collections, check))
        .add_service(InterceptedService::new(points, check))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop.cancelled_owned())
        .await
        .expect("it serves");
}

/// Answers without a key, as the real one does.
#[derive(Debug)]
struct Health(Arc<State>);

#[tonic::async_trait]
impl Qdrant for Health {
    async fn health_check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckReply>, Status> {
        self.0.enter(Call::read("health_check")).await?;
        let version = self.0.options.version.to_owned();
        Ok(Response::new(HealthCheckReply { title: "qdrant - test server".to_owned(), version, commit: None }))
    }
}
