//! The retriever over the real catalog, store and models.
#![cfg(feature = "edge")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use rag_api::catalog::{AttributesPatch, Catalog, Content, NewDocument, PutMode, Work};
use rag_api::document::{Chunk, DocumentId, Metadata, Passage, Principal, Scope, TenantId, Version};
use rag_api::embedding::{Embedder, Priority};
use rag_api::error::{Error, ErrorKind, Result};
use rag_api::rerank::{Candidate, RerankUse, Reranker};
use rag_api::resilience::Deadline;
use rag_api::retrieve::filter::Filter;
use rag_api::retrieve::fusion::Method;
use rag_api::retrieve::{Backends, Config, Mode, Retrieval, RetrievalRequest, Retriever};
use rag_api::vector_store::bm25::Bm25;
use rag_api::vector_store::{DocumentAttributes, Point, VectorStore};
use rag_api::{catalog, embedding, models, rerank, vector_store};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{self, publication};

const LEASE: Duration = Duration::from_secs(60);

fn models_config() -> models::Config {
    let hub = "http://hub.invalid".to_owned();
    models::Config { cache: support::models_dir(), hub, onnx_runtime: None, pdfium: None }
}

/// The parts of a retriever, and what writes to them.
struct Library {
    embedder: Arc<dyn Embedder>,
    store: Arc<dyn VectorStore>,
    catalog: Arc<dyn Catalog>,
    bm25: Bm25,
    _folder: TempDir,
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn ada() -> Principal {
    Principal::user("ada").unwrap()
}

impl Library {
    async fn open() -> Self {
        let folder = TempDir::new().unwrap();
        models::init_runtime(&models_config()).unwrap();
        let model = models::ModelSource::Cached("all-MiniLM-L6-v2".to_owned());
        let embedder = embedding::build(&embedding::Config::Local { model, sessions: 1 }, &models_config()).unwrap();
        let vectors =
            vector_store::Config::Edge { path: folder.path().join("vectors"), collection: "documents".to_owned() };
        let store = vector_store::build(&vectors, embedder.model()).await.unwrap();
        let database = catalog::Config::Sqlite { path: folder.path().join("catalog.db") };
        let catalog = catalog::build(&database).await.unwrap();
        Self { embedder, store, catalog, bm25: Bm25::new().unwrap(), _folder: folder }
    }

    fn retriever(&self, reranker: Option<Arc<dyn Reranker>>) -> Retriever {
        self.retriever_by(Method::Scores, reranker)
    }

    fn retriever_by(&self, fusion: Method, reranker: Option<Arc<dyn Reranker>>) -> Retriever {
        let backends = Backends {
            embedder: self.embedder.clone(),
            store: self.store.clone(),
            reranker,
            catalog: self.catalog.clone(),
        };
        let config =
            Config { top_k: 10, rerank_top_k: 5, fusion, dense_weight: 1.0, sparse_weight: 1.0, rerank_weight: 1.0 };
        Retriever::new(backends, config).unwrap()
    }

    fn late_interaction(&self) -> Option<Arc<dyn Reranker>> {
        let late_interaction = rerank::Config::LateInteraction { cache_bytes: 1 << 20 };
        rerank::build(&late_interaction, &models_config(), &self.embedder).unwrap()
    }

    /// Accepts a new content of a document of Ada's.
    async fn put(&self, name: &str) -> Version {
        let document = NewDocument {
            tenant: tenant(),
            document_id: name.parse().unwrap(),
            owner: ada(),
            as_admin: false,
            readers: None,
            title: Some(name.to_owned()),
            metadata: Some(Metadata::new()),
            content: Content {
                filename: None,
                media_type: "text/plain".to_owned(),
                bytes: 1,
                sha256: uuid::Uuid::new_v4().simple().to_string().repeat(2),
                blob: uuid::Uuid::new_v4().to_string(),
            },
            request: None,
        };
        self.catalog.put(document, PutMode::CreateOrReplace).await.unwrap();
        self.catalog.get(&tenant(), &name.parse().unwrap()).await.unwrap().unwrap().version
    }

