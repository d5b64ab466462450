//! Which backend runs, by the form of its URL or name.

use std::path::PathBuf;

use super::Secret;
use super::layers::variable_name;
use super::sections::list;
use super::settings::Settings;
use super::{aws, redis_url};
use crate::error::Result;
use crate::models::ModelSource;
use crate::vector_store::{COLLECTION_NAME, is_collection_name};
use crate::{blob, cache, catalog, embedding, limit, llm, rerank, vector_store};

/// A kind of servers: the vendor's own, which is known to need a key, and the settings that name another.
struct Vendor {
    host: &'static str,
    base_url: &'static str,
    api_key: &'static str,
}

const OPENAI: Vendor =
    Vendor { host: "https://api.openai.com/", base_url: "openai_base_url", api_key: "openai_api_key" };
const COHERE: Vendor =
    Vendor { host: "https://api.cohere.com/", base_url: "cohere_base_url", api_key: "cohere_api_key" };
/// OpenAI's embedding models, by the names they are known by.
const OPENAI_EMBEDDINGS: [&str; 3] = ["text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"];
/// Most sessions of a model.
const MAX_SESSIONS: usize = 1024;

/// An `http(s)` URL, without a slash at its end.
pub(super) fn http_url(settings: &Settings, name: &str) -> Result<String> {
    let expected = "a URL, https://… or http://…";
    let url = settings.text(name, expected)?;
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match host {
        Some(host) if !host.starts_with('/') && !host.trim_matches('/').is_empty() && !host.contains(' ') => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        _ => Err(settings.unexpected(name, expected)),
    }
}

/// Where a vendor's models are, and the key for it.
struct Server {
    vendor: &'static Vendor,
    base_url: String,
    api_key: Option<Secret>,
}

impl Server {
    fn of(settings: &Settings, vendor: &'static Vendor) -> Result<Self> {
        let base_url = http_url(settings, vendor.base_url)?;
        Ok(Self { vendor, base_url, api_key: settings.secret(vendor.api_key)? })
    }

    /// Refuses a key that is missing for `models`.
    fn check_key(&self, settings: &Settings, models: &str) -> Result<()> {
        let Self { vendor, base_url, api_key } = self;
        if api_key.is_some() || !format!("{base_url}/").starts_with(vendor.host) {
            return Ok(());
        }
        let another = variable_name(vendor.base_url);
        Err(settings
            .error(vendor.api_key, format!("must be set for {models} at {base_url}; another server is {another}")))
    }
}

/// A name as servers have them.
fn is_api_model(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::is_whitespace)
}

pub(super) fn embedding(settings: &Settings) -> Result<embedding::Config> {
    let name = "embedding_model";
    let expected =
        "path:DIR, hub:NAME, openai:NAME, or the name of a folder in the models cache, such as all-MiniLM-L6-v2";
    // Read even where they are not needed: a wrong value is wrong before it matters.
    let sessions = settings.number("embedding_sessions", 0..=MAX_SESSIONS)?;
    let server = Server::of(settings, &OPENAI)?;
    let text = settings.text(name, expected)?;
    match text.strip_prefix("openai:").or(OPENAI_EMBEDDINGS.contains(&text).then_some(text)) {
        Some(model) if is_api_model(model) => {
            server.check_key(settings, text)?;
            let Server { base_url, api_key, .. } = server;
            Ok(embedding::Config::OpenAi(embedding::openai::Config { model: model.to_owned(), base_url, api_key }))
        }
        Some(_) => Err(settings.unexpected(name, expected)),
        None => Ok(embedding::Config::Local { model: settings.parse(name, expected)?, sessions }),
    }
}

pub(super) fn rerank(settings: &Settings) -> Result<rerank::Config> {
    let name = "reranker_model";
    let expected = "late-interaction, none, path:DIR, hub:NAME or OWNER/NAME, or cohere:NAME";
    // Read even where they are not needed: a wrong value is wrong before it matters.
    let sessions = settings.number("reranker_sessions", 0..=MAX_SESSIONS)?;
    let cache_bytes = settings.number("late_interaction_cache_bytes", 0..=u64::MAX)?;
    let server = Server::of(settings, &COHERE)?;
    let text = settings.text(name, expected)?;
    if let Some(model) = text.strip_prefix("cohere:").or(text.starts_with("rerank-").then_some(text)) {
        if !is_api_model(model) {
            return Err(settings.unexpected(name, expected));
        }
        server.check_key(settings, text)?;
        let Server { base_url, api_key, .. } = server;
        return Ok(rerank::Config::Cohere(rerank::cohere::Config { model: model.to_owned(), base_url, api_key }));
    }
    match text {
        "none" => Ok(rerank::Config::None),
        "late-interaction" => Ok(rerank::Config::LateInteraction { cache_bytes }),
        _ => match settings.parse(name, expected)? {
            // What is in the cache without a hub is the embedding model; as a reranker it is a slip.
            ModelSource::Cached(_) => Err(settings.unexpected(name, expected)),
            model @ (ModelSource::Path(_) | ModelSource::Hub(_)) => {
                Ok(rerank::Config::CrossEncoder { model, sessions })
            }
        },
    }
}

