//! A collection in the stores of a configuration, but in a folder of its own that goes with it.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tempfile::TempDir;

use super::collection::Document;
use crate::catalog::{self, Catalog, Content, Job, NewDocument, Publication, PutMode};
use crate::config::Config;
use crate::document::{Passage, Principal, Scope, TenantId};
use crate::embedding::{self, Embedder, Priority};
use crate::error::{Error, Result};
use crate::ingest::chunk::{ChunkOptions, chunk};
use crate::ingest::extract::Extracted;
use crate::resilience::Deadline;
use crate::retrieve::{Backends, Mode, Retrieval, RetrievalRequest, Retriever};
use crate::vector_store::bm25::Bm25;
use crate::vector_store::{self, Point, VectorStore};
use crate::{models, rerank};

/// Nothing here has a client that waits.
const HOUR: Duration = Duration::from_secs(3600);
/// Chunks that are embedded at once: enough to keep every session busy with batches of like length.
const IN_FLIGHT: usize = 64;
/// Chunks that are written at once.
const BATCH: usize = 256;

/// Documents that can be searched by the configured models, chunk sizes and fusion.
#[derive(Debug)]
pub struct Index {
    embedder: Arc<dyn Embedder>,
    store: Arc<dyn VectorStore>,
    catalog: Arc<dyn Catalog>,
    retriever: Retriever,
    reranker: Option<String>,
    options: ChunkOptions,
    _folder: TempDir,
}

impl Index {
    /// An empty index; loads the models.
    pub async fn new(config: &Config) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(|error| Error::internal("no temporary folder can be made", error))?;
        models::init_runtime(&config.models)?;
        let embedder = embedding::build(&config.embedding, &config.models)?;
        let reranker = rerank::build(&config.rerank, &config.models, &embedder)?;
        let place =
            vector_store::Config::Edge { path: folder.path().join("vectors"), collection: "documents".to_owned() };
        let store = vector_store::build(&place, embedder.model())?;
        let catalog = catalog::build(&catalog::Config::Sqlite { path: folder.path().join("catalog.db") }).await?;
        let name = reranker.as_ref().map(|reranker| reranker.name().to_owned());
        let backends =
            Backends { embedder: embedder.clone(), store: store.clone(), reranker, catalog: catalog.clone() };
        let options = ChunkOptions { max_tokens: config.ingest.chunk_tokens, overlap: config.ingest.chunk_overlap };
        let retriever = Retriever::new(backends, config.retrieve.clone())?;
        Ok(Self { embedder, store, catalog, retriever, reranker: name, options, _folder: folder })
    }

    /// The name of the configured reranker.
    pub fn reranker(&self) -> Option<&str> {
        self.reranker.as_deref()
    }

    /// Cuts, embeds and stores documents under a tenant of their own, each chunk with the title of its document; `done`
    /// hears of the chunks so far and of all. Returns for each chunk, by its number, which document it is of.
    pub async fn load(
        &self,
        tenant: &TenantId,
        documents: &[Document],
        mut done: impl FnMut(usize, usize),
    ) -> Result<Vec<usize>> {
        let job = self.begin(tenant).await?;
        let (passages, owners) = self.cut(&job, documents);
        let all = passages.len();
        let bm25 = Bm25::new()?;
        let points = futures::stream::iter(passages).map(|passage| {
            let bm25 = &bm25;
            async move {
                let text = passage.contextual_text();
                let sparse = bm25.document(&text);
                let dense = self.embedder.embed(vec![text], Priority::Bulk).await?.pop().unwrap_or_default();
                Ok::<_, Error>(Point {
                    tenant: tenant.clone(),
                    principals: vec![Principal::public()],
                    passage,
                    dense,
                    sparse,
                })
            }
        });
        let mut batches = points.buffered(IN_FLIGHT).try_chunks(BATCH);
        let mut stored = 0;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| error.1)?;
            stored += batch.len();
            self.store.upsert(batch).await?;
            done(stored, all);
        }
        self.store.optimize().await?;
        let chunks = u32::try_from(all).map_err(|error| Error::internal("there are too many chunks", error))?;
        let (version, access_version) = (job.record.version, job.record.access_version);
        let publication = Publication { version, chunks, access_version, title: String::new() };
        self.catalog.publish(&job.lease, &publication).await?;
        Ok(owners)
    }

    /// The best `top_k` passages for a question.
    pub async fn retrieve(
        &self,
        tenant: &TenantId,
        question: &str,
        mode: Mode,
        rerank: bool,
        top_k: usize,
    ) -> Result<Retrieval> {
        let request = RetrievalRequest {
            scope: Scope::new(tenant.clone(), vec![Principal::public()]),
            question: question.to_owned(),
            top_k,
            filter: None,
            mode,
            rerank,
            explain: false,
            deadline: Deadline::after(HOUR),
        };
        self.retriever.retrieve(&request).await
    }

    /// One row of the catalog for all documents: what is measured here is not the catalog.
    async fn begin(&self, tenant: &TenantId) -> Result<Job> {
        let content = Content {
            filename: None,
            media_type: "text/markdown".to_owned(),
            bytes: 0,
            sha256: String::new(),
            blob: String::new(),
        };
        let document = NewDocument {
            tenant: tenant.clone(),
            document_id: "corpus".parse()?,
            owner: Principal::public(),
            as_admin: true,
            readers: None,
            title: None,
            metadata: None,
            content,
            request: None,
        };
        self.catalog.put(document, PutMode::Create).await?;
        self.catalog.claim(HOUR).await?.ok_or_else(|| Error::not_found("job"))
    }

    fn cut(&self, job: &Job, documents: &[Document]) -> (Vec<Passage>, Vec<usize>) {
        let counter = self.embedder.token_counter();
        let (mut passages, mut owners) = (Vec::new(), Vec::new());
        for (owner, document) in documents.iter().enumerate() {
            let extracted = Extracted {
                media_type: "text/markdown".to_owned(),
                title: None,
                text: document.text.clone(),
                markdown: true,
                pages: Vec::new(),
            };
            for mut cut in chunk(&extracted, &document.title, &*counter, self.options) {
                cut.chunk_idx = u32::try_from(passages.len()).unwrap_or(u32::MAX);
                owners.push(owner);
                passages.push(Passage {
                    document_id: job.record.document_id.clone(),
                    version: job.record.version,
                    title: document.title.clone(),
                    metadata: job.record.metadata.clone(),
                    chunk: cut,
                });
            }
        }
        (passages, owners)
    }
}
