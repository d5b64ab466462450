//! qdrant-edge: the vector store in this process, in one folder.
//!
//! Every call of the engine blocks, so it runs on the runtime's blocking threads, behind semaphores: one writer, as
//! many searches as there are cores (each shares the engine's own pool, which has as many threads), one optimization.
//! A caller that goes away leaves the queue; what has begun is finished.
//!
//! Written operations survive a crash of the process at once (they are in the engine's log) and a power cut after
//! [`VectorStore::flush`], which makes the log durable. The segments follow when the log has grown, when the process is
//! idle, and when the store is dropped; what the log then holds need not be applied again at the next start.

mod fetch;
mod filter;
mod identity;
mod log;
mod point;
#[cfg(test)]
mod samples;
mod schema;
mod search;
mod terms;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use qdrant_edge::{
    EdgeShard, OperationError, Payload, PayloadOps, PointInsertOperations, PointOperations, SetPayloadOp,
    UpdateOperation,
};
use tokio::sync::{Mutex, Semaphore};
use uuid::Uuid;

use crate::document::{Chunk, DocumentId, Scope, TenantId, Version};
use crate::embedding::EmbeddingModel;
use crate::error::{Error, ErrorKind, Result};
use crate::vector_store::payload;
use crate::vector_store::{
    ChunkPage, DocumentAttributes, Found, Point, SearchQuery, SearchResults, VectorStore, Versions,
};
use search::Searcher;
use terms::Terms;

/// Names of the two vectors of a point.
const DENSE: &str = "dense";
const SPARSE: &str = "bm25";

/// The engine's name for the folder of its log.
const LOG_FOLDER: &str = "wal";

/// Bytes of the log above which the segments are written out: some 5,000 points, applied again in half a second.
const LOG_LIMIT: u64 = 32 * 1024 * 1024;

/// Points of one logged operation: bounds the log segment and how long searches may wait for a writer.
const UPSERT_BATCH: usize = 256;

/// A collection of qdrant-edge.
#[derive(Debug)]
pub struct EdgeStore {
    collection: Arc<Collection>,
    /// Where the engine keeps its log.
    log: Arc<Path>,
    writers: Arc<Semaphore>,
    searches: Arc<Semaphore>,
    optimizations: Arc<Semaphore>,
    /// One tenant's terms are counted at a time.
    counts: Arc<Semaphore>,
    terms: Arc<Terms>,
    /// Something was written since the last optimization.
    changed: AtomicBool,
    /// Numbers of the calls of `flush`, and the highest that a finished flush covers.
    flush_calls: AtomicU64,
    flushed: Mutex<u64>,
}

/// The engine, and the lock on its folder: dropped in this order, and the engine flushes when it is dropped.
#[derive(Debug)]
struct Collection {
    shard: EdgeShard,
    _lock: std::fs::File,
}

impl EdgeStore {
    /// Opens the collection in `folder`, or makes it. Blocks, longer if a crash left a log to replay. Fails with
    /// [`ErrorKind::Config`] if another process has it, or another model filled it.
    pub fn open(folder: &Path, model: &EmbeddingModel) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| identity::cannot(folder, "make", error))?;
        let lock = identity::lock(folder)?;
        identity::claim(folder, model)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let shard_folder = folder.join("shard");
        std::fs::create_dir_all(&shard_folder).map_err(|error| identity::cannot(folder, "write to", error))?;
        // `load` also makes what is not there, so that a crash in the middle of making it is repaired.
        let shard = EdgeShard::load(&shard_folder, Some(schema::config(model, threads)))
            .and_then(|shard| schema::create_indexes(&shard).map(|()| shard))
            .map_err(|error| {
                Error::config(format!("cannot open the vector store in {}: {error}", folder.display()))
                    .with_source(error)
            })?;
        Ok(Self {
            collection: Arc::new(Collection { shard, _lock: lock }),
            log: shard_folder.join(LOG_FOLDER).into(),
            writers: Arc::new(Semaphore::new(1)),
            searches: Arc::new(Semaphore::new(threads)),
            optimizations: Arc::new(Semaphore::new(1)),
            counts: Arc::new(Semaphore::new(1)),
            terms: Arc::new(Terms::new()),
            changed: AtomicBool::new(true),
            flush_calls: AtomicU64::new(0),
            flushed: Mutex::new(0),
        })
    }

    /// Runs blocking `work` on a thread of its own, once `queue` lets it.
    async fn run<T: Send + 'static>(
        &self,
        queue: &Arc<Semaphore>,
        work: impl FnOnce(&EdgeShard) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let closed = |error| Error::internal("the vector store's queue is closed", error);
        let permit = Arc::clone(queue).acquire_owned().await.map_err(closed)?;
        let collection = Arc::clone(&self.collection);
        let task = tokio::task::spawn_blocking(move || {
            // The permit goes with the work: a caller that is dropped does not let another writer in.
            let _permit = permit;
            work(&collection.shard)
        });
        task.await.map_err(|error| Error::internal("the vector store failed", error))?
    }

    /// Counts a tenant's terms in the background; searches let the engine count until that is done.
    fn read_terms(&self, tenant: TenantId) {
        let (collection, terms, counts) =
            (Arc::clone(&self.collection), Arc::clone(&self.terms), Arc::clone(&self.counts));
        tokio::spawn(async move {
            let permit = counts.acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                if let Err(error) = terms.read(&collection.shard, &tenant, &filter::tenant(&tenant)) {
                    tracing::warn!(error = error.chain(), "the terms of a tenant could not be counted");
                }
            })
        });
    }

    /// Writes the segments out, so that the log can begin anew.
    async fn checkpoint(&self) -> Result<()> {
        self.run(&self.writers, |shard| shard.flush().map_err(failed)).await
    }

    /// Changes the collection, once it is this caller's turn.
    async fn write(&self, work: impl FnOnce(&EdgeShard) -> Result<()> + Send + 'static) -> Result<()> {
        self.changed.store(true, Ordering::SeqCst);
        self.run(&self.writers, work).await
    }

    async fn update(&self, operation: UpdateOperation) -> Result<()> {
        self.write(move |shard| shard.update(operation).map_err(failed)).await
    }
}

