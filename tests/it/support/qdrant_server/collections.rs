//! The service of collections.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use qdrant_client::qdrant::collections_server::Collections;
use qdrant_client::qdrant::{self as proto, CollectionOperationResponse, GetCollectionInfoResponse};
use tonic::{Request, Response, Status};

use super::collection::Collection;
use super::points::unsupported;
use super::{Call, Fault, State};

#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<State>);

#[tonic::async_trait]
impl Collections for Service {
    async fn get(
        &self,
        request: Request<proto::GetCollectionInfoRequest>,
    ) -> Result<Response<GetCollectionInfoResponse>, Status> {
        self.0.enter(Call::read("collection_info")).await?;
        let collection = self.0.collection(&request.into_inner().collection_name)?;
        Ok(Response::new(GetCollectionInfoResponse { result: Some(collection.info()), time: 0.0 }))
    }

    async fn create(
        &self,
        request: Request<proto::CreateCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let fault = self.0.enter(Call::read("create_collection")).await?;
        let request = request.into_inner();
        match self.0.collections.lock().unwrap().entry(request.collection_name.clone()) {
            Entry::Occupied(entry) => {
                Err(Status::already_exists(format!("Collection `{}` already exists!", entry.key())))
            }
            Entry::Vacant(entry) => {
                entry.insert(Arc::new(Collection::new(request)?));
                if fault == Some(Fault::AnswerLost) {
                    return Err(Status::unavailable("told to lose the answer"));
                }
                Ok(Response::new(CollectionOperationResponse { result: true, time: 0.0 }))
            }
        }
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        self.0.enter(Call::read("delete_collection")).await?;
        let gone = self.0.collections.lock().unwrap().remove(&request.into_inner().collection_name);
        Ok(Response::new(CollectionOperationResponse { result: gone.is_some(), time: 0.0 }))
    }

    unsupported! {
        list(ListCollectionsRequest) -> ListCollectionsResponse;
        update(UpdateCollection) -> CollectionOperationResponse;
        update_aliases(ChangeAliases) -> CollectionOperationResponse;
        list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse;
        list_aliases(ListAliasesRequest) -> ListAliasesResponse;
        collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
        collection_exists(CollectionExistsRequest) -> CollectionExistsResponse;
        update_collection_cluster_setup(UpdateCollectionClusterSetupRequest) -> UpdateCollectionClusterSetupResponse;
        create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
        delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
        list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
    }
}
