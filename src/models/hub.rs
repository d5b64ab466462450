//! Fetches a model from a hub, once, into the cache.
//!
//! This speaks the four headers of the hub's protocol that matter with `reqwest`, which is here anyway; the `hf-hub`
//! crate 1.0 would bring 304 crates for the same files.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Client, Response, StatusCode, Url};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::files::{GRAPHS, POOLING, REQUIRED, SENTENCE_CONFIG};
use super::{Config, ModelFiles};
use crate::error::{Error, Result};
use crate::remote::block_on;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence within a transfer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a whole model; 100 MB at 1 Mbit/s.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// The hub redirects to its store, the store perhaps to a mirror.
const MAX_REDIRECTS: usize = 5;
/// Largest file that is fetched: graphs above 2 GB keep their weights in other files, which are not read here.
const MAX_FILE_BYTES: u64 = 2 << 30;
/// A file of at least this size says in the log how far it is.
const PROGRESS_BYTES: u64 = 16 << 20;

const PARTIAL_PREFIX: &str = ".partial-";
/// A fetch that was killed leaves its folder; no fetch that lives is this old.
const PARTIAL_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The files of `name`, from the cache, or else from the hub. Blocks while it fetches.
pub(super) fn fetch_once(config: &Config, name: &str) -> Result<ModelFiles> {
    let hub_dir = config.cache.join("hub");
    let dir = hub_dir.join(name.replace('/', "--"));
    // A folder appears here by one rename, with all its files, so what is there is whole.
    if dir.is_dir() {
        return ModelFiles::in_dir(&dir)
            .map_err(|missing| Error::config(format!("{missing} in {}: remove that folder", dir.display())));
    }
    std::fs::create_dir_all(&hub_dir).map_err(|error| cannot_write(&hub_dir, error))?;
    remove_old_partials(&hub_dir);
    let partial = tempfile::Builder::new()
        .prefix(PARTIAL_PREFIX)
        .tempdir_in(&hub_dir)
        .map_err(|error| cannot_write(&hub_dir, error))?;

    tracing::info!(model = name, hub = config.hub, "fetching model");
    let started = Instant::now();
    block_on(fetch_all(&config.hub, name, partial.path()))?;
    ModelFiles::in_dir(partial.path()).map_err(|missing| failed(name, &missing))?;
    if let Err(error) = std::fs::rename(partial.path(), &dir) {
        // Another process may have been faster; its files are as good.
        return ModelFiles::in_dir(&dir).map_err(|_| cannot_write(&dir, error));
    }
    tracing::info!(model = name, seconds = started.elapsed().as_secs_f64(), "fetched model");
    ModelFiles::in_dir(&dir).map_err(|missing| failed(name, &missing))
}

async fn fetch_all(hub: &str, name: &str, target: &Path) -> Result<()> {
    let deadline = tokio::time::Instant::now() + TOTAL_TIMEOUT;
    let fetch = Fetch { client: client()?, hub, name, target };
    let all = async {
        for file in REQUIRED {
            if !fetch.file(file).await? {
                return Err(failed(name, &format!("the hub has no {file}")));
            }
        }
        for file in [SENTENCE_CONFIG, POOLING] {
            fetch.file(file).await?;
        }
        // The hub keeps exported graphs in their own folder; a mirror of a plain folder does not.
        for file in GRAPHS.iter().rev() {
            if fetch.file(file).await? {
                return Ok(());
            }
        }
        Err(failed(name, "the hub has no ONNX graph for it"))
    };
    tokio::time::timeout_at(deadline, all)
        .await
        .map_err(|_| failed(name, &format!("it took longer than {} s", TOTAL_TIMEOUT.as_secs())))?
}

fn client() -> Result<Client> {
    // Installed by `main` already, save in tests; the first one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        // Redirects are followed by hand: size and checksum are in the headers of the first answer.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("rag-api/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Error::config("cannot make an HTTP client").with_source(error))
}

struct Fetch<'a> {
    client: Client,
    hub: &'a str,
    name: &'a str,
    target: &'a Path,
}

/// What the hub promises about a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Promise {
    bytes: Option<u64>,
    sha256: Option<String>,
}

impl Promise {
    /// Adds what an answer says. Large files are stored elsewhere: the hub's own answer is a redirect, with their size
    /// and SHA-256 in headers of its own; the etags of small files are not SHA-256 and say nothing here.
    fn read(&mut self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(bytes) = text("x-linked-size").and_then(|text| text.parse().ok()) {
            self.bytes = Some(bytes);
        }
        let etag = text("x-linked-etag").map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_lowercase());
        if let Some(etag) = etag.filter(|etag| etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit())) {
            self.sha256 = Some(etag);
        }
    }
}

