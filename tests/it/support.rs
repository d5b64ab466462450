//! What the tests share: the product, started in this process on a free port, or as the real binary.

#[cfg(feature = "edge")]
pub(crate) mod balancer;
#[cfg(feature = "edge")]
pub(crate) mod fleet;
pub(crate) mod held;
pub(crate) mod keeper;
pub(crate) mod llm_server;
pub(crate) mod logbook;
pub(crate) mod model_server;
pub(crate) mod postgres;
#[cfg(feature = "edge")]
pub(crate) mod proxy;
#[cfg(feature = "edge")]
pub(crate) mod qdrant_server;
pub(crate) mod redis;
pub(crate) mod s3;

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rag_api::app::{App, Listeners};
use rag_api::catalog::Publication;
use rag_api::config::{Config, LoadOptions};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The key that every test server takes from the first start.
pub(crate) const ADMIN_KEY: &str = "test-admin-key-0123456789abcdef";

/// Longest wait for anything that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Hits that tests of this process have the second access check drop on purpose.
pub(crate) static PROVOKED_DROPS: AtomicU64 = AtomicU64::new(0);

/// Where set-up keeps what it fetches.
#[allow(clippy::disallowed_methods, reason = "tests find their tools by the environment")]
pub(crate) fn cache_dir() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map(|home| PathBuf::from(home).join("rag-api"))
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/rag-api")))
        .expect("HOME is set")
}

/// The models cache that `deploy/test` fills. Fails with the command that does so.
#[allow(clippy::disallowed_methods, reason = "tests find their models by the environment")]
pub(crate) fn models_dir() -> PathBuf {
    let dir = std::env::var_os("RAG_MODELS_DIR").map_or_else(cache_dir, PathBuf::from);
    assert!(
        dir.join("all-MiniLM-L6-v2/model.onnx").is_file(),
        "no models in {}: run ./deploy/setup models",
        dir.display()
    );
    dir
}

