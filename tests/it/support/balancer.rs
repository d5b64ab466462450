//! A real load balancer, HAProxy, over replicas on this machine.

use std::net::TcpStream;

use tempfile::TempDir;

use super::keeper::{Kept, free_port};

/// How it asks the replicas whether they are ready, and what it does with one that is not: as `deploy/compose` has it, but
/// for the pace of the checks.
const CONFIG: &str = "
global
    maxconn 1000
defaults
    mode http
    option redispatch
    retries 2
    retry-on conn-failure
    timeout connect 2s
    timeout client 60s
    timeout server 60s
frontend api
    bind 127.0.0.1:PORT
    default_backend replicas
backend replicas
    balance leastconn
    option httpchk GET /ready
    http-check expect status 200
    default-server check inter 100ms fall 2 rise 1
";

/// A running balancer. It ends with this value.
pub(crate) struct Balancer {
    pub(crate) base: String,
    _running: Kept,
    _dir: TempDir,
}

impl Balancer {
    /// Starts it over replicas at these ports.
    pub(crate) fn start(ports: &[u16]) -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
        let mut config = CONFIG.replace("PORT", &port.to_string());
        for (n, replica) in ports.iter().enumerate() {
            config.push_str(&format!("    server replica{n} 127.0.0.1:{replica}\n"));
        }
        std::fs::write(dir.path().join("haproxy.cfg"), config).expect("a file");
        let running = Kept::start(&[&program(), "-db", "-f", "haproxy.cfg"], dir.path());
        running.wait_until(dir.path(), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { base: format!("http://127.0.0.1:{port}"), _running: running, _dir: dir }
    }
}

/// Debian puts it where only root's path leads.
fn program() -> String {
    let known = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "/usr/bin/haproxy", "/usr/local/bin/haproxy"];
    let found = known.into_iter().find(|path| std::path::Path::new(path).is_file());
    found.expect("no haproxy: run ./deploy/setup servers").to_owned()
}
