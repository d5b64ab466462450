//! The service of points.

use std::sync::Arc;

use qdrant_client::qdrant::points_server::Points;
use qdrant_client::qdrant::{self as proto, PointsOperationResponse, UpdateResult, UpdateStatus};
use qdrant_edge::{
    OrderBy, OrderByInterface, PayloadOps, PointInsertOperations, PointOperations, QueryBatchRequest, RetrieveRequest,
    ScrollRequest, SetPayloadOp, UpdateOperation,
};
use tonic::{Request, Response, Status};

use super::collection::Collection;
use super::{Call, Fault, State, convert, value};

/// Methods that nobody calls, refused as a server refuses what it does not have.
macro_rules! unsupported {
    ($($name:ident($request:ident) -> $response:ident;)*) => {
        $(
            fn $name<'life0, 'async_trait>(
                &'life0 self,
                _: Request<proto::$request>,
            ) -> std::pin::Pin<
                Box<dyn Future<Output = Result<Response<proto::$response>, Status>> + Send + 'async_trait>,
            >
            where
                'life0: 'async_trait,
                Self: 'async_trait,
            {
                Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
            }
        )*
    };
}
pub(super) use unsupported;

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<State>);

/// The engine blocks.
async fn blocking<T: Send + 'static>(
    collection: Arc<Collection>,
    work: impl FnOnce(&Collection) -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let task = tokio::task::spawn_blocking(move || work(&collection));
    task.await.unwrap_or_else(|error| Err(Status::internal(format!("the test server failed: {error}"))))
}

impl Service {
    /// Applies a write, or keeps it for later where nobody waits.
    async fn write(
        &self,
        name: &str,
        call: Call,
        operation: UpdateOperation,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let wait = call.wait.unwrap_or(false);
        let fault = self.0.enter(call).await?;
        let operations = match fault {
            Some(Fault::Twice) => vec![operation.clone(), operation],
            _ => vec![operation],
        };
        let collection = self.0.collection(name)?;
        blocking(collection, move |collection| collection.write(operations, wait)).await?;
        if fault == Some(Fault::AnswerLost) {
            return Err(Status::unavailable("told to lose the answer"));
        }
        let status = if wait { UpdateStatus::Completed } else { UpdateStatus::Acknowledged };
        let result = UpdateResult { operation_id: Some(0), status: status.into() };
        Ok(Response::new(PointsOperationResponse { result: Some(result), ..PointsOperationResponse::default() }))
    }
}

