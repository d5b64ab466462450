//! `rag-api ingest PATH…`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use rag_api::document::hex;
use rag_api::error::{Error, Result};
use reqwest::{Method, StatusCode, multipart};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::client::{self, Client, ServerArgs};
use super::progress::bar;

/// Files that are uploaded at once.
const UPLOADS: usize = 4;
/// How often the server is asked how far it is.
const POLL: Duration = Duration::from_millis(500);
/// Longest document id that keeps its readable path; a longer one is cut and gets a hash.
const READABLE_ID: usize = 90;

#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    /// Files and folders; hidden ones inside folders are left out
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Who may read the documents besides you: `user:NAME`, `group:NAME` or `public`, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "READERS")]
    readers: Vec<String>,
    /// Metadata of every document, as a JSON object; `path` is added
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// Begins every document id, so that two folders of one name stay apart
    #[arg(long, default_value = "")]
    prefix: String,
    /// Return when everything is uploaded; do not wait until it is indexed
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// A file to upload, and the document that it becomes: the same path is the same document, run after run.
#[derive(Debug, Clone)]
struct Source {
    path: PathBuf,
    relative: String,
    document_id: String,
}

#[derive(Debug)]
enum Uploaded {
    Queued,
    Unchanged,
}

pub(crate) async fn ingest(arguments: IngestArgs) -> Result<ExitCode> {
    let client = Client::new(&arguments.server)?;
    let metadata = metadata(arguments.metadata.as_deref())?;
    let sources = sources(&arguments)?;
    if sources.is_empty() {
        return Err(Error::invalid("/paths", "there are no files at these paths"));
    }
    let bar = bar(sources.len() as u64, "uploading");
    let uploads = sources.iter().map(|source| {
        let (client, metadata, readers, bar) = (&client, &metadata, &arguments.readers, &bar);
        async move {
            bar.set_message(source.relative.clone());
            let outcome = upload(client, source, metadata, readers).await;
            bar.inc(1);
            (source.clone(), outcome)
        }
    });
    let outcomes: Vec<_> = futures::stream::iter(uploads).buffer_unordered(UPLOADS).collect().await;
    bar.finish_and_clear();

    let (mut queued, mut unchanged, mut failed) = (HashMap::new(), 0, Vec::new());
    for (source, outcome) in outcomes {
        match outcome {
            Ok(Uploaded::Queued) => drop(queued.insert(source.document_id, source.relative)),
            Ok(Uploaded::Unchanged) => unchanged += 1,
            Err(error) => failed.push((source.relative, error.chain())),
        }
    }
    let uploaded = queued.len();
    let mut indexed = 0;
    if !arguments.no_wait {
        indexed = wait(&client, queued, &mut failed).await?;
    }
    report(uploaded, unchanged, (!arguments.no_wait).then_some(indexed), failed)
}