    /// Writes the chunks of a content to the store.
    async fn write(&self, name: &str, version: Version, texts: &[&str], metadata: Metadata) {
        let vectors =
            self.embedder.embed(texts.iter().map(ToString::to_string).collect(), Priority::Bulk).await.unwrap();
        let point = |((chunk_idx, text), dense): ((u32, &&str), Vec<f32>)| Point {
            tenant: tenant(),
            principals: vec![ada()],
            sparse: self.bm25.document(text),
            dense,
            passage: Passage {
                document_id: name.parse().unwrap(),
                version,
                title: name.to_owned(),
                metadata: metadata.clone(),
                chunk: Chunk { chunk_idx, text: text.to_string(), headings: vec![], page: None, start: 0, end: 1 },
            },
        };
        self.store.upsert((0..).zip(texts).zip(vectors).map(point).collect()).await.unwrap();
    }

    /// Makes the newest content of the oldest waiting document the served one.
    async fn publish(&self, name: &str) {
        let job = self.catalog.claim(LEASE).await.unwrap().expect("a job");
        assert_eq!((job.record.document_id.as_str(), job.work), (name, Work::Process));
        self.catalog.publish(&job.lease, &publication(job.record.version, 1, job.record.access_version)).await.unwrap();
        while let Some(cleanup) = self.catalog.claim(LEASE).await.unwrap() {
            self.catalog.cleanup_done(&cleanup.lease).await.unwrap();
        }
    }

    async fn add(&self, name: &str, texts: &[&str]) {
        let version = self.put(name).await;
        self.write(name, version, texts, Metadata::new()).await;
        self.publish(name).await;
    }