fn call(method: &'static str, wait: Option<bool>, ordering: Option<proto::WriteOrdering>, points: usize) -> Call {
    Call { method, wait: Some(wait.unwrap_or(false)), ordering: ordering.map(|ordering| ordering.r#type), points }
}

#[tonic::async_trait]
impl Points for Service {
    async fn upsert(&self, request: Request<proto::UpsertPoints>) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let call = call("upsert", request.wait, request.ordering, request.points.len());
        let points = request.points.into_iter().map(convert::point).collect::<Result<Vec<_>, _>>()?;
        let insert = PointOperations::UpsertPoints(PointInsertOperations::PointsList(points));
        self.write(&request.collection_name, call, UpdateOperation::PointOperation(insert)).await
    }

    async fn delete(&self, request: Request<proto::DeletePoints>) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let call = call("delete", request.wait, request.ordering, 0);
        let delete = PointOperations::DeletePointsByFilter(convert::selected(request.points)?);
        self.write(&request.collection_name, call, UpdateOperation::PointOperation(delete)).await
    }

    async fn set_payload(
        &self,
        request: Request<proto::SetPayloadPoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        let call = call("set_payload", request.wait, request.ordering, 0);
        let set = SetPayloadOp {
            payload: value::payload(request.payload)?,
            points: None,
            filter: Some(convert::selected(request.points_selector)?),
            key: request.key.as_deref().map(convert::path).transpose()?,
        };
        let operation = UpdateOperation::PayloadOperation(PayloadOps::SetPayload(set));
        self.write(&request.collection_name, call, operation).await
    }

    async fn create_field_index(
        &self,
        request: Request<proto::CreateFieldIndexCollection>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        self.0.enter(call("create_field_index", request.wait, request.ordering, 0)).await?;
        let collection = self.0.collection(&request.collection_name)?;
        blocking(collection, move |collection| collection.create_index(request)).await?;
        let result = UpdateResult { operation_id: Some(0), status: UpdateStatus::Completed.into() };
        Ok(Response::new(PointsOperationResponse { result: Some(result), ..PointsOperationResponse::default() }))
    }

    async fn get(&self, request: Request<proto::GetPoints>) -> Result<Response<proto::GetResponse>, Status> {
        self.0.enter(Call::read("get")).await?;
        let request = request.into_inner();
        let retrieve = RetrieveRequest {
            point_ids: request.ids.into_iter().map(|id| convert::id(Some(id))).collect::<Result<_, _>>()?,
            with_payload: convert::with_payload(request.with_payload)?,
            with_vector: Some(convert::with_vectors(request.with_vectors)),
        };
        let collection = self.0.collection(&request.collection_name)?;
        let records =
            blocking(collection, move |collection| collection.shard.retrieve(retrieve).map_err(convert::refused))
                .await?;
        let result = records.into_iter().map(convert::retrieved).collect();
        Ok(Response::new(proto::GetResponse { result, ..proto::GetResponse::default() }))
    }

    async fn scroll(&self, request: Request<proto::ScrollPoints>) -> Result<Response<proto::ScrollResponse>, Status> {
        self.0.enter(Call::read("scroll")).await?;
        let request = request.into_inner();
        let order = |order: proto::OrderBy| {
            let key = convert::path(&order.key)?;
            Ok::<_, Status>(OrderByInterface::Struct(OrderBy { key, direction: None, start_from: None }))
        };
        let scroll = ScrollRequest {
            offset: request.offset.map(|id| convert::id(Some(id))).transpose()?,
            limit: request.limit.map(|limit| limit as usize),
            filter: request.filter.map(convert::filter).transpose()?,
            with_payload: convert::with_payload(request.with_payload)?,
            with_vector: convert::with_vectors(request.with_vectors),
            order_by: request.order_by.map(order).transpose()?,
        };
        let collection = self.0.collection(&request.collection_name)?;
        let (records, next) =
            blocking(collection, move |collection| collection.shard.scroll(scroll).map_err(convert::refused)).await?;
        let result = records.into_iter().map(convert::retrieved).collect();
        let next_page_offset = next.map(convert::proto_id);
        Ok(Response::new(proto::ScrollResponse { result, next_page_offset, ..proto::ScrollResponse::default() }))
    }

    async fn query(&self, request: Request<proto::QueryPoints>) -> Result<Response<proto::QueryResponse>, Status> {
        self.0.enter(Call::read("query")).await?;
        let request = request.into_inner();
        let collection = self.0.collection(&request.collection_name)?;
        let query = convert::query(request)?;
        let points =
            blocking(collection, move |collection| collection.shard.query(query).map_err(convert::refused)).await?;
        let result = points.into_iter().map(convert::scored).collect();
        Ok(Response::new(proto::QueryResponse { result, ..proto::QueryResponse::default() }))
    }

    async fn query_batch(
        &self,
        request: Request<proto::QueryBatchPoints>,
    ) -> Result<Response<proto::QueryBatchResponse>, Status> {
        self.0.enter(Call::read("query_batch")).await?;
        let request = request.into_inner();
        let collection = self.0.collection(&request.collection_name)?;
        let queries = request.query_points.into_iter().map(convert::query).collect::<Result<Vec<_>, _>>()?;
        let lists = blocking(collection, move |collection| {
            collection.shard.query_batch(QueryBatchRequest::new(queries)).map_err(convert::refused)
        })
        .await?;
        let batch = |list: Vec<_>| proto::BatchResult { result: list.into_iter().map(convert::scored).collect() };
        let result = lists.into_iter().map(batch).collect();
        Ok(Response::new(proto::QueryBatchResponse { result, ..proto::QueryBatchResponse::default() }))
    }

    unsupported! {
        update_vectors(UpdatePointVectors) -> PointsOperationResponse;
        delete_vectors(DeletePointVectors) -> PointsOperationResponse;
        overwrite_payload(SetPayloadPoints) -> PointsOperationResponse;
        delete_payload(DeletePayloadPoints) -> PointsOperationResponse;
        clear_payload(ClearPayloadPoints) -> PointsOperationResponse;
        delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse;
        create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
        delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
        search(SearchPoints) -> SearchResponse;
        search_batch(SearchBatchPoints) -> SearchBatchResponse;
        search_groups(SearchPointGroups) -> SearchGroupsResponse;
        recommend(RecommendPoints) -> RecommendResponse;
        recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
        recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
        discover(DiscoverPoints) -> DiscoverResponse;
        discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
        count(CountPoints) -> CountResponse;
        update_batch(UpdateBatchPoints) -> UpdateBatchResponse;
        query_groups(QueryPointGroups) -> QueryGroupsResponse;
        facet(FacetCounts) -> FacetResponse;
        search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
        search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
    }
}
