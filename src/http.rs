//! The HTTP server: one table of routes, middleware in order, errors → status in one place.
//!
//! A request passes, in this order: `observe` (request id, log, metrics, error bodies) → a net under panics → the
//! client address's limit (`address`) → the route's deadline, key, key's limit and admission (`guard`) → the handler.
//! `routes` says which of these a route has; health, readiness and metrics have none.

mod address;
mod admission;
mod body;
mod connection;
mod cursor;
mod documents;
mod extract;
mod guard;
mod housekeeping;
mod keys;
mod observe;
mod openapi;
mod operations;
mod problem;
mod query;
mod readiness;
mod routes;
mod server;
mod sse;
mod starting;
mod state;
mod upload;

use std::net::SocketAddr;
use std::time::Duration;

pub use openapi::openapi_json;
pub use readiness::{Dependency, Phase, Readiness};
pub use routes::{Access, LimitClass, RouteInfo, route_table};
pub use server::{serve, serve_operations};
pub use starting::Starting;
pub use state::{AppState, Services};

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
