//! The limit per client address, before any key is looked at, and what a client's address is.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request};
use axum::response::{IntoResponse, Response};
use governor::middleware::NoOpMiddleware;
use ipnet::IpNet;
use tower_governor::governor::{GovernorConfig, GovernorConfigBuilder};
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

use crate::error::{Error, ErrorKind, Result};
use crate::http::Config;
use crate::http::problem::Refusal;
use crate::limit::Decision;
use crate::telemetry::metrics;

/// The limit of every client address.
#[derive(Debug, Clone)]
pub(super) struct AddressLimit {
    governor: Arc<GovernorConfig<ClientAddress, NoOpMiddleware>>,
    burst: u32,
}

/// The layer that applies an [`AddressLimit`].
pub(super) type AddressLayer = GovernorLayer<ClientAddress, NoOpMiddleware, Body>;

impl AddressLimit {
    /// The configured limit; `None` if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a trusted proxy is not an address or a network.
    pub(super) fn new(config: &Config) -> Result<Option<Self>> {
        let address = ClientAddress::new(&config.trusted_proxies)?;
        let Some(rate) = NonZeroU32::new(config.address_rate) else { return Ok(None) };
        let burst = config.address_burst.max(1);
        let governor = GovernorConfigBuilder::default()
            .period(Duration::from_secs(1) / rate.get())
            .burst_size(burst)
            .key_extractor(address)
            .finish()
            .ok_or_else(|| Error::config("the limit per client address must be above zero"))?;
        Ok(Some(Self { governor: Arc::new(governor), burst }))
    }

    /// The layer; all layers count together.
    pub(super) fn layer(&self) -> AddressLayer {
        let burst = self.burst;
        GovernorLayer::new(Arc::clone(&self.governor)).error_handler(move |error| refuse(error, burst))
    }

    /// Forgets addresses that have their whole burst again. Without it, every address ever seen stays in memory.
    pub(super) fn forget_idle(&self) {
        let limiter = self.governor.limiter();
        limiter.retain_recent();
        limiter.shrink_to_fit();
    }
}

fn refuse(error: GovernorError, burst: u32) -> Response {
    let refusal = match error {
        GovernorError::TooManyRequests { wait_time, .. } => {
            metrics::RATE_LIMITED.add(1, &[("whose", "address")]);
            // The governor rounds down.
            let wait = Duration::from_secs(wait_time + 1);
            let decision = Decision { allowed: false, limit: burst, remaining: 0, reset: wait, retry_after: wait };
            Refusal::RateLimited(decision)
        }
        GovernorError::UnableToExtractKey | GovernorError::Other { .. } => {
            Error::new(ErrorKind::Internal, "the client's address is not known").into()
        }
    };
    refusal.into_response()
}

/// Finds a client's address: the peer, or who the trusted proxies say it is.
#[derive(Debug, Clone)]
pub(super) struct ClientAddress {
    trusted: Arc<[IpNet]>,
}

impl ClientAddress {
    fn new(trusted_proxies: &[String]) -> Result<Self> {
        let parse = |text: &String| {
            let network = text.parse::<IpNet>();
            network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                Error::config(format!("trusted proxy `{text}` is neither an address nor a network such as 10.0.0.0/8"))
            })
        };
        Ok(Self { trusted: trusted_proxies.iter().map(parse).collect::<Result<_>>()? })
    }

    fn is_trusted(&self, address: &IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Each proxy appends whom it was called by. So from the right: the first address that is not a trusted proxy's is
    /// the client; what stands to the left of it, the client may have invented.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let forwarded = headers.get_all("x-forwarded-for");
        let mut hops = forwarded.iter().rev().flat_map(|value| value.to_str().unwrap_or("").rsplit(','));
        while self.is_trusted(&client) {
            match hops.next().and_then(|hop| hop_address(hop.trim())) {
                Some(address) => client = address.to_canonical(),
                None => break,
            }
        }
        client
    }
}

impl KeyExtractor for ClientAddress {
    type Key = IpAddr;

    fn extract<T>(&self, request: &Request<T>) -> Result<IpAddr, GovernorError> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.ok_or(GovernorError::UnableToExtractKey)?.0.ip();
        Ok(bucket(self.client(peer, request.headers())))
    }
}

/// An address of `X-Forwarded-For`; some proxies append the port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Who shares a bucket: an IPv4 address, or an IPv6 /64, of which every client has a whole one.
fn bucket(address: IpAddr) -> IpAddr {
    const HOST: u128 = u64::MAX as u128;
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !HOST)),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn key(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let trusted: Vec<String> = trusted.iter().map(|text| (*text).to_owned()).collect();
        let mut request = Request::new(());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        for value in forwarded {
            request.headers_mut().append("x-forwarded-for", HeaderValue::from_str(value).unwrap());
        }
        ClientAddress::new(&trusted).unwrap().extract(&request).unwrap().to_string()
    }

    #[test]
    fn the_header_of_a_stranger_is_ignored() {
        assert_eq!(key(&[], "203.0.113.7", &["1.2.3.4"]), "203.0.113.7");
        assert_eq!(key(&["10.0.0.0/8"], "203.0.113.7", &["1.2.3.4"]), "203.0.113.7");
    }

    #[test]
    fn the_right_most_untrusted_hop_is_the_client() {
        let proxies = ["10.0.0.0/8", "192.0.2.1"];
        assert_eq!(key(&proxies, "10.0.0.1", &["1.1.1.1, 198.51.100.9"]), "198.51.100.9");
        assert_eq!(key(&proxies, "10.0.0.1", &["1.1.1.1, 198.51.100.9, 192.0.2.1, 10.9.9.9"]), "198.51.100.9");
        assert_eq!(key(&proxies, "10.0.0.1", &["1.1.1.1", "198.51.100.9, 10.9.9.9"]), "198.51.100.9");
        assert_eq!(key(&proxies, "10.0.0.1", &["198.51.100.9:4711"]), "198.51.100.9");
        assert_eq!(key(&proxies, "::ffff:10.0.0.1", &["198.51.100.9"]), "198.51.100.9");
    }

    #[test]
    fn nonsense_stops_at_the_last_known_hop() {
        assert_eq!(key(&["10.0.0.0/8"], "10.0.0.1", &["198.51.100.9, unknown"]), "10.0.0.1");
        assert_eq!(key(&["10.0.0.0/8"], "10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(key(&["10.0.0.0/8"], "10.0.0.1", &["10.0.0.2, 10.0.0.3"]), "10.0.0.2");
    }

    #[test]
    fn ipv6_clients_share_a_bucket_by_64() {
        let first = key(&[], "2001:db8:1:2:aaaa::1", &[]);
        assert_eq!(first, "2001:db8:1:2::");
        assert_eq!(first, key(&["::1"], "::1", &["[2001:db8:1:2:bbbb::2]:443"]));
        assert_ne!(first, key(&[], "2001:db8:1:3::1", &[]));
    }

    #[test]
    fn a_wrong_proxy_stops_the_start() {
        let error = ClientAddress::new(&["10.0.0.0/33".to_owned()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("10.0.0.0/33"));
    }
}
