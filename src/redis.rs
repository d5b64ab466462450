//! Connections to Redis, for the backends that keep something there: a single server, a cluster, or whatever server a
//! sentinel names.
//!
//! Redis may vanish at any time: nothing waits for it longer than its caller said, the connections come back by
//! themselves, and a call that finds none is refused at once.

use std::sync::OnceLock;
use std::time::Duration;

use fred::clients::Pool;
use fred::error::ErrorKind as FredKind;
use fred::interfaces::{ClientLike, EventInterface, FredResult, LuaInterface};
use fred::types::config::{
    ClusterDiscoveryPolicy, ConnectionConfig, PerformanceConfig, ReconnectPolicy, Server, ServerConfig, TcpConfig,
    TlsConnector, UnresponsiveConfig,
};
use fred::types::{FromValue, MultipleKeys, Value};

use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};

/// What every key of ours begins with: a Redis may be shared with others.
pub(crate) const PREFIX: &str = "rag:";

/// How long a start waits for the first connection before it goes on without.
const FIRST_CONNECTION: Duration = Duration::from_secs(2);
/// Longest time for a connection, its TLS handshake, and each command of its greeting.
const CONNECTION: Duration = Duration::from_secs(2);
/// Pauses between attempts to connect, in milliseconds: 100, doubled up to 1,000, for ever.
const PAUSE: (u32, u32) = (100, 1_000);
/// A connection on which nothing has come back for so long is closed and made anew.
const SILENCE: Duration = Duration::from_secs(2);
/// Most calls that wait to be written to one connection.
const MAX_WAITING: usize = 1_024;
/// Longest wait for one command: every request waits for a decision of the limits, and a question that waits for the cache
/// waits longer ([`crate::cache::LIMIT`]), so that the breaker sees the failure.
const TIMEOUT: Duration = Duration::from_millis(200);
/// What a caller waits longer than the client does, which else forgets to drop a call that nobody waits for.
const MARGIN: Duration = Duration::from_millis(25);

/// Which Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it is.
    pub topology: Topology,
    /// Whether connections are encrypted; certificates are checked against the system's roots.
    pub tls: bool,
    /// The ACL user; `None`: the default one.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The numbered database; a cluster has none.
    pub database: Option<u8>,
}

/// How Redis runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single(Node),
    /// A cluster, of which some nodes are known.
    Cluster(Vec<Node>),
    /// Servers that sentinels watch over.
    Sentinel {
        /// The sentinels.
        nodes: Vec<Node>,
        /// The name of the service whose primary is meant.
        service: String,
        /// The sentinels' own user.
        username: Option<String>,
        /// The sentinels' own password.
        password: Option<Secret>,
    },
}

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A pool of connections whose calls all have the same deadline.
#[derive(Debug)]
pub(crate) struct Redis {
    pool: Pool,
    what: &'static str,
}

impl Redis {
    /// Connects, for `what`, as errors call it. A Redis that is down is no error, for it may come; one that refuses the
    /// password or is of another kind than configured is [`ErrorKind::Config`].
    pub(crate) async fn connect(config: &Config, what: &'static str, connections: usize) -> Result<Self> {
        // A call that was under way when its connection broke may have been carried out: it is not sent again.
        let connection = ConnectionConfig {
            connection_timeout: CONNECTION,
            internal_command_timeout: CONNECTION,
            max_command_attempts: 1,
            max_command_buffer_len: MAX_WAITING,
            unresponsive: UnresponsiveConfig { max_timeout: Some(SILENCE), interval: SILENCE / 4 },
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            ..ConnectionConfig::default()
        };
        // The only timeout that scripts have: theirs of a single call is ignored.
        let performance = PerformanceConfig { default_command_timeout: TIMEOUT, ..PerformanceConfig::default() };
        let reconnect = ReconnectPolicy::new_exponential(0, PAUSE.0, PAUSE.1, 2);
        let client = client_config(config)?;
        let pool = Pool::new(client, Some(performance), Some(connection), Some(reconnect), connections)
            .map_err(|error| Error::config("RAG_REDIS_URL: no client can be made of it").with_source(error))?;
        connect_first(&pool, what).await?;
        Ok(Self { pool, what })
    }

