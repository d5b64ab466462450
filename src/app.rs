//! The composition root: [`Config`] → [`App`] → [`App::run`]. Only this module, [`crate::eval`] and
//! the command line call a `build`.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answerer, AnswererParts};
use crate::auth::Keys;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http::{AppState, Services};
use crate::ingest::Ingester;
use crate::ingest::attributes::AttributeWriter;
use crate::ingest::extract::{Extractor, Limits};
use crate::ingest::worker::{Room, Worker};
use crate::limit::RateLimiter;
use crate::retrieve::{Backends, Retriever};
use crate::vector_store::VectorStore;
use crate::vector_store::bm25::Bm25;
use crate::vector_store::metered::MeteredStore;
use crate::{blob, cache, catalog, embedding, limit, llm, models, rerank, resilience, telemetry, vector_store};

/// Everything that a process runs, built from a [`Config`].
#[derive(Debug)]
pub struct App {
    /// What it was built from.
    pub config: Config,
    /// The query path.
    pub answerer: Arc<Answerer>,
    /// The document path.
    pub ingester: Arc<Ingester>,
    /// Documents, jobs and keys.
    pub catalog: Arc<dyn Catalog>,
    /// Points.
    pub store: Arc<dyn VectorStore>,
    /// Keys.
    pub keys: Arc<Keys>,
    /// Limits per key.
    pub limiter: Arc<dyn RateLimiter>,
    /// The worker, if this process has one.
    pub worker: Option<Worker>,
}

impl App {
    /// Builds everything; what cannot be built stops the start with one line.
    pub async fn build(config: Config) -> Result<Self> {
        models::init_runtime(&config.models)?;
        let pdfium = models::pdfium_library(&config.models)?;
        let embedder = embedding::build(&config.embedding, &config.models)?;
        let model = embedder.model().clone();
        let most = model.max_tokens.saturating_sub(embedding::SPECIAL_TOKENS);
        if config.ingest.chunk_tokens > most {
            let (tokens, name) = (config.ingest.chunk_tokens, &model.name);
            return Err(Error::config(format!(
                "RAG_CHUNK_TOKENS is {tokens}, but {name} reads at most {most} tokens besides its own"
            )));
        }
        let reranker = rerank::build(&config.rerank, &config.models, &embedder)?;
        let embedder = resilience::retrying_embedder(embedder);
        let store = Arc::new(MeteredStore::new(vector_store::build(&config.vector_store, &model).await?));
        let store = resilience::breaking_store(store);
        let catalog = catalog::build(&config.catalog).await?;
        let blobs = blob::build(&config.blob).await?;
        let cache = cache::build(&config.cache).await?;
        let cache = cache.map(resilience::breaking_cache);
        let limiter = limit::build(&config.limit).await?;
        let limiter = match limit::build_share(&config.limit) {
            Some(share) => resilience::falling_back_limiter(limiter, share),
            None => limiter,
        };
        let keys = Arc::new(Keys::new(&config.auth, catalog.clone())?);
        let llms = llm::build(&config.llm)?.into_iter().map(resilience::breaking_llm).collect();

        let backends =
            Backends { embedder: embedder.clone(), store: store.clone(), reranker, catalog: catalog.clone() };
        let retriever = Retriever::new(backends, config.retrieve.clone())?.with_cache(cache.clone(), config.cache.ttl);
        let retriever = Arc::new(retriever);
        let answerer = Arc::new(Answerer::new(AnswererParts {
            retriever,
            llms,
            cache: cache.clone(),
            cache_ttl: config.cache.ttl,
            catalog: catalog.clone(),
            token_counter: embedder.token_counter(),
            config: config.answer.clone(),
        }));
        let work = Arc::new(Notify::new());
        let attributes = Arc::new(AttributeWriter::new(catalog.clone(), store.clone()));
        let ingester = Arc::new(Ingester {
            catalog: catalog.clone(),
            blobs: blobs.clone(),
            store: store.clone(),
            cache,
            attributes: attributes.clone(),
            config: config.ingest.clone(),
            work: work.clone(),
        });
        let worker = match config.ingest.concurrency {
            0 => None,
            _ => Some(Worker {
                catalog: catalog.clone(),
                blobs: blobs.clone(),
                store: store.clone(),
                embedder,
                bm25: Arc::new(Bm25::new()?),
                extractor: Arc::new(extractor(&config, pdfium)?),
                room: Room::new(config.ingest.extract_concurrency),
                attributes,
                config: config.ingest.clone(),
                work,
            }),
        };
        Ok(Self { config, answerer, ingester, catalog, store, keys, limiter, worker })
    }