pub(super) fn llm(settings: &Settings) -> Result<Vec<llm::Config>> {
    let name = "llm_model";
    let expected = "extractive, openai:NAME, or several by commas (extractive only as the last)";
    let server = Server::of(settings, &OPENAI)?;
    let models: Vec<&str> = list(Some(settings.text(name, expected)?)).collect();
    let mut chain = Vec::with_capacity(models.len());
    for (index, model) in models.iter().enumerate() {
        chain.push(match *model {
            "extractive" if index + 1 == models.len() => llm::Config::Extractive,
            "extractive" => return Err(settings.unexpected(name, expected)),
            model => llm::Config::OpenAi {
                model: chat_model(model).ok_or_else(|| settings.unexpected(name, expected))?.to_owned(),
                base_url: server.base_url.clone(),
                api_key: server.api_key.clone(),
            },
        });
    }
    if chain.is_empty() {
        return Err(settings.unexpected(name, expected));
    }
    if chain.iter().any(|model| matches!(model, llm::Config::OpenAi { .. })) {
        server.check_key(settings, &models.join(","))?;
    }
    Ok(chain)
}

/// `openai:NAME`, or a plain NAME: one without a colon, so that a slip such as `opneai:NAME` is not a name.
fn chat_model(text: &str) -> Option<&str> {
    let name = match text.strip_prefix("openai:") {
        Some(name) => name,
        None if text.contains(':') => return None,
        None => text,
    };
    is_api_model(name).then_some(name)
}

pub(super) fn cache(settings: &Settings) -> Result<cache::Backend> {
    let max_bytes = settings.number("cache_max_bytes", 0..=u64::MAX)?;
    Ok(match redis(settings)? {
        Some(server) => cache::Backend::Redis(server),
        None => cache::Backend::Memory { max_bytes },
    })
}

pub(super) fn limiter(settings: &Settings) -> Result<limit::Backend> {
    let replicas = settings.number("replicas", 1..=10_000)?;
    Ok(match redis(settings)? {
        Some(server) => limit::Backend::Redis { server, replicas },
        None => limit::Backend::Memory,
    })
}

fn redis(settings: &Settings) -> Result<Option<crate::redis::Config>> {
    let name = "redis_url";
    let Some(url) = settings.optional(name)? else { return Ok(None) };
    redis_url::parse(url).map(Some).ok_or_else(|| settings.unexpected(name, redis_url::EXPECTED))
}

pub(super) fn vector_store(settings: &Settings) -> Result<vector_store::Config> {
    let name = "vector_db_url";
    let expected = "edge:PATH, or http(s)://HOST:PORT of Qdrant's gRPC (port 6334)";
    let url = settings.text(name, expected)?;
    let collection = settings.text("vector_db_collection", COLLECTION_NAME)?;
    if !is_collection_name(collection) {
        return Err(settings.unexpected("vector_db_collection", COLLECTION_NAME));
    }
    let collection = collection.to_owned();
    let api_key = settings.secret("vector_db_api_key")?;
    if url.starts_with("http://") || url.starts_with("https://") {
        let url = http_url(settings, name)?;
        return match has_port(&url) {
            true => Ok(vector_store::Config::Qdrant { url, api_key, collection }),
            false => Err(settings.unexpected(name, expected)),
        };
    }
    let path = local_path(url, "edge:").ok_or_else(|| settings.unexpected(name, expected))?;
    Ok(vector_store::Config::Edge { path, collection })
}

/// Whether a URL is scheme, host and port, and nothing else. (A user and a password are no key of Qdrant's.)
fn has_port(url: &str) -> bool {
    let Ok(parsed) = reqwest::Url::parse(url) else { return false };
    let port = url.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    port && parsed.path() == "/" && parsed.username().is_empty() && parsed.password().is_none()
}

pub(super) fn catalog(settings: &Settings) -> Result<catalog::Config> {
    let name = "database_url";
    let expected = "sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE";
    // Read even where they are not needed: a wrong value is wrong before it matters.
    let max_connections = settings.number("database_max_connections", 1..=1000)?;
    let timeout = settings.seconds("database_timeout_seconds", 0.05..=600.0)?;
    let url = settings.text(name, expected)?;
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        catalog::check_postgres_url(url).map_err(|problem| settings.error(name, problem))?;
        return Ok(catalog::Config::Postgres(catalog::PostgresConfig {
            url: Secret::new(url),
            max_connections,
            timeout,
        }));
    }
    match local_path(url, "sqlite:") {
        // `sqlite::memory:` and `sqlite:FILE?mode=…` are other tools' forms; taken as file names they would surprise.
        Some(path) if !url.contains(['?']) && !url.contains(":memory:") => Ok(catalog::Config::Sqlite { path }),
        _ => Err(settings.unexpected(name, expected)),
    }
}

pub(super) fn blob(settings: &Settings) -> Result<blob::Config> {
    let name = "storage_url";
    let expected = "file:PATH or s3://BUCKET/PREFIX";
    let url = settings.text(name, expected)?;
    if let Some(bucket) = aws::bucket(settings, url)? {
        return Ok(blob::Config::S3(bucket));
    }
    let path = local_path(url, "file:").ok_or_else(|| settings.unexpected(name, expected))?;
    Ok(blob::Config::File { path })
}

/// The path after `scheme`, which may be written with two slashes: `file:///srv` is `/srv`, `file://./x` is `./x`.
fn local_path(url: &str, scheme: &str) -> Option<PathBuf> {
    let path = url.strip_prefix(scheme)?;
    let path = path.strip_prefix("//").unwrap_or(path);
    (!path.is_empty()).then(|| PathBuf::from(path))
}
