//! Real Redis servers: one that tests share, and those that a test may kill or stop.

use std::process::Command;
use std::sync::LazyLock;

use rag_api::cache::Backend;
use rag_api::config::LoadOptions;
use tempfile::TempDir;

use super::keeper::{Kept, free_port};

/// One server for all tests that leave it as it is; each has names of its own.
pub(crate) static SHARED: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);

/// A Redis on a port of its own, with its data in a temporary folder.
pub(crate) struct RedisServer {
    pub(crate) port: u16,
    arguments: Vec<String>,
    dir: TempDir,
    running: Kept,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let port = free_port();
        let always = format!("--port {port} --bind 127.0.0.1 --save '' --appendonly no");
        let always = always.split(' ').map(|word| word.trim_matches('\'').to_owned());
        let arguments = always.chain(arguments.iter().map(|argument| (*argument).to_owned())).collect();
        Self::run(port, arguments, tempfile::tempdir().expect("a temporary folder"))
    }

    /// A cluster of one node, which has all slots.
    pub(crate) fn start_cluster() -> Self {
        let bus = free_port().to_string();
        // A node that has met no other does not know its address.
        let address = ["--cluster-announce-ip", "127.0.0.1"];
        let server = Self::start_with(&[&["--cluster-enabled", "yes", "--cluster-port", &bus], &address[..]].concat());
        assert_eq!(server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "OK");
        while !server.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
            std::thread::yield_now();
        }
        server
    }

    /// A sentinel that watches over `primary` as the service `main`.
    pub(crate) fn start_sentinel(primary: &Self) -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
        let watched = primary.port;
        let config = format!("port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {watched} 1\n");
        std::fs::write(dir.path().join("sentinel.conf"), config).expect("a file");
        Self::run(port, vec!["sentinel.conf".to_owned(), "--sentinel".to_owned()], dir)
    }

    fn run(port: u16, arguments: Vec<String>, dir: TempDir) -> Self {
        let running = start(&arguments, &dir);
        let server = Self { port, arguments, dir, running };
        server.wait_until_up();
        server
    }

    fn wait_until_up(&self) {
        self.running.wait_until(self.dir.path(), || self.command(&["PING"]) == "PONG" || self.needs_password());
    }

    fn needs_password(&self) -> bool {
        self.command(&["PING"]).starts_with("NOAUTH")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` prints.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        let out = Command::new("redis-cli").args(["-p", &port]).args(words).output().unwrap_or_else(missing);
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.running.end();
    }

    /// Starts it again, empty, where it was.
    pub(crate) fn restart(&mut self) {
        self.running = start(&self.arguments, &self.dir);
        self.wait_until_up();
    }

    pub(crate) fn pause(&self) {
        self.running.pause();
    }

    pub(crate) fn resume(&self) {
        self.running.resume();
    }
}

fn start(arguments: &[String], dir: &TempDir) -> Kept {
    let command: Vec<&str> = std::iter::once("redis-server").chain(arguments.iter().map(String::as_str)).collect();
    Kept::start(&command, dir.path())
}

fn missing<T>(error: std::io::Error) -> T {
    panic!("redis cannot be run ({error}): run ./deploy/setup servers")
}

/// What the configuration makes of a URL.
pub(crate) fn server(url: &str) -> rag_api::redis::Config {
    let environment = [("HOME", "/nowhere"), ("RAG_REDIS_URL", url)].map(|(name, value)| (name.into(), value.into()));
    let options = LoadOptions { environment: Some(environment.into()), ..LoadOptions::default() };
    match rag_api::config::load(options).expect("a right URL").config.cache.backend {
        Backend::Redis(server) => server,
        backend => panic!("{backend:?}"),
    }
}
