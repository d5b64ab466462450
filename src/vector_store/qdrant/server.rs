//! The way to a Qdrant server: channels, key, deadlines, and what its errors mean.
//!
//! The clients are those that qdrant-client generates, on channels of our own. Its convenience client sends a call again
//! by itself when a connection broke, beneath the retries that are stacked outside; it gives each call the same time; and
//! it never asks a silent connection for a sign of life, so that a peer that is gone without a word is noticed late.

use std::time::Duration;

use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::qdrant_client::QdrantClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::resilience::Deadline;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long a connection may be silent before it is asked for a sign of life, and how long that may take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(5);
/// How long a call that reads may take: a search has 5 s in all.
pub(super) const READ_LIMIT: Duration = Duration::from_secs(4);
/// How long a call that writes may take, until all replicas have applied it.
pub(super) const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// Largest answer: 10,000 hits are 1 MiB, 1,000 chunks a few.
const MAX_ANSWER: usize = 64 << 20;

pub(super) type Keyed = InterceptedService<Channel, ApiKey>;

/// A Qdrant server, by two connections: a bulk of points that is written holds up no search. Both are made when they are
/// first needed, and again when they broke.
#[derive(Debug, Clone)]
pub(super) struct Server {
    url: String,
    health: QdrantClient<Keyed>,
    collections: CollectionsClient<Keyed>,
    reads: PointsClient<Keyed>,
    writes: PointsClient<Keyed>,
}

/// Adds the key to every call.
#[derive(Debug, Clone)]
pub(super) struct ApiKey(Option<MetadataValue<Ascii>>);

impl Interceptor for ApiKey {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("api-key", key.clone());
        }
        Ok(request)
    }
}

impl Server {
    /// The server at `url`, `http(s)://HOST:PORT` of its gRPC. Connects later, within a tokio runtime.
    pub(super) fn new(url: &str, api_key: Option<&Secret>) -> Result<Self> {
        let key = ApiKey(api_key.map(header).transpose()?);
        let reads = InterceptedService::new(endpoint(url)?.connect_lazy(), key.clone());
        let writes = InterceptedService::new(endpoint(url)?.connect_lazy(), key);
        Ok(Self {
            url: url.to_owned(),
            health: QdrantClient::new(reads.clone()),
            collections: CollectionsClient::new(writes.clone()),
            reads: PointsClient::new(reads).max_decoding_message_size(MAX_ANSWER),
            writes: PointsClient::new(writes),
        })
    }

    /// Where it is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn health(&self) -> QdrantClient<Keyed> {
        self.health.clone()
    }

    pub(super) fn collections(&self) -> CollectionsClient<Keyed> {
        self.collections.clone()
    }

    pub(super) fn reads(&self) -> PointsClient<Keyed> {
        self.reads.clone()
    }

    pub(super) fn writes(&self) -> PointsClient<Keyed> {
        self.writes.clone()
    }

    /// The answer of a call, within a limit.
    pub(super) async fn answer<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = std::result::Result<Response<T>, Status>>,
    ) -> Result<T> {
        let answer = async { call.await.map(Response::into_inner).map_err(|status| self.failed(status)) };
        Deadline::after(limit).run("the vector store", answer).await
    }

    /// What a call's error means: what the machine did may pass, what it was asked to do will not.
    fn failed(&self, status: Status) -> Error {
        let url = &self.url;
        let error = match status.code() {
            // Qdrant says `internal` of everything that went wrong within it; tonic says `unknown` or `cancelled` of
            // connections that ended.
            Code::Unavailable
            | Code::Aborted
            | Code::Cancelled
            | Code::ResourceExhausted
            | Code::Internal
            | Code::Unknown => {
                Error::new(ErrorKind::Unavailable, format!("the vector store at {url} cannot be used now"))
            }
            Code::DeadlineExceeded => {
                Error::new(ErrorKind::Timeout, format!("the vector store at {url} took too long"))
            }
            Code::Unauthenticated | Code::PermissionDenied => Error::config(format!(
                "the vector store at {url} refuses the key: set RAG_VECTOR_DB_API_KEY to one that may read and write"
            )),
            _ => Error::new(ErrorKind::Internal, format!("the vector store at {url} refused a call")),
        };
        error.with_source(status)
    }

    /// Whether it is Qdrant's REST that answers there: port 6333 for 6334 is the usual slip.
    pub(super) async fn is_rest(&self) -> bool {
        let client = reqwest::Client::builder().timeout(CONNECT_LIMIT).no_proxy().build();
        let Ok(client) = client else { return false };
        let Ok(mut answer) = client.get(&self.url).send().await else { return false };
        let beginning = answer.chunk().await.ok().flatten().unwrap_or_default();
        memchr::memmem::find(&beginning, b"qdrant").is_some()
    }
}

fn header(key: &Secret) -> Result<MetadataValue<Ascii>> {
    let mut value: MetadataValue<Ascii> = key
        .expose()
        .parse()
        .map_err(|_| Error::config("RAG_VECTOR_DB_API_KEY must be ASCII without control characters"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn endpoint(url: &str) -> Result<Endpoint> {
    let wrong = |error| {
        Error::config(format!("RAG_VECTOR_DB_URL: {url} is not a URL such as http://HOST:6334")).with_source(error)
    };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(wrong)?;
    let endpoint = match url.starts_with("https://") {
        true => endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(wrong)?,
        false => endpoint,
    };
    Ok(endpoint
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}
