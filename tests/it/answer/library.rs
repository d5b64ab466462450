//! A small corpus on real backends, and answerers over it.

use std::sync::Arc;
use std::time::Duration;

use rag_api::answer::{Answerer, AnswererParts, Caller, Config, Question};
use rag_api::cache::{self, Cache};
use rag_api::catalog::{self, AttributesPatch, Catalog, Content, NewDocument, Publish, PutMode};
use rag_api::document::{Chunk, Passage, Principal, Scope, TenantId};
use rag_api::embedding::{Embedder, Priority};
use rag_api::error::{Error, ErrorKind, Result};
use rag_api::llm::Llm;
use rag_api::llm::extractive::Extractive;
use rag_api::llm::openai::{OpenAi, Timeouts};
use rag_api::resilience::breaker::Policy;
use rag_api::resilience::{Breaker, BreakerCache, BreakerStore, Deadline};
use rag_api::retrieve::{self, Backends, Mode, Retriever};
use rag_api::vector_store::bm25::Bm25;
use rag_api::vector_store::{self, Point, VectorStore};
use tempfile::TempDir;

use crate::models::minilm;
use crate::support::llm_server::LlmServer;
use crate::support::publication;

const HOUR: Duration = Duration::from_secs(3600);

/// Documents of the tenant `acme`, all of them Ada's. Its files go when it is dropped.
pub(super) struct Library {
    embedder: Arc<dyn Embedder>,
    store: Arc<dyn VectorStore>,
    catalog: Arc<dyn Catalog>,
    _dir: TempDir,
}

/// What an answerer is made of, besides the library.
pub(super) struct Making {
    pub(super) llms: Vec<Arc<dyn Llm>>,
    pub(super) cache: Option<Arc<dyn Cache>>,
    /// The vector store cannot be reached.
    pub(super) store_down: bool,
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

pub(super) fn user(name: &str) -> Principal {
    Principal::user(name).unwrap()
}

impl Library {
    /// An empty library.
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let embedder = minilm(1);
        let config =
            vector_store::Config::Edge { path: dir.path().join("vectors"), collection: "documents".to_owned() };
        let store = vector_store::build(&config, embedder.model()).await.unwrap();
        let config = catalog::Config::Sqlite { path: dir.path().join("catalog.db") };
        let catalog = catalog::build(&config).await.unwrap();
        Self { embedder, store, catalog, _dir: dir }
    }

    /// A library that knows how long papers are kept, and a few other things.
    pub(super) async fn of_policies() -> Self {
        let library = Self::new().await;
        for (id, title, text) in [
            ("invoices", "Retention of invoices", "Invoices are kept for ten years. After that they are shredded."),
            ("contracts", "Retention of contracts", "Contracts are kept for six years after they end."),
            ("offers", "Retention of offers", "Offers that were not accepted are kept for two years."),
            ("travel", "Travel policy", "Employees travel by train where a journey takes less than five hours."),
        ] {
            library.add(id, title, text).await;
        }
        library
    }

    /// Adds a document of one chunk, as a worker does.
    pub(super) async fn add(&self, id: &str, title: &str, text: &str) {
        let content = Content {
            filename: None,
            media_type: "text/plain".to_owned(),
            bytes: text.len() as u64,
            sha256: format!("{id}{title}{text}"),
            blob: id.to_owned(),
        };
        let document = NewDocument {
            tenant: tenant(),
            document_id: id.parse().unwrap(),
            owner: user("ada"),
            as_admin: false,
            readers: None,
            title: Some(title.to_owned()),
            metadata: None,
            content,
            request: None,
        };
        self.catalog.put(document, PutMode::CreateOrReplace).await.unwrap();
        let job = self.catalog.claim(HOUR).await.unwrap().expect("a job");
        let chunk = Chunk {
            chunk_idx: 0,
            text: text.to_owned(),
            headings: Vec::new(),
            page: None,
            start: 0,
            end: text.chars().count() as u64,
        };
        let passage = Passage {
            document_id: job.record.document_id.clone(),
            version: job.record.version,
            title: title.to_owned(),
            metadata: job.record.metadata.clone(),
            chunk,
        };
        let context = passage.contextual_text();
        let dense = self.embedder.embed(vec![context.clone()], Priority::Bulk).await.unwrap().remove(0);
        let sparse = Bm25::new().unwrap().document(&context);
        let principals = job.record.readers.clone();
        self.store.upsert(vec![Point { tenant: tenant(), principals, passage, dense, sparse }]).await.unwrap();
        let published =
            self.catalog.publish(&job.lease, &publication(job.record.version, 1, job.record.access_version)).await;
        assert_eq!(published.unwrap(), Publish::Published);
    }