impl Fetch<'_> {
    /// Fetches one file; whether the hub has it.
    async fn file(&self, file: &str) -> Result<bool> {
        let path = self.target.join(file);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| cannot_write(parent, error))?;
        }
        let Some((response, promise)) = self.get(file).await? else {
            return Ok(false);
        };
        self.save(file, response, promise, &path).await?;
        Ok(true)
    }

    /// The final answer for a file after redirects; `None`: there is no such file.
    async fn get(&self, file: &str) -> Result<Option<(Response, Promise)>> {
        let url = format!("{}/{}/resolve/main/{file}", self.hub.trim_end_matches('/'), self.name);
        let mut url = Url::parse(&url).map_err(|error| failed(self.name, &format!("{url}: {error}")))?;
        let mut promise = Promise::default();
        for _ in 0..=MAX_REDIRECTS {
            let sent = self.client.get(url.clone()).send().await;
            let response =
                sent.map_err(|error| failed(self.name, "the hub does not answer").with_source(error.without_url()))?;
            promise.read(response.headers());
            match response.status() {
                StatusCode::OK => {
                    promise.bytes = promise.bytes.or(response.content_length());
                    return Ok(Some((response, promise)));
                }
                StatusCode::NOT_FOUND => return Ok(None),
                status if status.is_redirection() => {
                    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                    let next = location.and_then(|location| url.join(location).ok());
                    url = next.ok_or_else(|| failed(self.name, "the hub redirects to nowhere"))?;
                }
                // The hub hides what does not exist, and what needs an account, behind the same status.
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(failed(self.name, "the hub does not give it to us, or does not know it"));
                }
                status => return Err(failed(self.name, &format!("the hub answers {status} for {file}"))),
            }
        }
        Err(failed(self.name, "the hub redirects in circles"))
    }

    /// Writes a body to `path` and checks it against what was promised.
    async fn save(&self, file: &str, response: Response, promise: Promise, path: &Path) -> Result<()> {
        let mut output = tokio::fs::File::create(path).await.map_err(|error| cannot_write(path, error))?;
        let mut hash = Sha256::new();
        let (mut received, mut reported) = (0_u64, 0_u64);
        let mut body = response.bytes_stream();
        while let Some(bytes) = body.next().await {
            let bytes = bytes
                .map_err(|error| failed(self.name, &format!("{file} broke off")).with_source(error.without_url()))?;
            received += bytes.len() as u64;
            if received > promise.bytes.unwrap_or(MAX_FILE_BYTES).min(MAX_FILE_BYTES) {
                return Err(failed(self.name, &format!("{file} is larger than {received} bytes")));
            }
            hash.update(&bytes);
            output.write_all(&bytes).await.map_err(|error| cannot_write(path, error))?;
            if received - reported >= PROGRESS_BYTES {
                reported = received;
                tracing::info!(model = self.name, file, received, of = promise.bytes, "fetching model");
            }
        }
        // (An error's address is left out: a store's carries a signature.)
        output.flush().await.map_err(|error| cannot_write(path, error))?;
        output.sync_all().await.map_err(|error| cannot_write(path, error))?;

        if promise.bytes.is_some_and(|bytes| bytes != received) {
            return Err(failed(self.name, &format!("{file} ended after {received} bytes")));
        }
        let sha256 = crate::document::hex(&hash.finalize());
        if promise.sha256.is_some_and(|promised| promised != sha256) {
            return Err(failed(self.name, &format!("{file} does not have the SHA-256 that the hub states")));
        }
        Ok(())
    }
}

fn failed(name: &str, why: &str) -> Error {
    Error::config(format!("cannot fetch model {name}: {why} (without a hub, set path:DIR)"))
}

fn cannot_write(path: &Path, error: std::io::Error) -> Error {
    Error::config(format!("cannot write {} ({error})", path.display())).with_source(error)
}

/// Removes what killed fetches left. Best effort: what cannot be removed costs disk and nothing else.
fn remove_old_partials(hub_dir: &Path) {
    let is_old = |path: &PathBuf| {
        let is_partial = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL_PREFIX));
        let modified = path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        is_partial && modified.elapsed().is_ok_and(|age| age > PARTIAL_MAX_AGE)
    };
    let entries = std::fs::read_dir(hub_dir).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(is_old) {
        let _ = std::fs::remove_dir_all(path);
    }
}
