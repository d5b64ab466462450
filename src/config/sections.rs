//! Each module's `Config`, made of its settings, and the checks between them.

use std::net::{IpAddr, SocketAddr};

use tracing_subscriber::EnvFilter;

use super::settings::Settings;
use super::{Config, backends};
use crate::error::Result;
use crate::limit::Quota;
use crate::retrieve::fusion::Method;
use crate::{answer, auth, cache, embedding, http, ingest, limit, models, rerank, retrieve, telemetry};

/// What `listen` and its kin may be.
const SOCKET: &str = "ADDRESS:PORT, such as 127.0.0.1:8000";
/// A bound for what would else be a slip of the hand: a day.
const DAY: f64 = 86_400.0;
/// The same for sizes: 1 TiB.
const TIB: u64 = 1 << 40;

/// Every section.
pub(super) fn config(settings: &Settings) -> Result<Config> {
    let config = Config {
        http: http(settings)?,
        auth: auth(settings)?,
        limit: limit(settings)?,
        cache: cache(settings)?,
        answer: answer(settings)?,
        retrieve: retrieve(settings)?,
        ingest: ingest(settings)?,
        models: models(settings)?,
        embedding: backends::embedding(settings)?,
        rerank: backends::rerank(settings)?,
        llm: backends::llm(settings)?,
        vector_store: backends::vector_store(settings)?,
        catalog: backends::catalog(settings)?,
        blob: backends::blob(settings)?,
        telemetry: telemetry(settings)?,
    };
    check(settings, &config)?;
    Ok(config)
}

/// What can only be wrong together.
fn check(settings: &Settings, config: &Config) -> Result<()> {
    let ingest = &config.ingest;
    if ingest.chunk_overlap >= ingest.chunk_tokens {
        let problem = format!("must be less than RAG_CHUNK_TOKENS ({})", ingest.chunk_tokens);
        return Err(settings.error("chunk_overlap_tokens", problem));
    }
    if config.answer.max_context_tokens < ingest.chunk_tokens {
        let problem = format!("must have room for a chunk: at least RAG_CHUNK_TOKENS ({})", ingest.chunk_tokens);
        return Err(settings.error("max_context_tokens", problem));
    }
    if config.retrieve.dense_weight + config.retrieve.sparse_weight <= 0.0 {
        let problem = "must be above 0 where RAG_RETRIEVAL_SPARSE_WEIGHT is 0";
        return Err(settings.error("retrieval_dense_weight", problem));
    }
    if let (embedding::Config::OpenAi(server), rerank::Config::LateInteraction { .. }) =
        (&config.embedding, &config.rerank)
    {
        let instead = "use cohere:NAME, hub:NAME, path:DIR or none";
        let problem =
            format!("late-interaction needs token vectors, which openai:{} does not give; {instead}", server.model);
        return Err(settings.error("reranker_model", problem));
    }
    // Port 0 asks for any free port, so two of them are two ports.
    if config.http.metrics_listen == Some(config.http.listen) && config.http.listen.port() != 0 {
        return Err(settings.error("metrics_listen", "must differ from RAG_LISTEN; leave it unset to share it"));
    }
    Ok(())
}

fn http(settings: &Settings) -> Result<http::Config> {
    Ok(http::Config {
        listen: settings.parse("listen", SOCKET)?,
        metrics_listen: settings.parse_optional::<SocketAddr>("metrics_listen", SOCKET)?,
        request_timeout: settings.seconds("request_timeout_seconds", 0.1..=3600.0)?,
        max_body_bytes: max_upload_bytes(settings)?,
        trusted_proxies: trusted_proxies(settings)?,
        address_rate: settings.number("address_rate_limit", 0..=1_000_000)?,
        address_burst: settings.number("address_rate_limit_burst", 1..=1_000_000)?,
        max_connections: settings.number("max_connections", 1..=1_000_000)?,
        max_concurrent_queries: settings.number("max_concurrent_queries", 1..=100_000)?,
        max_concurrent_ingests: settings.number("max_concurrent_ingests", 1..=100_000)?,
        drain_delay: settings.seconds("drain_delay_seconds", 0.0..=600.0)?,
        drain_timeout: settings.seconds("drain_timeout_seconds", 0.0..=3600.0)?,
    })
}

fn max_upload_bytes(settings: &Settings) -> Result<u64> {
    settings.number("max_upload_bytes", 1..=TIB)
}

fn trusted_proxies(settings: &Settings) -> Result<Vec<String>> {
    let proxies: Vec<String> = list(settings.optional("trusted_proxies")?).map(str::to_owned).collect();
    if proxies.iter().all(|proxy| is_network(proxy)) {
        return Ok(proxies);
    }
    Err(settings.unexpected("trusted_proxies", "addresses or networks by commas, such as 10.0.0.0/8,192.168.1.7"))
}

/// Whether it is an address, or an address and the length of a prefix (CIDR).
fn is_network(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    prefix.is_none_or(|prefix| prefix.parse::<u8>().is_ok_and(|length| length <= bits))
}

