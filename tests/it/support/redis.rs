//! Real Redis servers: one that tests share, and those that a test may kill or stop.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use rag_api::cache::Backend;
use rag_api::config::LoadOptions;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// One server for all tests that leave it as it is; each has names of its own.
pub(crate) static SHARED: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);

/// Runs a program until its own standard input ends, which it does with this process, however that ends.
const KEEPER: &str = r#""$@" >server.log 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null"#;

/// A Redis on a port of its own, with its data in a temporary folder.
pub(crate) struct RedisServer {
    pub(crate) port: u16,
    arguments: Vec<String>,
    dir: TempDir,
    running: Running,
}

struct Running {
    keeper: Child,
    server: Pid,
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
        let server = Self::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
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
        let running = Running::start(&arguments, &dir);
        let server = Self { port, arguments, dir, running };
        server.wait_until_up();
        server
    }

    fn wait_until_up(&self) {
        while self.command(&["PING"]) != "PONG" {
            let log = || std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
            assert!(self.running.is_alive(), "redis-server ended:\n{}", log());
            std::thread::yield_now();
        }
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
        self.running = Running::start(&self.arguments, &self.dir);
        self.wait_until_up();
    }

    /// It hangs: connections stay, and nothing answers.
    pub(crate) fn pause(&self) {
        kill_process(self.running.server, Signal::STOP).expect("it runs");
    }

    pub(crate) fn resume(&self) {
        kill_process(self.running.server, Signal::CONT).expect("it runs");
    }
}

impl Running {
    fn start(arguments: &[String], dir: &TempDir) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper", "redis-server"]).args(arguments).current_dir(dir.path());
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut line = String::new();
        let stdout = keeper.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("a process id");
        let server = line.trim().parse().ok().and_then(Pid::from_raw).expect("a process id");
        Self { keeper, server }
    }

    fn is_alive(&self) -> bool {
        rustix::process::test_kill_process(self.server).is_ok()
    }

    fn end(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port()
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
