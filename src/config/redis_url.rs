//! The URLs of Redis.

use percent_encoding::percent_decode_str;

use super::Secret;
use crate::redis::{Config, Node, Topology};

/// What such a URL may be.
pub(super) const EXPECTED: &str = "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], the same with rediss:// (TLS), \
    redis-cluster://HOST:PORT,HOST:PORT or redis-sentinel://HOST:PORT,HOST:PORT?service=NAME \
    (special characters of passwords as %XX)";

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Reads a URL; `None` if it is none of [`EXPECTED`].
///
/// By hand, because the nodes of a cluster, with commas between them, are no host that a URL may have.
pub(super) fn parse(url: &str) -> Option<Config> {
    let (scheme, rest) = url.split_once("://")?;
    let (kind, tls) = match scheme.strip_prefix("rediss") {
        Some(kind) => (kind, true),
        None => (scheme.strip_prefix("redis")?, false),
    };
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = authority.rsplit_once('@').map_or((None, authority), |(user, at)| (Some(user), at));
    let (username, password) = credentials.map_or(Some((None, None)), user_and_password)?;
    let database = if database.is_empty() { None } else { Some(database.parse().ok()?) };
    let mut query = query.map_or(Some(Query::default()), Query::parse)?;
    let topology = match kind {
        "" => Topology::Single(node(hosts, REDIS_PORT)?),
        "-cluster" if database.is_none_or(|number: u8| number == 0) => Topology::Cluster(nodes(hosts, REDIS_PORT)?),
        "-sentinel" => Topology::Sentinel {
            nodes: nodes(hosts, SENTINEL_PORT)?,
            service: query.service.take()?,
            username: query.username.take(),
            password: query.password.take(),
        },
        _ => return None,
    };
    // What is left belongs to another kind.
    (query == Query::default()).then_some(Config { topology, tls, username, password, database })
}

/// What only a sentinel needs.
#[derive(Default, PartialEq)]
struct Query {
    service: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
}

impl Query {
    fn parse(text: &str) -> Option<Self> {
        let mut query = Self::default();
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=')?;
            let value = decoded(value).filter(|value| !value.is_empty())?;
            match name {
                "service" => query.service = Some(value),
                "sentinel_username" => query.username = Some(value),
                "sentinel_password" => query.password = Some(Secret::new(value)),
                _ => return None,
            }
        }
        Some(query)
    }
}

fn user_and_password(text: &str) -> Option<(Option<String>, Option<Secret>)> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let given = |text: &str| decoded(text).map(|text| (!text.is_empty()).then_some(text));
    Some((given(user)?, given(password)?.map(Secret::new)))
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned())
}

fn nodes(hosts: &str, default_port: u16) -> Option<Vec<Node>> {
    hosts.split(',').map(|host| node(host, default_port)).collect()
}

/// `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`.
fn node(text: &str, default_port: u16) -> Option<Node> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let sane = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let port = port.map_or(Some(default_port), |port| port.parse().ok().filter(|port| *port > 0))?;
    (!host.is_empty() && host.chars().all(sane)).then(|| Node { host: host.to_owned(), port })
}
