//! The seam to vector stores: points in, ranked passages out, never without a scope.

pub mod bm25;
#[cfg(feature = "edge")]
pub mod edge;
mod identity;
pub mod metered;
mod payload;
pub mod qdrant;
mod ranking;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::config::Secret;
use crate::document::{Chunk, DocumentId, Metadata, Passage, Principal, Scope, TenantId, Version, point_id};
use crate::embedding::EmbeddingModel;
use crate::error::{Error, Result};
use crate::resilience;
use crate::retrieve::filter::Filter;
pub use identity::Identity;

/// A sparse vector: token hashes and their weights, made by [`bm25::Bm25`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SparseVector {
    /// Dimension numbers, unique.
    pub indices: Vec<u32>,
    /// One weight per index.
    pub values: Vec<f32>,
}

/// A chunk with its vectors, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Whose it is.
    pub tenant: TenantId,
    /// Who may read it; empty: nobody.
    pub principals: Vec<Principal>,
    /// What is shown when it is found.
    pub passage: Passage,
    /// The embedding, L2-normalised.
    pub dense: Vec<f32>,
    /// The BM25 document vector.
    pub sparse: SparseVector,
}

impl Point {
    /// The deterministic id: writing it again is the same point.
    pub fn id(&self) -> Uuid {
        let passage = &self.passage;
        point_id(&self.tenant, &passage.document_id, passage.version, passage.chunk.chunk_idx)
    }
}

/// What to search for. Both branches are answered in one call, and fused by [`crate::retrieve::fusion`].
#[derive(Debug, Clone, Default)]
pub struct SearchQuery {
    /// The question's embedding, for the dense branch.
    pub dense: Option<Vec<f32>>,
    /// The question's BM25 vector, for the sparse branch.
    pub sparse: Option<SparseVector>,
    /// The user's own filter over metadata; the scope is added by the store, inside both branches.
    pub filter: Option<Filter>,
    /// Contents that the catalog has already refused in this request.
    pub exclude: Vec<(DocumentId, Version)>,
    /// Most hits of each branch.
    pub limit: usize,
}

/// One hit of one branch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The point's id.
    pub id: Uuid,
    /// Cosine similarity (dense) or BM25 (sparse): higher is better.
    pub score: f32,
}

/// What is stored of a hit.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The point's id.
    pub id: Uuid,
    /// Cosine similarity to the question's embedding, where one was given.
    pub cosine: Option<f32>,
    /// What was found.
    pub passage: Passage,
}

/// The hits of both branches, best first; ties by point id, so that both stores agree.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchResults {
    /// Hits by cosine similarity; empty if the branch was not asked for.
    pub dense: Vec<Hit>,
    /// Hits by BM25 with a score above zero; empty if the branch was not asked for.
    pub sparse: Vec<Hit>,
    /// The stored terms of the first of `sparse`, which say how high BM25 can be for this question.
    pub best_terms: SparseVector,
}

/// Which points of a document to delete. There is no way to write "all points".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// All of the document's points.
    All,
    /// Every version but this one (the current one).
    Except(Version),
}

/// What can change of a document without embedding it again.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentAttributes {
    /// Who may read.
    pub principals: Vec<Principal>,
    /// The title that is shown.
    pub title: String,
    /// The metadata that filters see.
    pub metadata: Metadata,
}

/// Keeps points and finds the nearest. Every method is idempotent.
#[async_trait]
pub trait VectorStore: fmt::Debug + Send + Sync {
    /// Writes points; they are visible to searches when this returns, and durable after [`VectorStore::flush`].
    async fn upsert(&self, points: Vec<Point>) -> Result<()>;

    /// Makes everything written before the call survive a power cut. Concurrent calls share one flush.
    async fn flush(&self) -> Result<()>;

    /// The nearest points that `scope` may read and the filter lets through: their ids and scores alone, because a
    /// search finds many more than are shown, and most of its time would go into reading them.
    async fn search(&self, scope: &Scope, query: SearchQuery) -> Result<SearchResults>;