#[async_trait]
impl VectorStore for EdgeStore {
    async fn upsert(&self, points: Vec<Point>) -> Result<()> {
        self.terms.written(points.iter().map(|point| (&point.tenant, &point.sparse)));
        let points = points.into_iter().map(point::to_edge).collect::<Result<Vec<_>>>()?;
        let mut points = points.into_iter().peekable();
        while points.peek().is_some() {
            let batch = points.by_ref().take(UPSERT_BATCH).collect();
            let insert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(batch));
            self.update(UpdateOperation::PointOperation(insert)).await?;
        }
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        let call = self.flush_calls.fetch_add(1, Ordering::SeqCst) + 1;
        let mut flushed = self.flushed.lock().await;
        if *flushed >= call {
            return Ok(());
        }
        // All calls counted by now made their writes before this flush begins.
        let covered = self.flush_calls.load(Ordering::SeqCst);
        let log = Arc::clone(&self.log);
        // Beside the writers: what they log meanwhile is not this call's.
        let bytes = tokio::task::spawn_blocking(move || log::sync(&log).and_then(|()| log::bytes(&log)))
            .await
            .map_err(|error| Error::internal("the vector store failed", error))?
            .map_err(|error| Error::unavailable("the vector store's log cannot be written", error))?;
        if bytes > LOG_LIMIT {
            self.checkpoint().await?;
        }
        *flushed = covered;
        Ok(())
    }

    async fn search(&self, scope: &Scope, query: SearchQuery) -> Result<SearchResults> {
        let Some(visible) = filter::visible(scope, &query.exclude, query.filter.clone()) else {
            return Ok(SearchResults::default());
        };
        let searcher = Searcher { visible, tenant: scope.tenant().clone() };
        let (terms, ranks_terms) = (Arc::clone(&self.terms), query.sparse.is_some());
        let work = move |shard: &EdgeShard| {
            let results = search::search(shard, &searcher, &terms, query)?;
            let tenant = searcher.tenant;
            let must_read = ranks_terms && terms.must_read(shard, &tenant, &filter::tenant(&tenant))?;
            Ok((results, must_read.then_some(tenant)))
        };
        let (results, must_read) = self.run(&self.searches, work).await?;
        if let Some(tenant) = must_read {
            self.read_terms(tenant);
        }
        Ok(results)
    }

    async fn passages(&self, scope: &Scope, ids: &[Uuid], question: Option<&[f32]>) -> Result<Vec<Found>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let (scope, ids, question) = (scope.clone(), ids.to_vec(), question.map(<[f32]>::to_vec));
        self.run(&self.searches, move |shard| fetch::passages(shard, &scope, ids, question.as_deref())).await
    }

    async fn delete(&self, tenant: &TenantId, document: &DocumentId, versions: Versions) -> Result<()> {
        let filter = match versions {
            Versions::All => filter::document(tenant, document),
            Versions::Except(version) => filter::document_except(tenant, document, version),
        };
        let (terms, tenant) = (Arc::clone(&self.terms), tenant.clone());
        self.write(move |shard| {
            terms.deleting(shard, &tenant, &filter)?;
            let delete = UpdateOperation::PointOperation(PointOperations::DeletePointsByFilter(filter));
            shard.update(delete).map_err(failed)
        })
        .await
    }

    async fn set_attributes(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        attributes: &DocumentAttributes,
    ) -> Result<()> {
        let set = SetPayloadOp {
            payload: Payload(payload::of_attributes(attributes)),
            points: None,
            filter: Some(filter::document_version(tenant, document, version)),
            key: None,
        };
        self.update(UpdateOperation::PayloadOperation(PayloadOps::SetPayload(set))).await
    }

    async fn chunks(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        page: ChunkPage,
    ) -> Result<Vec<Chunk>> {
        let Some(request) = fetch::page(tenant, document, version, page) else { return Ok(Vec::new()) };
        self.run(&self.searches, move |shard| fetch::chunks(shard, request)).await
    }

    async fn points(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        page: ChunkPage,
    ) -> Result<Vec<Point>> {
        let Some(request) = fetch::page(tenant, document, version, page) else { return Ok(Vec::new()) };
        self.run(&self.searches, move |shard| fetch::points(shard, request)).await
    }

    async fn check(&self) -> Result<()> {
        self.run(&self.searches, |shard| shard.info().map(|_| ()).map_err(failed)).await
    }

    async fn optimize(&self) -> Result<bool> {
        if !self.changed.swap(false, Ordering::SeqCst) {
            return Ok(false);
        }
        crate::hold::passing("optimize");
        // Beside the writers: the engine redirects writes while it rebuilds a segment.
        let worked = self.run(&self.optimizations, |shard| shard.optimize().map_err(failed)).await?;
        // The replaced segments leave the disk once the new ones are durable.
        self.checkpoint().await?;
        Ok(worked)
    }
}

/// An error of the engine: what the machine did may pass, what it was asked to do will not.
fn failed(error: OperationError) -> Error {
    let kind = match error {
        OperationError::ServiceError { .. }
        | OperationError::OutOfMemory { .. }
        | OperationError::Cancelled { .. }
        | OperationError::Timeout { .. } => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, "the vector store failed").with_source(error)
}
