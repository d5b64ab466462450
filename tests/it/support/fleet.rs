//! A fleet on one machine: the servers that replicas share, and replicas, in this process or as processes of their own.

use std::path::PathBuf;

use tempfile::TempDir;

use super::proxy::Proxy;
use super::qdrant_server::{Options, QdrantServer};
use super::redis::RedisServer;
use super::{Server, TestApp, postgres, s3};

/// What the replicas share. It ends with this value.
pub(crate) struct Fleet {
    _redis: RedisServer,
    pub(crate) qdrant: QdrantServer,
    dir: TempDir,
    settings: Vec<(&'static str, String)>,
}

impl Fleet {
    /// An empty database, Redis, bucket and Qdrant.
    pub(crate) async fn start() -> Self {
        let (redis, qdrant) = (RedisServer::start(), QdrantServer::start(Options::default()));
        let mut settings = vec![
            ("RAG_DATABASE_URL", postgres::database().await),
            ("RAG_REDIS_URL", redis.url()),
            ("RAG_STORAGE_URL", format!("s3://{}/rag", s3::SHARED.make_bucket())),
            ("RAG_VECTOR_DB_URL", qdrant.url.clone()),
        ];
        settings.extend(s3::SHARED.environment());
        Self { _redis: redis, qdrant, dir: tempfile::tempdir().expect("a temporary folder"), settings }
    }

    /// Lets a setting's URL lead through a proxy, for replicas that start from now on.
    pub(crate) async fn lead_through_a_proxy(&mut self, setting: &str) -> Proxy {
        let setting = if setting == "RAG_STORAGE_URL" { "AWS_ENDPOINT_URL" } else { setting };
        let (_, value) = self.settings.iter_mut().find(|(name, _)| *name == setting).expect("a shared setting");
        let mut url: reqwest::Url = value.parse().expect("a URL");
        let proxy = Proxy::start(url.port().expect("a port")).await;
        url.set_port(Some(proxy.port)).expect("a URL with a host");
        *value = url.to_string();
        proxy
    }

    fn settings<'a>(&'a self, changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let shared = self.settings.iter().map(|(name, value)| (*name, value.as_str()));
        shared.chain(changes.iter().copied()).collect()
    }

    /// A replica in this process.
    pub(crate) async fn app(&self, changes: &[(&str, &str)]) -> TestApp {
        TestApp::start_with(&self.settings(changes)).await
    }

    /// A replica as a process of its own, with a folder of its own.
    pub(crate) async fn replica(&self, name: &str, changes: &[(&str, &str)]) -> Server {
        Server::start(&self.folder(name), &self.settings(changes)).await
    }

    /// A process that works and does not serve, on one core.
    #[allow(dead_code, reason = "for the benchmark")]
    pub(crate) async fn pinned_worker(&self, name: &str, core: usize) -> Server {
        let core = core.to_string();
        Server::start_worker_by(&["taskset", "-c", &core], &self.folder(name), &self.settings(&[])).await
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }
}
