//! Qdrant: the vector store that replicas share, over gRPC.
//!
//! Every write waits until it is applied (`wait`) and passes one node per shard (`ordering`), so that what returned is
//! seen by the next search, and a deletion never overtakes what was written before it. Ids are deterministic: a write
//! that is sent twice is one.

mod filter;
mod point;
mod schema;
mod search;
mod server;
mod value;

use async_trait::async_trait;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::{
    DeletePoints, Filter as QdrantFilter, OrderBy, PointsOperationResponse, PointsSelector, RetrievedPoint,
    ScrollPoints, SetPayloadPoints, UpdateStatus, UpsertPoints, WriteOrdering, WriteOrderingType,
};
use tokio::sync::OnceCell;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::config::Secret;
use crate::document::{Chunk, DocumentId, Scope, TenantId, Version};
use crate::embedding::EmbeddingModel;
use crate::error::{Error, ErrorKind, Result};
use crate::vector_store::payload::{self, key};
use crate::vector_store::{
    ChunkPage, DocumentAttributes, Found, Point, SearchQuery, SearchResults, VectorStore, Versions,
};
use search::Branches;
use server::{READ_LIMIT, Server, WRITE_LIMIT};

/// Names of the two vectors of a point.
const DENSE: &str = "dense";
const SPARSE: &str = "bm25";

