//! A folder with a filled vector store and catalog, and the product over it with ready vectors for its questions.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rag_api::answer::{Answerer, AnswererParts};
use rag_api::app::{App, Listeners};
use rag_api::auth::{Keys, NewKey};
use rag_api::catalog::{Catalog, Content, KeyScope, NewDocument, Publication, PutMode};
use rag_api::config::{Config, LoadOptions};
use rag_api::document::Principal;
use rag_api::embedding::{Embedder, EmbeddingModel, Priority, TokenCounter, TokenEmbedder};
use rag_api::error::{Error, Result};
use rag_api::retrieve::{Backends, Retriever};
use rag_api::vector_store::VectorStore;
use rag_api::vector_store::bm25::Bm25;
use rag_api::{cache, catalog, embedding, llm, models, rerank, vector_store};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::corpus::{CHUNKS_PER_DOCUMENT, Corpus};

/// Longest lease of a document while the library is filled.
const LEASE: Duration = Duration::from_secs(600);

/// The settings of a server over `folder`, without limits that a benchmark would run into.
pub(crate) fn config(folder: &Path, changes: &[(String, String)]) -> Result<Config> {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut environment: Vec<(String, String)> = [
        ("RAG_LISTEN", "127.0.0.1:0".to_owned()),
        ("RAG_VECTOR_DB_URL", format!("edge:{}", path("vectors"))),
        ("RAG_DATABASE_URL", format!("sqlite:{}", path("catalog.db"))),
        ("RAG_STORAGE_URL", format!("file:{}", path("originals"))),
        ("RAG_RATE_LIMIT_REQUESTS", "10000000".to_owned()),
        ("RAG_ADDRESS_RATE_LIMIT", "0".to_owned()),
        ("RAG_DRAIN_DELAY_SECONDS", "0".to_owned()),
        ("RAG_WORKER_CONCURRENCY", "0".to_owned()),
        ("RAG_LOG", "warn".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    #[allow(clippy::disallowed_methods, reason = "the models are found by the environment")]
    for name in ["HOME", "XDG_CACHE_HOME", "RAG_MODELS_DIR"] {
        environment.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
    }
    environment.extend(changes.iter().cloned());
    let options = LoadOptions { environment: Some(environment), ..LoadOptions::default() };
    Ok(rag_api::config::load(options)?.config)
}

/// What is filled and measured without HTTP.
pub(crate) struct Library {
    pub(crate) store: Arc<dyn VectorStore>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) bm25: Bm25,
}

impl Library {
    /// Opens the stores of a folder.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        Ok(Self {
            store: vector_store::build(&config.vector_store, &model()?).await?,
            catalog: catalog::build(&config.catalog).await?,
            bm25: Bm25::new()?,
        })
    }

    /// Writes the documents of these numbers, each in the version that follows.
    pub(crate) async fn write(&self, corpus: &Corpus, numbers: std::ops::Range<usize>) -> Result<()> {
        for number in numbers {
            let mut document = corpus.document(number)?;
            let owner = Principal::user("owner")?;
            let version_name = format!("{number}-{}", uuid::Uuid::new_v4());
            let new = NewDocument {
                tenant: document.tenant.clone(),
                document_id: document.id.parse()?,
                owner,
                as_admin: true,
                readers: Some(document.readers.clone()),
                title: Some(format!("Document {}", document.id)),
                metadata: None,
                content: Content {
                    filename: None,
                    media_type: "text/plain".to_owned(),
                    bytes: 1,
                    sha256: version_name.clone(),
                    blob: version_name,
                },
                request: None,
            };
            self.catalog.put(new, PutMode::CreateOrReplace).await?;
            let job = self.catalog.claim(LEASE).await?.ok_or_else(|| missing("a document to work on"))?;
            let version = job.record.version;
            let points = corpus.points(&mut document, version, &self.bm25)?;
            self.store.upsert(points).await?;
            let publication = Publication {
                version,
                chunks: CHUNKS_PER_DOCUMENT as u32,
                access_version: job.record.access_version,
                title: String::new(),
            };
            self.catalog.publish(&job.lease, &publication).await?;
            if version > 1 {
                let old = rag_api::vector_store::Versions::Except(version);
                self.store.delete(&document.tenant, &document.id.parse()?, old).await?;
                if let Some(cleanup) = self.catalog.claim(LEASE).await? {
                    self.catalog.cleanup_done(&cleanup.lease).await?;
                }
            }
        }
        Ok(())
    }

    /// A key of a user who reads six tenths of the largest tenant, and two groups' documents.
    pub(crate) async fn key(&self, config: &Config) -> Result<String> {
        let keys = Keys::new(&config.auth, self.catalog.clone())?;
        let new = NewKey {
            tenant: "acme".parse()?,
            user: "ada".to_owned(),
            groups: vec!["g1".to_owned(), "g2".to_owned()],
            scopes: vec![KeyScope::Query],
            name: "benchmark".to_owned(),
            expires_at: None,
        };
        Ok(keys.create(new).await?.1.expose().to_owned())
    }
}