    fn http_state(&self) -> Result<AppState> {
        let services = Services {
            answerer: self.answerer.clone(),
            ingester: self.ingester.clone(),
            keys: self.keys.clone(),
            limiter: self.limiter.clone(),
            catalog: self.catalog.clone(),
            store: self.store.clone(),
        };
        let exporter = telemetry::install_metrics()?;
        Ok(AppState::new(services, self.config.http.clone(), self.config.limit.clone(), exporter))
    }

    /// Serves and works until `stop`, then drains: requests in flight finish, leases are handed back, the store is
    /// flushed.
    pub async fn run(self, listeners: Listeners, stop: CancellationToken) -> Result<()> {
        let state = self.http_state()?;
        let Listeners { api, metrics } = listeners;
        let worker_stop = CancellationToken::new();
        let worker = self.worker.clone().map(|worker| {
            let stop = worker_stop.clone();
            tokio::spawn(async move { worker.run(stop).await })
        });
        let served = match worker {
            None => crate::http::serve(api, metrics, state, stop).await,
            Some(mut worker) => {
                let failed = stop.child_token();
                let serving = crate::http::serve(api, metrics, state, failed.clone());
                tokio::pin!(serving);
                let early = tokio::select! {
                    served = &mut serving => Err(served),
                    ended = &mut worker => Ok(ended),
                };
                match early {
                    Err(served) => {
                        worker_stop.cancel();
                        let ended = worker.await;
                        served.and(worker_ended(ended))
                    }
                    // A worker ends before it is told to only when it cannot begin.
                    Ok(ended) => {
                        failed.cancel();
                        worker_ended(ended)
                    }
                }
            }
        };
        self.store.flush().await?;
        served
    }

    /// Works on documents until `stop`, then hands leases back and flushes the store. Until that is done `operations`, if
    /// it is there, serves `/health`, `/ready` and `/metrics`.
    pub async fn work(self, operations: Option<TcpListener>, stop: CancellationToken) -> Result<()> {
        let Some(worker) = self.worker.clone() else { return Ok(()) };
        let done = CancellationToken::new();
        let work = async {
            let worked = worker.run(stop.clone()).await;
            let flushed = self.store.flush().await;
            done.cancel();
            worked.and(flushed)
        };
        let Some(listener) = operations else { return work.await };
        let state = self.http_state()?;
        let (worked, ()) = tokio::join!(work, crate::http::serve_operations(listener, state, &stop, &done));
        worked
    }
}

/// Where a process listens.
#[derive(Debug)]
pub struct Listeners {
    /// The API.
    pub api: TcpListener,
    /// `/metrics`, if it is apart.
    pub metrics: Option<TcpListener>,
}

fn worker_ended(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    ended.unwrap_or_else(|error| Err(Error::internal("the worker ended", error)))
}

fn extractor(config: &Config, pdfium: std::path::PathBuf) -> Result<Extractor> {
    let limits =
        Limits { memory: config.ingest.extract_memory, timeout: config.ingest.extract_timeout, ..Limits::default() };
    let program = match &config.ingest.extract_program {
        Some(program) => program.clone(),
        None => std::env::current_exe()
            .map_err(|error| Error::config("the path of this executable cannot be found").with_source(error))?,
    };
    Ok(Extractor::new(program, Some(pdfium), limits))
}