    /// A few documents with one subject each.
    async fn with_documents() -> Self {
        let library = Self::open().await;
        library.add("retention", &["Invoices are kept for ten years.", "Receipts are kept for six years."]).await;
        library.add("holidays", &["Every employee has thirty days of paid leave a year."]).await;
        library.add("security", &["Passwords have at least sixteen characters and are never reused."]).await;
        library.add("travel", &["Train tickets are booked in second class."]).await;
        library
    }
}

fn request(question: &str) -> RetrievalRequest {
    RetrievalRequest {
        scope: Scope::new(tenant(), vec![ada()]),
        question: question.to_owned(),
        top_k: 5,
        filter: None,
        mode: Mode::Hybrid,
        rerank: true,
        explain: true,
        deadline: Deadline::after(Duration::from_secs(60)),
    }
}

/// The chunks found, best first, after a look at the scores.
fn found(retrieval: &Retrieval) -> Vec<String> {
    let scores: Vec<_> = retrieval.passages.iter().map(|passage| passage.score).collect();
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "{scores:?}");
    retrieval.passages.iter().map(|passage| passage.passage.chunk_id()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_passage_that_answers_comes_first_and_every_rank_is_explained() {
    let library = Library::with_documents().await;
    for reranker in [None, library.late_interaction()] {
        let reranked = reranker.is_some();
        let retriever = library.retriever(reranker);
        let retrieval = retriever.retrieve(&request("How long do we keep an invoice?")).await.unwrap();
        assert_eq!(found(&retrieval)[..2], ["retention_0", "retention_1"]);
        assert_eq!(retrieval.passages.len(), 5);
        assert!(retrieval.passages.iter().all(|passage| passage.dense_score.is_some()));
        assert!(retrieval.passages.iter().all(|passage| passage.rerank_score.is_some() == reranked));
        assert!(retrieval.degraded.is_empty());

        let stages: Vec<_> = retrieval.timings_ms.iter().map(|(stage, _)| *stage).collect();
        let expected = if reranked { &["embedding", "retrieval", "rerank"][..] } else { &["embedding", "retrieval"] };
        assert_eq!(stages, expected);

        let first = &retrieval.explain[0];
        assert_eq!((first.id.as_str(), first.dense_rank, first.sparse_rank), ("retention_0", Some(1), Some(1)));
        assert_eq!((first.fused_rank, first.score), (1, retrieval.passages[0].score));
        assert_eq!(retrieval.explain.len(), 5);
        let lexical = retrieval.explain.iter().filter(|explanation| explanation.sparse_rank.is_some());
        assert_eq!(lexical.count(), 1, "only one passage speaks of invoices");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_scores_a_word_in_common_is_not_as_good_as_the_answer() {
    let library = Library::with_documents().await;
    let question = "How many days off does a member of staff get, for vacation or the like, in a class of its own?";
    let by_ranks = library.retriever_by(Method::Rrf { k: 60.0 }, None).retrieve(&request(question)).await.unwrap();
    let by_scores = library.retriever(None).retrieve(&request(question)).await.unwrap();
    let explained = |retrieval: &Retrieval, id: &str| {
        retrieval.explain.iter().find(|explanation| explanation.id == id).expect("a candidate").clone()
    };
    assert_eq!(found(&by_scores)[0], "holidays_0");
    // The same ranks in the branches, and the lead that scores give over a passage that has but a word of the question.
    for id in ["holidays_0", "travel_0"] {
        let (ranks, scores) = (explained(&by_ranks, id), explained(&by_scores, id));
        assert_eq!((ranks.dense_rank, ranks.sparse_rank), (scores.dense_rank, scores.sparse_rank));
    }
    let lead =
        |retrieval: &Retrieval| explained(retrieval, "holidays_0").score / explained(retrieval, "travel_0").score;
    assert!(lead(&by_scores) > lead(&by_ranks), "{:?} {:?}", by_scores.explain, by_ranks.explain);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_asks_its_branches_only() {
    let library = Library::with_documents().await;
    let retriever = library.retriever(None);
    let sparse = RetrievalRequest { mode: Mode::Sparse, ..request("invoices and receipts") };
    let retrieval = retriever.retrieve(&sparse).await.unwrap();
    assert_eq!(found(&retrieval).len(), 2);
    assert!(retrieval.passages[0].score > 0.0);
    assert!(retrieval.timings_ms.iter().all(|(stage, _)| *stage != "embedding"), "BM25 needs no embedding");
    assert!(retrieval.passages.iter().all(|passage| passage.dense_score.is_none()));

    let dense = RetrievalRequest { mode: Mode::Dense, top_k: 1, ..request("vacation") };
    let retrieval = retriever.retrieve(&dense).await.unwrap();
    assert_eq!(found(&retrieval), ["holidays_0"]);
    assert!(retrieval.explain.iter().all(|explanation| explanation.sparse_rank.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn scope_filter_and_top_k_hold() {
    let library = Library::with_documents().await;
    let version = library.put("tagged").await;
    let metadata = json!({"year": 2024}).as_object().unwrap().clone();
    library.write("tagged", version, &["Invoices of 2024 are in the new archive."], metadata).await;
    library.publish("tagged").await;
    let retriever = library.retriever(None);

    let filter = Some(Filter::parse(&json!({"year": {"$gte": 2024}})).unwrap());
    let retrieval = retriever.retrieve(&RetrievalRequest { filter, ..request("invoices") }).await.unwrap();
    assert_eq!(found(&retrieval), ["tagged_0"]);
    let few = retriever.retrieve(&RetrievalRequest { top_k: 2, ..request("invoices") }).await.unwrap();
    assert_eq!(few.passages.len(), 2);
    for scope in [
        Scope::new(tenant(), vec![]),
        Scope::new(tenant(), vec![Principal::user("eve").unwrap()]),
        Scope::new("globex".parse().unwrap(), vec![ada()]),
    ] {
        let retrieval = retriever.retrieve(&RetrievalRequest { scope, ..request("invoices") }).await.unwrap();
        assert!(retrieval.passages.is_empty());
        assert!(retrieval.explain.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_is_not_shown_and_leaves_no_gap() {
    let library = Library::open().await;
    library.add("current", &["Invoices are kept for ten years."]).await;
    // More unpublished hits than a search fetches, all better than the served one.
    for i in 0..130 {
        let draft = "How long are invoices kept?";
        library.write(&format!("draft{i}"), 1, &[draft], Metadata::new()).await;
    }
    let next = library.put("current").await;
    library.write("current", next, &["Invoices are kept for eight years."], Metadata::new()).await;
    let retriever = library.retriever(None);
    let retrieval = retriever.retrieve(&request("How long are invoices kept?")).await.unwrap();
    assert_eq!(found(&retrieval), ["current_0"]);
    assert!(retrieval.passages[0].passage.chunk.text.contains("ten"));
    assert_eq!(retrieval.explain[0].fused_rank, 1);

    library.publish("current").await;
    let retrieval = retriever.retrieve(&request("How long are invoices kept?")).await.unwrap();
    assert_eq!(found(&retrieval), ["current_0"]);
    assert!(retrieval.passages[0].passage.chunk.text.contains("eight"), "the store still holds the old version");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_decides_before_the_store_knows() {
    let library = Library::with_documents().await;
    let retriever = library.retriever(library.late_interaction());
    let retention: DocumentId = "retention".parse().unwrap();
    let bob = Principal::user("bob").unwrap();
    let as_bob = RetrievalRequest { scope: Scope::new(tenant(), vec![bob.clone()]), ..request("invoices") };

    // The store lets Bob read; the catalog does not, then does, then no longer.
    let attributes = DocumentAttributes {
        principals: vec![ada(), bob.clone()],
        title: "retention".to_owned(),
        metadata: Metadata::new(),
    };
    library.store.set_attributes(&tenant(), &retention, 1, &attributes).await.unwrap();
    support::PROVOKED_DROPS.fetch_add(4, Ordering::SeqCst);
    for (readers, visible) in [(vec![], 0), (vec![bob], 2), (vec![], 0)] {
        let patch = AttributesPatch { readers: Some(readers), ..AttributesPatch::default() };
        library.catalog.patch(&tenant(), &retention, None, patch).await.unwrap().unwrap();
        let retrieval = retriever.retrieve(&as_bob).await.unwrap();
        assert_eq!(found(&retrieval).len(), visible);
        assert_eq!(retrieval.explain.len(), visible, "nothing is explained that is not shown");
    }

    library.catalog.tombstone(&tenant(), &retention, None, LEASE).await.unwrap().unwrap();
    let retrieval = retriever.retrieve(&request("How long do we keep an invoice?")).await.unwrap();
    let found = found(&retrieval);
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|id| !id.starts_with("retention")), "{found:?}");
}

/// A reranker that is down, or that never answers.
#[derive(Debug)]
struct Failing {
    hangs: bool,
}

#[async_trait]
impl Reranker for Failing {
    fn name(&self) -> &str {
        "failing"
    }

    fn usage(&self) -> RerankUse {
        RerankUse::Replace
    }

    async fn rerank(&self, _question: &str, _candidates: &[Candidate]) -> Result<Vec<f32>> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Err(Error::new(ErrorKind::Unavailable, "the reranker is down"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_reranker_the_fused_order_stands_and_is_called_degraded() {
    let library = Library::with_documents().await;
    let plain = library.retriever(None).retrieve(&request("Which class for trains?")).await.unwrap();
    for hangs in [false, true] {
        let retriever = library.retriever(Some(Arc::new(Failing { hangs })));
        let retrieval = retriever.retrieve(&request("Which class for trains?")).await.unwrap();
        assert_eq!(retrieval.degraded, ["rerank"]);
        assert_eq!(retrieval.passages, plain.passages);
        let unasked = RetrievalRequest { rerank: false, ..request("Which class for trains?") };
        let retrieval = retriever.retrieve(&unasked).await.unwrap();
        assert!(retrieval.degraded.is_empty());
        assert_eq!(retrieval.passages, plain.passages);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_is_over_ends_it() {
    let library = Library::with_documents().await;
    let retriever = library.retriever(None);
    let late = RetrievalRequest { deadline: Deadline::after(Duration::ZERO), ..request("invoices") };
    assert_eq!(retriever.retrieve(&late).await.unwrap_err().kind(), ErrorKind::Timeout);
}
