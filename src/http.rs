//! The HTTP server: one table of routes, middleware in order, errors → status in one place.

use std::net::SocketAddr;
use std::time::Duration;

/// How requests are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Where `/metrics` listens; `None`: with the API.
    pub metrics_listen: Option<SocketAddr>,
    /// A request's deadline.
    pub request_timeout: Duration,
    /// Most bytes of one uploaded file (and of a JSON body).
    pub max_body_bytes: u64,
    /// Addresses (CIDR) of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// Requests per second of one client address, before keys are looked at; 0: no limit.
    pub address_rate: u32,
    /// Requests of one client address at once above that rate.
    pub address_burst: u32,
    /// Most open connections.
    pub max_connections: usize,
    /// Questions and searches that run at once; more wait shortly, then are shed.
    pub max_concurrent_queries: usize,
    /// Changes of documents that run at once; more wait shortly, then are shed.
    pub max_concurrent_ingests: usize,
    /// How long `/ready` says no before connections are refused, when stopping.
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish, when stopping.
    pub drain_timeout: Duration,
}
