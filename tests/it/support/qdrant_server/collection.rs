//! A collection: a shard of the engine, and the writes that wait to be applied.

use std::collections::HashMap;
use std::sync::Mutex;

use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    CollectionConfig, CollectionInfo, CollectionParams, CreateCollection, CreateFieldIndexCollection, Distance,
    FieldType, Modifier as ProtoModifier, PayloadSchemaInfo, PayloadSchemaType,
};
use qdrant_edge::{
    CreateIndex, Distance as EdgeDistance, EdgeConfig, EdgeShard, EdgeSparseVectorParamsBuilder,
    EdgeVectorParamsBuilder, FieldIndexOperations, IntegerIndexParamsBuilder, KeywordIndexParamsBuilder, Modifier,
    PayloadFieldSchema, PayloadSchemaParams, UpdateOperation, WalOptions,
};
use tempfile::TempDir;
use tonic::Status;

use super::convert;

pub(super) struct Collection {
    /// Dropped before its folder.
    pub(super) shard: EdgeShard,
    /// What was written without `wait`. Whoever holds it writes.
    pending: Mutex<Vec<UpdateOperation>>,
    indexes: Mutex<HashMap<String, PayloadSchemaInfo>>,
    made: CreateCollection,
    _folder: TempDir,
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collection").field("made", &self.made).finish_non_exhaustive()
    }
}

impl Collection {
    pub(super) fn new(made: CreateCollection) -> Result<Self, Status> {
        let mut config = EdgeConfig::builder()
            .wal_options(WalOptions { segment_capacity: 1 << 20, ..WalOptions::default() })
            .max_search_threads(2);
        let Some(Config::ParamsMap(dense)) = made.vectors_config.clone().and_then(|vectors| vectors.config) else {
            return Err(Status::unimplemented("the test server wants named vectors"));
        };
        for (name, params) in dense.map {
            assert_eq!(params.distance(), Distance::Cosine);
            let params = EdgeVectorParamsBuilder::new(params.size as usize, EdgeDistance::Cosine).build();
            config = config.vector(name, params);
        }
        for (name, params) in made.sparse_vectors_config.clone().unwrap_or_default().map {
            let mut sparse = EdgeSparseVectorParamsBuilder::new();
            if params.modifier() == ProtoModifier::Idf {
                sparse = sparse.modifier(Modifier::Idf);
            }
            config = config.sparse_vector(name, sparse.build());
        }
        let folder = TempDir::new().expect("a temporary folder");
        let shard = EdgeShard::load(folder.path(), Some(config.build())).map_err(convert::refused)?;
        Ok(Self { shard, pending: Mutex::default(), indexes: Mutex::default(), made, _folder: folder })
    }

    /// Applies writes in their order, what was left before them first; or leaves them for later.
    pub(super) fn write(&self, operations: Vec<UpdateOperation>, wait: bool) -> Result<(), Status> {
        let mut pending = self.pending.lock().unwrap();
        pending.extend(operations);
        if !wait {
            return Ok(());
        }
        pending.drain(..).try_for_each(|operation| self.shard.update(operation).map_err(convert::refused))
    }

    /// Applies what was left for later.
    pub(super) fn settle(&self) -> Result<(), Status> {
        self.write(Vec::new(), true)
    }

    pub(super) fn create_index(&self, request: CreateFieldIndexCollection) -> Result<(), Status> {
        let (schema, data_type) = match (request.field_type(), request.field_index_params.and_then(|p| p.index_params))
        {
            (FieldType::Keyword, Some(IndexParams::KeywordIndexParams(params))) => {
                let params = KeywordIndexParamsBuilder::new().is_tenant(params.is_tenant.unwrap_or(false)).build();
                (PayloadSchemaParams::Keyword(params), PayloadSchemaType::Keyword)
            }
            (FieldType::Integer, Some(IndexParams::IntegerIndexParams(params))) => {
                let builder = IntegerIndexParamsBuilder::new().lookup(params.lookup.unwrap_or(true));
                let params = builder.range(params.range.unwrap_or(true)).build();
                (PayloadSchemaParams::Integer(params), PayloadSchemaType::Integer)
            }
            other => return Err(Status::unimplemented(format!("the test server does not know {other:?}"))),
        };
        let field_schema = Some(PayloadFieldSchema::FieldParams(schema));
        let create = CreateIndex { field_name: convert::path(&request.field_name)?, field_schema };
        let operation = UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(create));
        self.write(vec![operation], request.wait.unwrap_or(false))?;
        let info = PayloadSchemaInfo { data_type: data_type.into(), ..PayloadSchemaInfo::default() };
        self.indexes.lock().unwrap().insert(request.field_name, info);
        Ok(())
    }

    pub(super) fn info(&self) -> CollectionInfo {
        let made = self.made.clone();
        let params = CollectionParams {
            shard_number: 1,
            vectors_config: made.vectors_config,
            sparse_vectors_config: made.sparse_vectors_config,
            ..CollectionParams::default()
        };
        let config = CollectionConfig {
            params: Some(params),
            strict_mode_config: made.strict_mode_config,
            metadata: made.metadata,
            ..CollectionConfig::default()
        };
        CollectionInfo {
            config: Some(config),
            payload_schema: self.indexes.lock().unwrap().clone(),
            ..CollectionInfo::default()
        }
    }
}