    /// What is stored of these hits, in their order, with the similarity to `question`, an embedding. Those that are
    /// gone by now, or that `scope` may not read any more, are left out.
    async fn passages(&self, scope: &Scope, ids: &[Uuid], question: Option<&[f32]>) -> Result<Vec<Found>>;

    /// Deletes points of one document; durable after [`VectorStore::flush`].
    async fn delete(&self, tenant: &TenantId, document: &DocumentId, versions: Versions) -> Result<()>;

    /// Changes readers, title and metadata of every stored point of a document's version.
    async fn set_attributes(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        attributes: &DocumentAttributes,
    ) -> Result<()>;

    /// Chunks of a document's version with `chunk_idx >= from`, in order, at most `limit`.
    async fn chunks(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        page: ChunkPage,
    ) -> Result<Vec<Chunk>>;

    /// Points of a document's version with `chunk_idx >= from`, vectors and all, in order, at most `limit`. For backups:
    /// it has no scope.
    async fn points(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        page: ChunkPage,
    ) -> Result<Vec<Point>>;

    /// Reaches the store once; an error says why it cannot be reached.
    async fn check(&self) -> Result<()>;

    /// Housekeeping for idle time (index building, vacuum). Returns whether there was work.
    async fn optimize(&self) -> Result<bool>;
}

/// A page of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPage {
    /// First `chunk_idx`.
    pub from: u32,
    /// Most chunks.
    pub limit: usize,
}

/// Where points are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// qdrant-edge, in this process: one folder per collection below `path`.
    Edge {
        /// The folder.
        path: PathBuf,
        /// The collection.
        collection: String,
    },
    /// Qdrant, by gRPC.
    Qdrant {
        /// `http(s)://HOST:PORT`.
        url: String,
        /// Its key, if it wants one.
        api_key: Option<Secret>,
        /// The collection.
        collection: String,
    },
}

/// Opens the configured store for vectors of `model`. Blocks while a local store loads. A server that cannot be reached
/// does not stop the start: the store works once it is there, and [`VectorStore::check`] says so. What is wrong for good
/// (a key, a collection of another model, a server that is too old) does, with
/// [`crate::error::ErrorKind::Config`].
pub async fn build(config: &Config, model: &EmbeddingModel) -> Result<Arc<dyn VectorStore>> {
    match config {
        Config::Edge { path, collection } => open_edge(path, collection, model),
        Config::Qdrant { url, api_key, collection } => {
            refuse_odd(collection)?;
            let store = qdrant::QdrantStore::new(url, api_key.as_ref(), collection, model)?;
            store.start().await?;
            Ok(resilience::retrying_store(Arc::new(store)))
        }
    }
}

/// What a collection's name may be, for messages.
pub(crate) const COLLECTION_NAME: &str = "1 to 64 of the characters A-Z a-z 0-9 - _";

/// Whether a collection may have this name, which is also its folder's.
pub(crate) fn is_collection_name(name: &str) -> bool {
    let sane = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=64).contains(&name.len()) && name.chars().all(sane)
}

fn refuse_odd(collection: &str) -> Result<()> {
    match is_collection_name(collection) {
        true => Ok(()),
        false => Err(Error::config(format!("RAG_VECTOR_DB_COLLECTION must be {COLLECTION_NAME}"))),
    }
}

fn open_edge(path: &std::path::Path, collection: &str, model: &EmbeddingModel) -> Result<Arc<dyn VectorStore>> {
    refuse_odd(collection)?;
    #[cfg(feature = "edge")]
    {
        Ok(Arc::new(edge::EdgeStore::open(&path.join(collection), model)?))
    }
    #[cfg(not(feature = "edge"))]
    {
        let _ = (path, model);
        Err(Error::config("RAG_VECTOR_DB_URL is `edge:` and this binary was built without the feature `edge`"))
    }
}