    /// Changes a title: the corpus has a new generation.
    pub(super) async fn rename(&self, id: &str, title: &str) {
        let patch = AttributesPatch { title: Some(title.to_owned()), ..AttributesPatch::default() };
        self.catalog.patch(&tenant(), &id.parse().unwrap(), None, patch).await.unwrap().expect("the document");
    }

    pub(super) fn answerer(&self, making: Making) -> Answerer {
        let store = match making.store_down {
            true => Arc::new(BreakerStore::new(self.store.clone(), open_breaker(), open_breaker())),
            false => self.store.clone(),
        };
        let backends =
            Backends { embedder: self.embedder.clone(), store, reranker: None, catalog: self.catalog.clone() };
        let config = retrieve::Config {
            top_k: 10,
            rerank_top_k: 4,
            fusion: retrieve::fusion::Method::Scores,
            dense_weight: 1.0,
            sparse_weight: 1.0,
            rerank_weight: 1.0,
        };
        Answerer::new(AnswererParts {
            retriever: Arc::new(Retriever::new(backends, config).unwrap()),
            llms: making.llms,
            cache: making.cache,
            cache_ttl: HOUR,
            catalog: self.catalog.clone(),
            token_counter: self.embedder.token_counter(),
            config: Config { max_context_tokens: 1000, max_output_tokens: 200 },
        })
    }

    /// An answerer with this chain of models, without a cache.
    pub(super) fn with(&self, llms: Vec<Arc<dyn Llm>>) -> Answerer {
        self.answerer(Making { llms, cache: None, store_down: false })
    }
}

/// A model on a server.
pub(super) fn chat(server: &LlmServer) -> Arc<dyn Llm> {
    Arc::new(OpenAi::new("chat", &server.base_url, None, Timeouts::default()).unwrap())
}

pub(super) fn extractive() -> Arc<dyn Llm> {
    Arc::new(Extractive)
}

pub(super) async fn memory() -> Arc<dyn Cache> {
    let config = cache::Config { ttl: HOUR, backend: cache::Backend::Memory { max_bytes: 1 << 20 } };
    cache::build(&config).await.unwrap().unwrap()
}

/// A cache that cannot be reached.
pub(super) async fn cache_down() -> Arc<dyn Cache> {
    Arc::new(BreakerCache::new(memory().await, open_breaker()))
}

/// A breaker that lets nothing through: what is behind it is down.
fn open_breaker() -> Breaker {
    let breaker = Breaker::new("test", Policy { failures: 1, open_for: HOUR, patience: HOUR });
    let down: Result<()> = Err(Error::new(ErrorKind::Unavailable, "down"));
    breaker.admit().unwrap().settle(&down);
    breaker
}

/// Ada's question.
pub(super) fn question(text: &str) -> Question {
    Question {
        scope: Scope::new(tenant(), vec![user("ada")]),
        text: text.to_owned(),
        top_k: None,
        filter: None,
        mode: Mode::Hybrid,
        rerank: false,
        explain: false,
        deadline: Deadline::after(Duration::from_secs(60)),
        caller: Caller::default(),
    }
}