/// The settings of a test server whose data is in `dir`: no limits that a test would run into, a free port.
pub(crate) fn settings(dir: &Path) -> Vec<(String, String)> {
    let path = |name: &str| dir.join(name).display().to_string();
    [
        ("RAG_LISTEN", "127.0.0.1:0".to_owned()),
        ("RAG_MODELS_DIR", models_dir().display().to_string()),
        ("RAG_VECTOR_DB_URL", format!("edge:{}", path("vectors"))),
        ("RAG_DATABASE_URL", format!("sqlite:{}", path("catalog.db"))),
        ("RAG_STORAGE_URL", format!("file:{}", path("originals"))),
        ("RAG_ADMIN_API_KEY", ADMIN_KEY.to_owned()),
        ("RAG_RATE_LIMIT_REQUESTS", "1000000".to_owned()),
        ("RAG_INGEST_RATE_LIMIT_REQUESTS", "1000000".to_owned()),
        ("RAG_ADDRESS_RATE_LIMIT", "0".to_owned()),
        ("RAG_DRAIN_DELAY_SECONDS", "0".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// The configuration of [`settings`], with changes.
pub(crate) fn config(dir: &Path, changes: &[(&str, &str)]) -> Config {
    let mut environment = settings(dir);
    environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let options = LoadOptions { environment: Some(environment), ..LoadOptions::default() };
    let mut config = rag_api::config::load(options).expect("the test configuration is right").config;
    config.ingest.extract_program = Some(binary());
    config
}

/// The real binary.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_rag-api"))
}

/// The product in this process.
pub(crate) struct TestApp {
    pub(crate) base: String,
    pub(crate) admin_key: String,
    pub(crate) client: reqwest::Client,
    dir: Option<TempDir>,
    stop: CancellationToken,
    running: Option<JoinHandle<rag_api::error::Result<()>>>,
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts with changed settings.
    pub(crate) async fn start_with(changes: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self::start_in(dir, changes).await
    }

    /// Starts on the data of a folder.
    pub(crate) async fn start_in(dir: TempDir, changes: &[(&str, &str)]) -> Self {
        install_tls();
        let config = config(dir.path(), changes);
        let api = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", api.local_addr().expect("an address"));
        let app = App::build(config).await.unwrap_or_else(|error| panic!("the app is built: {}", error.chain()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(app.run(Listeners { api, metrics: None }, stop.clone()));
        let client = reqwest::Client::new();
        let app = Self { base, admin_key: ADMIN_KEY.to_owned(), client, dir: Some(dir), stop, running: Some(running) };
        eventually("ready", || async {
            app.client.get(app.url("/ready")).send().await.is_ok_and(|r| r.status() == 200)
        })
        .await;
        app
    }

    /// Stops as SIGTERM does, and gives the data back.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.stop.cancel();
        let running = self.running.take().expect("it runs");
        running.await.expect("no panic").expect("a clean stop");
        self.dir.take().expect("the data")
    }

    /// Tells the app to stop, as SIGTERM does; it still drains.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Where its data is.
    pub(crate) fn data(&self) -> &Path {
        self.dir.as_ref().expect("it runs").path()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn request(&self, key: &str, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path)).header("x-api-key", key)
    }

    /// A request with a JSON body; its status and its body.
    pub(crate) async fn send(&self, key: &str, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self.request(key, method, path);
        let request = if body.is_null() { request } else { request.json(body) };
        let response = request.send().await.expect("a response");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, key: &str, path: &str) -> (u16, Value) {
        self.send(key, Method::GET, path, &Value::Null).await
    }

    pub(crate) async fn post(&self, key: &str, path: &str, body: &Value) -> (u16, Value) {
        self.send(key, Method::POST, path, body).await
    }

    /// A key of tenant `default`.
    pub(crate) async fn create_key(&self, user: &str, groups: &[&str], scopes: &[&str]) -> String {
        self.create_key_in("default", user, groups, scopes).await
    }

    pub(crate) async fn create_key_in(&self, tenant: &str, user: &str, groups: &[&str], scopes: &[&str]) -> String {
        let body = json!({ "tenant": tenant, "user": user, "groups": groups, "scopes": scopes });
        let (status, key) = self.post(&self.admin_key, "/v1/keys", &body).await;
        assert_eq!(status, 201, "{key}");
        key["key"].as_str().expect("the secret").to_owned()
    }

    /// Uploads a document and waits until it is indexed; its id.
    pub(crate) async fn index(&self, key: &str, document: &Value) -> String {
        let (status, submitted) = self.post(key, "/v1/documents", document).await;
        assert_eq!(status, 202, "{submitted}");
        let id = submitted["document_id"].as_str().expect("an id").to_owned();
        let record = self.settled(key, &id).await;
        assert_eq!(record["status"], "indexed", "{record}");
        id
    }

    /// Waits until a document is indexed or failed; its state.
    pub(crate) async fn settled(&self, key: &str, id: &str) -> Value {
        let path = format!("/v1/documents/{id}");
        eventually(id, || async { self.get(key, &path).await.1["status"] != "processing" }).await;
        let (status, record) = self.get(key, &path).await;
        assert_eq!(status, 200, "{record}");
        record
    }

    pub(crate) async fn metrics(&self) -> String {
        let response = self.client.get(self.url("/metrics")).send().await.expect("metrics");
        response.text().await.expect("text")
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The product as a process of its own.
pub(crate) struct Server {
    pub(crate) base: String,
    child: tokio::process::Child,
}

impl Server {
    /// Starts `rag-api serve` on the data of `dir` and waits until it is ready.
    pub(crate) async fn start(dir: &Path, changes: &[(&str, &str)]) -> Self {
        Self::run(&[], "serve", dir, changes).await
    }

    /// Starts `rag-api worker` with its listener for probes, and waits until it is ready.
    pub(crate) async fn start_worker(dir: &Path) -> Self {
        Self::start_worker_by(&[], dir, &[]).await
    }

    /// The same, with changed settings, started by another program, such as `taskset`.
    pub(crate) async fn start_worker_by(starter: &[&str], dir: &Path, changes: &[(&str, &str)]) -> Self {
        let listen = [("RAG_METRICS_LISTEN", "127.0.0.1:0")];
        Self::run(starter, "worker", dir, &[&listen[..], changes].concat()).await
    }

    async fn run(starter: &[&str], subcommand: &str, dir: &Path, changes: &[(&str, &str)]) -> Self {
        install_tls();
        let program = binary().display().to_string();
        let words = [starter, &[&program, subcommand]].concat();
        let mut command = tokio::process::Command::new(words[0]);
        command.args(&words[1..]).env_clear().envs(settings(dir)).envs(changes.iter().copied());
        command.env("RAG_LOG_FORMAT", "json").current_dir(dir).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = child.stderr.take().expect("stderr");
        let stdout = child.stdout.take().expect("stdout");
        let (send, receive) = tokio::sync::oneshot::channel();
        tokio::spawn(listen_address(stderr, send));
        tokio::spawn(drain(stdout));
        let address = tokio::time::timeout(PATIENCE, receive).await.expect("it starts in time").expect("it listens");
        let server = Self { base: format!("http://{address}"), child };
        eventually("ready", || async {
            reqwest::get(format!("{}/ready", server.base)).await.is_ok_and(|r| r.status() == 200)
        })
        .await;
        server
    }

    pub(crate) fn pid(&self) -> Pid {
        self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).expect("it runs")
    }

    /// SIGTERM, and waits until it has ended; how it did.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).expect("it is told");
        self.child.wait().await.expect("its status")
    }

    /// SIGSTOP: it hangs, and its connections stay. SIGCONT: it goes on.
    #[cfg_attr(not(feature = "edge"), expect(dead_code, reason = "for tests that need the vector store"))]
    pub(crate) fn pause(&self, pause: bool) {
        kill_process(self.pid(), if pause { Signal::STOP } else { Signal::CONT }).expect("it is told");
    }

    /// SIGKILL, and waits until it is dead; how it ended.
    pub(crate) async fn kill(mut self) -> ExitStatus {
        // One that has ended by itself cannot be killed: its status says how it did.
        let _ = self.child.start_kill();
        self.child.wait().await.expect("its status")
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> reqwest::Result<(u16, Value)> {
        let request = reqwest::Client::new().request(method, format!("{}{path}", self.base));
        let request = request.header("x-api-key", ADMIN_KEY);
        let request = if body.is_null() { request } else { request.json(body) };
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or(Value::Null)))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, &Value::Null).await.expect("a response")
    }
}