/// Through one elected node of a shard, one write after the other. (The strong ordering is through a fixed node: nothing
/// can be written while that one is down.)
fn ordering() -> Option<WriteOrdering> {
    Some(WriteOrdering { r#type: WriteOrderingType::Medium.into() })
}

/// A collection of a Qdrant server.
#[derive(Debug)]
pub struct QdrantStore {
    server: Server,
    collection: String,
    model: EmbeddingModel,
    /// The collection is there, and is ours.
    checked: OnceCell<()>,
}

impl QdrantStore {
    /// The collection at `url`, `http(s)://HOST:PORT`. Connects when it is first used; that also makes the collection,
    /// or fails with [`ErrorKind::Config`] if it is not one for vectors of `model`.
    pub fn new(url: &str, api_key: Option<&Secret>, collection: &str, model: &EmbeddingModel) -> Result<Self> {
        Ok(Self {
            server: Server::new(url, api_key)?,
            collection: collection.to_owned(),
            model: model.clone(),
            checked: OnceCell::new(),
        })
    }

    /// Looks at the server when the process starts. What may pass is a warning, and what is wrong for good an error.
    pub async fn start(&self) -> Result<()> {
        let Err(error) = self.check().await else { return Ok(()) };
        if error.kind() == ErrorKind::Config {
            return Err(error);
        }
        if self.server.is_rest().await {
            let url = self.server.url();
            let slip = format!("RAG_VECTOR_DB_URL: {url} is Qdrant's REST, and its gRPC (port 6334) is needed");
            return Err(Error::config(slip).with_source(error));
        }
        tracing::warn!(error = error.chain(), "the vector store cannot be used yet");
        Ok(())
    }

    /// The server, once the collection is there.
    async fn server(&self) -> Result<&Server> {
        self.checked.get_or_try_init(|| schema::ensure(&self.server, &self.collection, &self.model)).await?;
        Ok(&self.server)
    }

    /// What a write came to: it must have been applied, not only noted.
    async fn applied(
        &self,
        write: impl Future<Output = std::result::Result<Response<PointsOperationResponse>, Status>>,
    ) -> Result<()> {
        let answer = self.server.answer(WRITE_LIMIT, write).await?;
        match answer.result.map(|result| result.status()) {
            Some(UpdateStatus::Completed) => Ok(()),
            status => {
                let name = status.map_or("without a status", |status| status.as_str_name());
                let cause = format!("a write came back {name}");
                Err(Error::new(ErrorKind::Timeout, "the vector store took too long").with_source(cause))
            }
        }
    }

    /// Stored points of a version in order, with or without their vectors.
    async fn page(
        &self,
        (tenant, document, version): (&TenantId, &DocumentId, Version),
        page: ChunkPage,
        with_vectors: bool,
    ) -> Result<Vec<RetrievedPoint>> {
        if page.limit == 0 {
            return Ok(Vec::new());
        }
        let request = ScrollPoints {
            collection_name: self.collection.clone(),
            filter: Some(filter::chunks_from(tenant, document, version, page.from)),
            limit: Some(u32::try_from(page.limit).unwrap_or(u32::MAX)),
            with_payload: Some(true.into()),
            with_vectors: Some(with_vectors.into()),
            order_by: Some(OrderBy { key: key::CHUNK_IDX.to_owned(), ..OrderBy::default() }),
            timeout: Some(READ_LIMIT.as_secs()),
            ..ScrollPoints::default()
        };
        let server = self.server().await?;
        let answer = server.answer(READ_LIMIT, server.reads().scroll(request)).await?;
        Ok(answer.result)
    }
}

#[async_trait]
impl VectorStore for QdrantStore {
    async fn upsert(&self, points: Vec<Point>) -> Result<()> {
        let server = self.server().await?;
        let points = points.into_iter().map(point::to_qdrant).collect::<Result<Vec<_>>>()?;
        for points in point::batches(points) {
            let request = UpsertPoints {
                collection_name: self.collection.clone(),
                wait: Some(true),
                points,
                ordering: ordering(),
                ..UpsertPoints::default()
            };
            self.applied(server.writes().upsert(request)).await?;
        }
        Ok(())
    }

    /// Nothing to do: a write that returned is in the logs of as many nodes as the collection's write consistency says,
    /// and how soon these reach the disk is the server's configuration.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn search(&self, scope: &Scope, query: SearchQuery) -> Result<SearchResults> {
        let Some(visible) = filter::visible(scope, &query.exclude, query.filter.clone()) else {
            return Ok(SearchResults::default());
        };
        let corpus = filter::tenant(scope.tenant());
        let branches = Branches::new(self.server().await?, &self.collection, [visible, corpus], &query);
        branches.search(query.limit).await
    }

    async fn passages(&self, scope: &Scope, ids: &[Uuid], question: Option<&[f32]>) -> Result<Vec<Found>> {
        search::passages(self.server().await?, &self.collection, scope, ids, question).await
    }

    async fn delete(&self, tenant: &TenantId, document: &DocumentId, versions: Versions) -> Result<()> {
        let filter = match versions {
            Versions::All => filter::document(tenant, document),
            Versions::Except(version) => filter::document_except(tenant, document, version),
        };
        let request = DeletePoints {
            collection_name: self.collection.clone(),
            wait: Some(true),
            points: Some(selected(filter)),
            ordering: ordering(),
            ..DeletePoints::default()
        };
        self.applied(self.server().await?.writes().delete(request)).await
    }

    async fn set_attributes(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        attributes: &DocumentAttributes,
    ) -> Result<()> {
        let request = SetPayloadPoints {
            collection_name: self.collection.clone(),
            wait: Some(true),
            payload: value::to_qdrant(payload::of_attributes(attributes)),
            points_selector: Some(selected(filter::document_version(tenant, document, version))),
            ordering: ordering(),
            ..SetPayloadPoints::default()
        };
        self.applied(self.server().await?.writes().set_payload(request)).await
    }

    async fn chunks(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        page: ChunkPage,
    ) -> Result<Vec<Chunk>> {
        let points = self.page((tenant, document, version), page, false).await?;
        points.into_iter().map(|point| payload::chunk(value::from_qdrant(point.payload))).collect()
    }

    async fn points(
        &self,
        tenant: &TenantId,
        document: &DocumentId,
        version: Version,
        page: ChunkPage,
    ) -> Result<Vec<Point>> {
        let points = self.page((tenant, document, version), page, true).await?;
        let points = points.into_iter().map(|point| {
            let (dense, sparse) = point::vectors(point.vectors);
            payload::point(value::from_qdrant(point.payload), dense, sparse)
        });
        points.collect()
    }

    async fn check(&self) -> Result<()> {
        match schema::find(self.server().await?, &self.collection).await? {
            Some(_) => Ok(()),
            None => {
                let message = format!("the Qdrant collection {} is gone: a restart makes it anew", self.collection);
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }

    /// The server does its housekeeping by itself.
    async fn optimize(&self) -> Result<bool> {
        Ok(false)
    }
}

fn selected(filter: QdrantFilter) -> PointsSelector {
    PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Filter(filter)) }
}
