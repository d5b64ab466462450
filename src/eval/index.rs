//! A collection in the stores of the product, in a temporary folder that goes with it.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tempfile::TempDir;

use super::collection::Document;
use super::models::Models;
use super::spans::Place;
use crate::catalog::{self, Catalog, Content, Job, NewDocument, Publication, PutMode};
use crate::document::{Passage, Principal, Scope, TenantId};
use crate::embedding::{Embedder, Priority, TokenCounter};
use crate::error::{Error, Result};
use crate::ingest::chunk::{ChunkOptions, chunk};
use crate::ingest::extract::Extracted;
use crate::vector_store::bm25::Bm25;
use crate::vector_store::{self, Point, VectorStore};

/// Nothing here has a client that waits.
pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// Chunks that are embedded at once: enough to keep every session busy.
const IN_FLIGHT: usize = 64;
/// Chunks that are written at once.
const BATCH: usize = 256;

/// How documents are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutting {
    /// How long chunks are.
    pub options: ChunkOptions,
    /// Whether each chunk is read with its document's title before it.
    pub title: bool,
    /// Whether each chunk is read with the headings above it.
    pub headings: bool,
}

/// Documents that can be searched.
#[derive(Debug)]
pub struct Index {
    pub(super) store: Arc<dyn VectorStore>,
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) scope: Scope,
    places: Vec<Place>,
    _folder: TempDir,
}

impl Index {
    /// Cuts, embeds and stores documents; `done` hears of the chunks so far and of all.
    pub async fn build(
        models: &Models,
        documents: &[Document],
        cutting: Cutting,
        done: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(|error| Error::internal("no temporary folder can be made", error))?;
        let place =
            vector_store::Config::Edge { path: folder.path().join("vectors"), collection: "documents".to_owned() };
        let store = vector_store::build(&place, models.embedder.model()).await?;
        let catalog = catalog::build(&catalog::Config::Sqlite { path: folder.path().join("catalog.db") }).await?;
        let tenant: TenantId = "evaluation".parse()?;
        let job = begin(&*catalog, &tenant).await?;
        let (passages, places) = cut(&*models.embedder.token_counter(), &job, documents, cutting);
        write(&*models.embedder, &*store, &tenant, passages, done).await?;
        let chunks = u32::try_from(places.len());
        let chunks = chunks.map_err(|error| Error::internal("there are too many chunks", error))?;
        let (version, access_version) = (job.record.version, job.record.access_version);
        let publication = Publication { version, chunks, access_version, title: String::new() };
        catalog.publish(&job.lease, &publication).await?;
        let scope = Scope::new(tenant, vec![Principal::public()]);
        Ok(Self { store, catalog, scope, places, _folder: folder })
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.places.len()
    }

    /// What each chunk is of, by its number.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// What a retrieved passage is of.
    pub fn place(&self, passage: &Passage) -> Option<&Place> {
        self.places.get(passage.chunk.chunk_idx as usize)
    }
}

/// One row of the catalog for all documents: what is measured here is not the catalog.
async fn begin(catalog: &dyn Catalog, tenant: &TenantId) -> Result<Job> {
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
    catalog.put(document, PutMode::Create).await?;
    catalog.claim(HOUR).await?.ok_or_else(|| Error::not_found("job"))
}

fn cut(counter: &dyn TokenCounter, job: &Job, documents: &[Document], cutting: Cutting) -> (Vec<Passage>, Vec<Place>) {
    let (mut passages, mut places) = (Vec::new(), Vec::new());
    for (number, document) in documents.iter().enumerate() {
        let extracted = Extracted {
            media_type: "text/markdown".to_owned(),
            title: None,
            text: document.text.clone(),
            markdown: true,
            pages: Vec::new(),
        };
        let title = if cutting.title { document.title.as_str() } else { "" };
        for mut cut in chunk(&extracted, title, counter, cutting.options) {
            if !cutting.headings {
                cut.headings.clear();
            }
            cut.chunk_idx = u32::try_from(passages.len()).unwrap_or(u32::MAX);
            places.push(Place { document: number, range: cut.start..cut.end });
            passages.push(Passage {
                document_id: job.record.document_id.clone(),
                version: job.record.version,
                title: title.to_owned(),
                metadata: job.record.metadata.clone(),
                chunk: cut,
            });
        }
    }
    (passages, places)
}

async fn write(
    embedder: &dyn Embedder,
    store: &dyn VectorStore,
    tenant: &TenantId,
    passages: Vec<Passage>,
    mut done: impl FnMut(usize, usize),
) -> Result<()> {
    let all = passages.len();
    let bm25 = Bm25::new()?;
    let points = futures::stream::iter(passages).map(|passage| {
        let bm25 = &bm25;
        async move {
            let text = passage.contextual_text();
            let sparse = bm25.document(&text);
            let dense = embedder.embed(vec![text], Priority::Bulk).await?.pop().unwrap_or_default();
            let principals = vec![Principal::public()];
            Ok::<_, Error>(Point { tenant: tenant.clone(), principals, passage, dense, sparse })
        }
    });
    let mut batches = points.buffered(IN_FLIGHT).try_chunks(BATCH);
    let mut stored = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| error.1)?;
        stored += batch.len();
        store.upsert(batch).await?;
        done(stored, all);
    }
    store.optimize().await?;
    Ok(())
}