/// Reads the log until it says where the server listens, then on to its end so that the server never blocks.
async fn listen_address(log: impl tokio::io::AsyncRead + Unpin, found: tokio::sync::oneshot::Sender<String>) {
    let mut lines = BufReader::new(log).lines();
    let mut found = Some(found);
    let mut seen = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if found.is_none() {
            continue;
        }
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        let address = event["address"].as_str().or(event["fields"]["address"].as_str());
        match (address, found.take()) {
            (Some(address), Some(found)) => drop(found.send(address.to_owned())),
            (_, unsent) => found = unsent,
        }
        seen.push_str(&line);
        seen.push('\n');
    }
    assert!(found.is_none(), "the server ended before it listened:\n{seen}");
}

async fn drain(out: impl tokio::io::AsyncRead + Unpin) {
    let mut lines = BufReader::new(out).lines();
    while let Ok(Some(_)) = lines.next_line().await {}
}

/// Waits until a condition holds; fails when patience ends.
pub(crate) async fn eventually<F, Fut>(what: &str, condition: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = bool>,
{
    let mut ticks = tokio::time::interval(Duration::from_millis(25));
    let waiting = async {
        while !condition().await {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited in vain: {what}");
}

/// reqwest is built without a TLS provider of its own.
pub(crate) fn install_tls() {
    // A second installation is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A version that is ready to be served.
pub(crate) fn publication(version: u64, chunks: u32, access_version: u64) -> Publication {
    Publication { version, chunks, access_version, title: String::new() }
}