    /// The connections, for the commands of [`Redis::run`].
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Makes a call. Without a connection it fails at once; else within the timeout.
    pub(crate) async fn run<T>(&self, call: impl Future<Output = FredResult<T>>) -> Result<T> {
        if !self.pool.clients().iter().any(ClientLike::is_connected) {
            return Err(Error::new(ErrorKind::Unavailable, format!("{}: redis is not connected", self.what)));
        }
        match tokio::time::timeout(TIMEOUT + MARGIN, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if *error.kind() != FredKind::Timeout => {
                Err(Error::unavailable(format!("{}: redis is not available", self.what), error))
            }
            _ => Err(Error::new(ErrorKind::Timeout, format!("{}: redis took too long", self.what))),
        }
    }
}

/// A Lua script, sent whole only to servers that do not know it.
#[derive(Debug)]
pub(crate) struct Script {
    lua: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    pub(crate) const fn new(lua: &'static str) -> Self {
        Self { lua, hash: OnceLock::new() }
    }

    /// Runs it, as one call, on the server that has `keys`.
    pub(crate) async fn run<T: FromValue>(&self, redis: &Redis, keys: MultipleKeys, arguments: Value) -> Result<T> {
        redis.run(self.call(redis.pool(), keys, arguments)).await
    }

    async fn call<T: FromValue>(&self, pool: &Pool, keys: MultipleKeys, arguments: Value) -> FredResult<T> {
        let hash = match self.hash.get() {
            Some(hash) => hash,
            // Whichever server says it, and however often: it is the same everywhere.
            None => {
                let hash = pool.script_load(self.lua).await?;
                self.hash.get_or_init(|| hash)
            }
        };
        match pool.evalsha(hash.as_str(), keys.clone(), arguments.clone()).await {
            Err(error) if error.details().starts_with("NOSCRIPT") => pool.eval(self.lua, keys, arguments).await,
            result => result,
        }
    }
}

/// Begins to connect, for ever, and waits for what comes of the first attempt.
async fn connect_first(pool: &Pool, what: &str) -> Result<()> {
    let mut errors = pool.next().error_rx();
    pool.connect();
    let first = async {
        tokio::select! {
            connected = pool.wait_for_connect() => connected.map_err(Some),
            failed = errors.recv() => Err(failed.ok().map(|(error, _)| error)),
        }
    };
    match tokio::time::timeout(FIRST_CONNECTION, first).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Some(error))) => refused(&error, what),
        Ok(Err(None)) | Err(_) => {
            tracing::warn!(what, "redis does not answer; starting without it");
            Ok(())
        }
    }
}

/// What became of the first attempt to connect.
fn refused(error: &fred::error::Error, what: &str) -> Result<()> {
    let problem = match error.kind() {
        FredKind::Auth => "the server refuses the user or the password",
        FredKind::Config | FredKind::Url | FredKind::Cluster => "the server is of another kind than the URL says",
        _ => {
            tracing::warn!(what, error = %error, "redis cannot be reached; starting without it");
            return Ok(());
        }
    };
    Err(Error::config(format!("RAG_REDIS_URL: {problem} ({})", error.details())))
}

fn client_config(config: &Config) -> Result<fred::types::config::Config> {
    let exposed = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    let servers = |nodes: &[Node]| nodes.iter().map(server).collect();
    let server = match &config.topology {
        Topology::Single(node) => ServerConfig::Centralized { server: server(node) },
        Topology::Cluster(nodes) => {
            ServerConfig::Clustered { hosts: servers(nodes), policy: ClusterDiscoveryPolicy::UseCache }
        }
        Topology::Sentinel { nodes, service, username, password } => ServerConfig::Sentinel {
            hosts: servers(nodes),
            service_name: service.clone(),
            username: username.clone(),
            password: exposed(password),
        },
    };
    let tls = match config.tls {
        true => Some(TlsConnector::default_rustls().map_err(|error| {
            Error::config("RAG_REDIS_URL: the system's certificates cannot be read").with_source(error)
        })?),
        false => None,
    };
    Ok(fred::types::config::Config {
        fail_fast: false,
        server,
        username: config.username.clone(),
        password: exposed(&config.password),
        database: config.database,
        tls: tls.map(Into::into),
        ..fred::types::config::Config::default()
    })
}

fn server(node: &Node) -> Server {
    Server::new(node.host.clone(), node.port)
}