/// The parts of a list by commas.
pub(super) fn list(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn auth(settings: &Settings) -> Result<auth::Config> {
    let admin_api_key = settings.secret("admin_api_key")?;
    if admin_api_key.as_ref().is_some_and(|key| key.expose().chars().count() < auth::MIN_ADMIN_KEY) {
        let problem = format!("must have {} characters or more", auth::MIN_ADMIN_KEY);
        return Err(settings.error("admin_api_key", problem));
    }
    // A header's value is visible ASCII, without spaces at its ends.
    let sendable = |key: &str| key.bytes().all(|byte| matches!(byte, b' '..=b'~')) && key.trim() == key;
    if admin_api_key.as_ref().is_some_and(|key| !sendable(key.expose())) {
        return Err(settings.error("admin_api_key", "must be ASCII without control characters or spaces at its ends"));
    }
    Ok(auth::Config { admin_api_key })
}

fn quota(settings: &Settings, requests: &str, window: &str) -> Result<Quota> {
    Ok(Quota { requests: settings.number(requests, 1..=10_000_000)?, window: settings.seconds(window, 1.0..=DAY)? })
}

fn limit(settings: &Settings) -> Result<limit::Config> {
    Ok(limit::Config {
        query: quota(settings, "rate_limit_requests", "rate_limit_window_seconds")?,
        ingest: quota(settings, "ingest_rate_limit_requests", "ingest_rate_limit_window_seconds")?,
        backend: backends::limiter(settings)?,
    })
}

fn cache(settings: &Settings) -> Result<cache::Config> {
    Ok(cache::Config {
        ttl: settings.seconds("cache_ttl_seconds", 0.0..=30.0 * DAY)?,
        backend: backends::cache(settings)?,
    })
}

fn answer(settings: &Settings) -> Result<answer::Config> {
    Ok(answer::Config {
        max_context_tokens: settings.number("max_context_tokens", 1..=10_000_000)?,
        max_output_tokens: settings.number("max_output_tokens", 1..=1_000_000)?,
    })
}

fn retrieve(settings: &Settings) -> Result<retrieve::Config> {
    Ok(retrieve::Config {
        top_k: settings.number("retrieval_top_k", 1..=1000)?,
        rerank_top_k: settings.number("rerank_top_k", 1..=answer::MAX_TOP_K)?,
        fusion: fusion(settings)?,
        dense_weight: settings.number("retrieval_dense_weight", 0.0..=1000.0)?,
        sparse_weight: settings.number("retrieval_sparse_weight", 0.0..=1000.0)?,
        rerank_weight: settings.number("rerank_weight", 0.0..=1000.0)?,
    })
}

fn fusion(settings: &Settings) -> Result<Method> {
    let expected = "scores or rrf";
    let k = settings.number("retrieval_rrf_k", 1.0..=10_000.0)?;
    match settings.text("retrieval_fusion", expected)? {
        "scores" => Ok(Method::Scores),
        "rrf" => Ok(Method::Rrf { k }),
        _ => Err(settings.unexpected("retrieval_fusion", expected)),
    }
}

fn ingest(settings: &Settings) -> Result<ingest::Config> {
    Ok(ingest::Config {
        extract_program: None,
        max_document_bytes: max_upload_bytes(settings)?,
        concurrency: settings.number("worker_concurrency", 0..=256)?,
        extract_concurrency: settings.number("extract_concurrency", 1..=256)?,
        chunk_tokens: settings.number("chunk_tokens", 32..=8192)?,
        chunk_overlap: settings.number("chunk_overlap_tokens", 0..=8191)?,
        lease: settings.seconds("worker_lease_seconds", 1.0..=3600.0)?,
        extract_timeout: settings.seconds("extract_timeout_seconds", 1.0..=3600.0)?,
        // Below 128 MiB not even the reader's own code and tables fit.
        extract_memory: settings.number("extract_memory_bytes", (128 << 20)..=TIB)?,
    })
}

fn models(settings: &Settings) -> Result<models::Config> {
    let cache = settings.path("models_dir")?;
    let cache =
        cache.ok_or_else(|| settings.error("models_dir", "must be set where neither XDG_CACHE_HOME nor HOME is"))?;
    Ok(models::Config {
        cache,
        hub: backends::http_url(settings, "model_hub")?,
        onnx_runtime: settings.path("onnx_runtime")?,
        pdfium: settings.path("pdfium_library")?,
    })
}

fn telemetry(settings: &Settings) -> Result<telemetry::Config> {
    let expected = "a level or a filter, such as info or info,rag_api=debug";
    let filter = settings.text("log", expected)?;
    EnvFilter::try_new(filter).map_err(|_| settings.unexpected("log", expected))?;
    let expected = "text or json";
    let json = match settings.text("log_format", expected)? {
        "json" => true,
        "text" => false,
        _ => return Err(settings.unexpected("log_format", expected)),
    };
    Ok(telemetry::Config { json, filter: filter.to_owned() })
}
