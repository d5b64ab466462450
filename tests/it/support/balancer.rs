//! A real load balancer, HAProxy, over replicas on this machine.

use std::net::TcpStream;

use tempfile::TempDir;

use super::keeper::{Kept, free_port};

/// What `deploy/compose` runs.
const SHIPPED: &str = include_str!("../../../deploy/compose/haproxy.cfg");

/// The shipped configuration on this machine: another port to listen on, replicas by address and not by Docker's names.
fn config(port: u16, replicas: &[u16]) -> String {
    let (mut config, mut resolvers) = (String::new(), false);
    for line in SHIPPED.lines() {
        // A section begins at the margin.
        if line.starts_with(char::is_alphabetic) {
            resolvers = line.starts_with("resolvers ");
        }
        if !resolvers && !line.trim_start().starts_with("server-template ") {
            config.push_str(line);
            config.push('\n');
        }
    }
    for (shipped, here) in
        [("bind :8000", format!("bind 127.0.0.1:{port}")), (" resolvers docker init-addr none", String::new())]
    {
        assert!(config.contains(shipped), "{shipped:?} is not in the shipped configuration");
        config = config.replace(shipped, &here);
    }
    for (n, replica) in replicas.iter().enumerate() {
        config.push_str(&format!("    server replica{n} 127.0.0.1:{replica}\n"));
    }
    config
}

/// A running balancer. It ends with this value.
pub(crate) struct Balancer {
    /// `HOST:PORT`.
    pub(crate) address: String,
    _running: Kept,
    _dir: TempDir,
}

impl Balancer {
    /// Starts it over replicas at these ports.
    pub(crate) fn start(ports: &[u16]) -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
        std::fs::write(dir.path().join("haproxy.cfg"), config(port, ports)).expect("a file");
        let running = Kept::start(&[&program(), "-db", "-f", "haproxy.cfg"], dir.path());
        running.wait_until(dir.path(), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { address: format!("127.0.0.1:{port}"), _running: running, _dir: dir }
    }
}

/// Debian puts it where only root's path leads.
fn program() -> String {
    let known = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "/usr/bin/haproxy", "/usr/local/bin/haproxy"];
    let found = known.into_iter().find(|path| std::path::Path::new(path).is_file());
    found.expect("no haproxy: run ./deploy/setup servers").to_owned()
}