/// The model whose vectors the corpus is taken to have.
fn model() -> Result<EmbeddingModel> {
    Ok(EmbeddingModel { name: "all-MiniLM-L6-v2".to_owned(), dimensions: crate::corpus::DIMENSIONS, max_tokens: 256 })
}

/// The real embedding model.
pub(crate) fn embedder(config: &Config) -> Result<Arc<dyn Embedder>> {
    models::init_runtime(&config.models)?;
    embedding::build(&config.embedding, &config.models)
}

/// Milliseconds of embedding one question by the real model, each.
pub(crate) async fn embedding_times(config: &Config, corpus: &Corpus, questions: usize) -> Result<Vec<f64>> {
    let embedder = embedder(config)?;
    let mut times = Vec::with_capacity(questions);
    for number in 0..questions + 10 {
        let question = corpus.question(number);
        let started = Instant::now();
        embedder.embed(vec![question], Priority::Interactive).await?;
        if number >= 10 {
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(times)
}

/// An embedding model that has the corpus's vectors ready, so that what is measured is all but the model.
#[derive(Debug)]
struct Ready {
    model: EmbeddingModel,
    counter: Arc<dyn TokenCounter>,
    corpus: ReadyCorpus,
}

struct ReadyCorpus(Corpus);

impl std::fmt::Debug for ReadyCorpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("corpus")
    }
}

#[async_trait]
impl Embedder for Ready {
    fn model(&self) -> &EmbeddingModel {
        &self.model
    }

    async fn embed(&self, texts: Vec<String>, _: Priority) -> Result<Vec<Vec<f32>>> {
        Ok(texts.iter().map(|text| self.corpus.0.vector(text)).collect())
    }

    fn token_counter(&self) -> Arc<dyn TokenCounter> {
        self.counter.clone()
    }

    fn token_embedder(&self) -> Option<Arc<dyn TokenEmbedder>> {
        None
    }
}

/// Serves the library on a free port until the process is told to stop, and prints the address.
pub(crate) async fn serve(folder: PathBuf, corpus: Corpus, changes: &[(String, String)]) -> Result<()> {
    let config = config(&folder, changes)?;
    let _logs = rag_api::telemetry::init_logs(&config.telemetry)?;
    let mut app = App::build(config.clone()).await?;
    let real = embedder(&config)?;
    let reranker = rerank::build(&config.rerank, &config.models, &real)?;
    let ready = Ready { model: real.model().clone(), counter: real.token_counter(), corpus: ReadyCorpus(corpus) };
    let backends =
        Backends { embedder: Arc::new(ready), store: app.store.clone(), reranker, catalog: app.catalog.clone() };
    app.answerer = Arc::new(Answerer::new(AnswererParts {
        retriever: Arc::new(Retriever::new(backends, config.retrieve.clone())?),
        llms: llm::build(&config.llm)?,
        cache: cache::build(&config.cache).await?.map(rag_api::resilience::breaking_cache),
        cache_ttl: config.cache.ttl,
        catalog: app.catalog.clone(),
        token_counter: real.token_counter(),
        config: config.answer.clone(),
    }));
    let failed = |error| Error::internal("the benchmark cannot listen", error);
    let api = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    println!("{}", api.local_addr().map_err(failed)?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    // The parent holds standard input open for as long as it measures.
    std::thread::spawn(move || {
        let _ = std::io::stdin().lines().count();
        told.cancel();
    });
    app.run(Listeners { api, metrics: None }, stop).await
}

fn missing(what: &str) -> Error {
    Error::new(rag_api::error::ErrorKind::NotFound, format!("the benchmark misses {what}"))
}
