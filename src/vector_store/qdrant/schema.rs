//! How Qdrant keeps a collection, and whether the one that is there is ours.
//!
//! How many shards and replicas a new collection gets is the server's own configuration
//! (`storage.collection.replication_factor` and its kin), since it is a matter of its nodes.

use std::collections::HashMap;

use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::vectors_config::Config as VectorsKind;
use qdrant_client::qdrant::{
    CollectionInfo, CreateCollection, CreateFieldIndexCollection, Distance, FieldType, GetCollectionInfoRequest,
    HealthCheckRequest, IntegerIndexParams, KeywordIndexParams, Modifier, PayloadIndexParams, SparseVectorConfig,
    SparseVectorParams, StrictModeConfig, VectorParams, VectorParamsMap, VectorsConfig,
};
use serde_json::Value;

use super::server::{READ_LIMIT, Server, WRITE_LIMIT};
use super::{DENSE, SPARSE, ordering, value};
use crate::embedding::EmbeddingModel;
use crate::error::{Error, ErrorKind, Result};
use crate::vector_store::identity::Identity;
use crate::vector_store::payload::{Fields, key};

/// The first Qdrant that takes IDF over a part of a collection. An older one ignores the part: what other tenants store
/// would change a tenant's scores.
const MINIMUM_VERSION: (u32, u32) = (1, 19);

/// Where a collection's metadata has its [`Identity`]. It is written with the collection, in one step: between replicas
/// that start at once there is no moment at which the collection is there and nobody knows whose it is.
const IDENTITY: &str = "rag_api";

/// Makes the collection and its indexes unless they are there, by any number of replicas at once. Fails with
/// [`ErrorKind::Config`] if the server is too old, or the collection is not one for vectors of `model`.
pub(super) async fn ensure(server: &Server, collection: &str, model: &EmbeddingModel) -> Result<()> {
    let reply = server.answer(READ_LIMIT, server.health().health_check(HealthCheckRequest {})).await?;
    refuse_old(server, &reply.version)?;
    let info = match find(server, collection).await? {
        Some(info) => info,
        None => create(server, collection, model).await?,
    };
    if let Some(conflict) = conflict(&info, model) {
        return Err(Error::config(format!(
            "the Qdrant collection {collection} at {} {conflict}: set another RAG_VECTOR_DB_COLLECTION or remove it, and \
             run `rag-api reindex`",
            server.url()
        )));
    }
    create_indexes(server, collection, &info).await
}

fn refuse_old(server: &Server, version: &str) -> Result<()> {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= MINIMUM_VERSION {
        return Ok(());
    }
    let (major, minor) = MINIMUM_VERSION;
    Err(Error::config(format!(
        "RAG_VECTOR_DB_URL: Qdrant at {} is version {version:?}, and {major}.{minor} or newer is needed",
        server.url()
    )))
}

/// Whether the collection is there.
pub(super) async fn find(server: &Server, collection: &str) -> Result<Option<CollectionInfo>> {
    let request = GetCollectionInfoRequest { collection_name: collection.to_owned() };
    let mut collections = server.collections();
    let found = async {
        match collections.get(request).await {
            Err(status) if status.code() == tonic::Code::NotFound => Ok(tonic::Response::new(None)),
            answer => answer.map(|answer| answer.map(|answer| answer.result)),
        }
    };
    server.answer(READ_LIMIT, found).await
}

/// Makes the collection, or finds the one that another replica made meanwhile.
async fn create(server: &Server, collection: &str, model: &EmbeddingModel) -> Result<CollectionInfo> {
    let request = creation(collection, model)?;
    let created = server.answer(WRITE_LIMIT, server.collections().create(request)).await;
    match (find(server, collection).await?, created) {
        (Some(info), _) => Ok(info),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => {
            Err(Error::new(ErrorKind::Unavailable, format!("the Qdrant collection {collection} is not there yet")))
        }
    }
}