fn report(
    uploaded: usize,
    unchanged: usize,
    indexed: Option<usize>,
    mut failed: Vec<(String, String)>,
) -> Result<ExitCode> {
    let indexed = indexed.map(|indexed| format!(", {indexed} indexed")).unwrap_or_default();
    super::say(&format!("{uploaded} uploaded, {unchanged} unchanged{indexed}, {} failed", failed.len()))?;
    failed.sort();
    for (path, why) in &failed {
        super::say(&format!("failed: {path}: {why}"))?;
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every file at the paths, in order of their names.
fn sources(arguments: &IngestArgs) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    for root in &arguments.paths {
        let resolved = root.canonicalize();
        let resolved = resolved.map_err(|error| Error::invalid("/paths", format!("{}: {error}", root.display())))?;
        let base = resolved.parent().unwrap_or(Path::new("/"));
        let visible =
            |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.');
        for entry in WalkDir::new(&resolved).sort_by_file_name().into_iter().filter_entry(visible) {
            let entry = entry.map_err(|error| Error::invalid("/paths", error.to_string()))?;
            if !entry.file_type().is_file() {
                continue;
            }
            let relative = entry.path().strip_prefix(base).unwrap_or(entry.path()).to_string_lossy().into_owned();
            let document_id = document_id(&arguments.prefix, &relative);
            found.push(Source { path: entry.into_path(), relative, document_id });
        }
    }
    Ok(found)
}

/// A readable id from a path: `handbook/a b.md` → `handbook:a_b.md-1c9d0f3a`. What is not kept as it is gets a hash, so
/// that two paths never share an id.
fn document_id(prefix: &str, relative: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let named = format!("{prefix}{relative}");
    let mut id: String = named
        .chars()
        .map(|c| match c {
            '/' => ':',
            c if plain(c) => c,
            _ => '_',
        })
        .take(READABLE_ID)
        .collect();
    if id.replace(':', "/") != named {
        let hash = Sha256::digest(named.as_bytes());
        id.push_str(&format!("-{}", hex(&hash[..4])));
    }
    id
}

fn metadata(text: Option<&str>) -> Result<serde_json::Map<String, serde_json::Value>> {
    match text.map(serde_json::from_str) {
        None => Ok(serde_json::Map::new()),
        Some(Ok(serde_json::Value::Object(fields))) => Ok(fields),
        Some(_) => Err(Error::invalid("/metadata", "--metadata is not a JSON object")),
    }
}

/// Uploads a file, unless the server has these very bytes already.
async fn upload(
    client: &Client,
    source: &Source,
    metadata: &serde_json::Map<String, serde_json::Value>,
    readers: &[String],
) -> Result<Uploaded> {
    let bytes = tokio::fs::read(&source.path).await;
    let bytes = bytes.map_err(|error| Error::invalid("/paths", "the file cannot be read").with_source(error))?;
    let path = format!("/v1/documents/{}", source.document_id);
    let known = client.send(|| Ok(client.request(Method::GET, &path))).await?;
    if known.status().is_success() {
        let document = client::body(known).await?;
        let hash = hex(&Sha256::digest(&bytes));
        // Other readers or metadata are for the server to compare.
        let same_attributes = metadata.is_empty() && readers.is_empty();
        if same_attributes && document["sha256"] == hash.as_str() && document["status"] == "indexed" {
            return Ok(Uploaded::Unchanged);
        }
    } else if known.status() != StatusCode::NOT_FOUND {
        return Err(client::body(known).await.err().unwrap_or_else(|| Error::not_found("document")));
    }
    let mut fields = metadata.clone();
    fields.insert("path".to_owned(), source.relative.clone().into());
    let fields = serde_json::Value::Object(fields).to_string();
    let name = source.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let response = client
        .send(|| {
            let file = multipart::Part::bytes(bytes.clone()).file_name(name.clone());
            let mut form = multipart::Form::new().part("file", file).text("metadata", fields.clone());
            if !readers.is_empty() {
                form = form.text("readers", serde_json::json!(readers).to_string());
            }
            Ok(client.request(Method::PUT, &path).multipart(form))
        })
        .await?;
    let unchanged = response.status() == StatusCode::OK;
    let document = client::body(response).await?;
    // A file that failed before fails again, and is worth saying so again.
    let settled = unchanged && document["status"] == "indexed";
    Ok(if settled { Uploaded::Unchanged } else { Uploaded::Queued })
}

/// Waits until every document is indexed or failed; returns how many are indexed.
async fn wait(
    client: &Client,
    mut queued: HashMap<String, String>,
    failed: &mut Vec<(String, String)>,
) -> Result<usize> {
    let bar = bar(queued.len() as u64, "indexing");
    let mut indexed = 0;
    while !queued.is_empty() {
        let ids: Vec<String> = queued.keys().cloned().collect();
        let states = futures::stream::iter(ids.into_iter().map(|id| async move {
            let path = format!("/v1/documents/{id}");
            let response = client.send(|| Ok(client.request(Method::GET, &path))).await?;
            Ok::<_, Error>((id, client::body(response).await))
        }));
        let states: Vec<_> = states.buffer_unordered(UPLOADS).collect().await;
        for state in states {
            let (id, document) = state?;
            let why = match &document {
                Ok(document) => match document["status"].as_str() {
                    Some("indexed") => None,
                    Some("failed") => Some(reason(&document["error"])),
                    _ => continue,
                },
                Err(error) => Some(error.chain()),
            };
            let path = queued.remove(&id).unwrap_or(id);
            bar.inc(1);
            match why {
                None => indexed += 1,
                Some(why) => failed.push((path, why)),
            }
        }
        if !queued.is_empty() {
            tokio::time::sleep(POLL).await;
        }
    }
    bar.finish_and_clear();
    Ok(indexed)
}

fn reason(error: &serde_json::Value) -> String {
    let part = |name: &str| error[name].as_str().unwrap_or("unknown").to_owned();
    format!("{}: {}", part("reason"), part("detail"))
}