fn creation(collection: &str, model: &EmbeddingModel) -> Result<CreateCollection> {
    let dense =
        VectorParams { size: model.dimensions as u64, distance: Distance::Cosine.into(), ..VectorParams::default() };
    let dense = VectorParamsMap { map: HashMap::from([(DENSE.to_owned(), dense)]) };
    let sparse = SparseVectorParams { index: None, modifier: Some(Modifier::Idf.into()) };
    let identity = serde_json::to_value(Identity::of(model))
        .map_err(|error| Error::internal("a collection's identity cannot be written", error))?;
    let metadata = Fields::from_iter([(IDENTITY.to_owned(), identity)]);
    Ok(CreateCollection {
        collection_name: collection.to_owned(),
        vectors_config: Some(VectorsConfig { config: Some(VectorsKind::ParamsMap(dense)) }),
        sparse_vectors_config: Some(SparseVectorConfig { map: HashMap::from([(SPARSE.to_owned(), sparse)]) }),
        // Users filter by metadata of any name, which no index is made for.
        strict_mode_config: Some(StrictModeConfig {
            unindexed_filtering_retrieve: Some(true),
            ..StrictModeConfig::default()
        }),
        metadata: value::to_qdrant(metadata),
        ..CreateCollection::default()
    })
}

/// Why a collection cannot be used for vectors of `model`, after its name.
fn conflict(info: &CollectionInfo, model: &EmbeddingModel) -> Option<String> {
    let config = info.config.as_ref();
    let metadata = config.map(|config| value::from_qdrant(config.metadata.clone())).unwrap_or_default();
    let Some(identity) = metadata.get(IDENTITY) else { return Some("was not made by rag-api".to_owned()) };
    let Ok(identity) = serde_json::from_value::<Identity>(Value::clone(identity)) else {
        return Some("was made by a newer version of rag-api".to_owned());
    };
    identity.conflict(&Identity::of(model)).or_else(|| {
        let is_ours = config.and_then(|config| config.params.as_ref()).is_some_and(|params| {
            let dense = params.vectors_config.as_ref().and_then(|vectors| match vectors.config.as_ref()? {
                VectorsKind::ParamsMap(vectors) => vectors.map.get(DENSE),
                VectorsKind::Params(_) => None,
            });
            let sparse = params.sparse_vectors_config.as_ref().and_then(|vectors| vectors.map.get(SPARSE));
            dense.is_some_and(|dense| dense.size == model.dimensions as u64 && dense.distance() == Distance::Cosine)
                && sparse.is_some_and(|sparse| sparse.modifier() == Modifier::Idf)
        });
        let expected = format!(
            "has not the vectors that rag-api makes ({DENSE} of {} dimensions by cosine, {SPARSE} with IDF)",
            model.dimensions
        );
        (!is_ours).then_some(expected)
    })
}

/// Creates the payload indexes that are not there yet. To create one again changes nothing.
async fn create_indexes(server: &Server, collection: &str, info: &CollectionInfo) -> Result<()> {
    let keyword = |is_tenant| {
        IndexParams::KeywordIndexParams(KeywordIndexParams { is_tenant: Some(is_tenant), ..Default::default() })
    };
    let integer = |range| {
        let params = IntegerIndexParams { lookup: Some(true), range: Some(range), ..Default::default() };
        IndexParams::IntegerIndexParams(params)
    };
    let wanted = [
        (key::TENANT, FieldType::Keyword, keyword(true)),
        (key::PRINCIPALS, FieldType::Keyword, keyword(false)),
        (key::DOCUMENT, FieldType::Keyword, keyword(false)),
        (key::VERSION, FieldType::Integer, integer(false)),
        (key::CHUNK_IDX, FieldType::Integer, integer(true)),
    ];
    for (key, field_type, params) in wanted {
        if info.payload_schema.contains_key(key) {
            continue;
        }
        let request = CreateFieldIndexCollection {
            collection_name: collection.to_owned(),
            wait: Some(true),
            field_name: key.to_owned(),
            field_type: Some(field_type.into()),
            field_index_params: Some(PayloadIndexParams { index_params: Some(params) }),
            ordering: ordering(),
            timeout: None,
        };
        server.answer(WRITE_LIMIT, server.writes().create_field_index(request)).await?;
    }
    Ok(())
}
