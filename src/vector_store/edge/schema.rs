//! How the engine keeps a collection: vectors, payload indexes, log and segments.

use qdrant_edge::{
    CreateIndex, Distance, EdgeConfig, EdgeOptimizersConfig, EdgeShard, EdgeSparseVectorParamsBuilder,
    EdgeVectorParamsBuilder, FieldIndexOperations, IntegerIndexParamsBuilder, KeywordIndexParamsBuilder, Modifier,
    OperationResult, PayloadFieldSchema, PayloadSchemaParams, UpdateOperation, WalOptions,
};

use super::{DENSE, SPARSE, filter};
use crate::embedding::EmbeddingModel;
use crate::vector_store::payload::key;

/// Bytes of a log segment, preallocated on disk. A larger operation gets a larger segment.
const LOG_SEGMENT: usize = 4 * 1024 * 1024;

/// A segment of which this share is deleted points is rewritten by [`VectorStore::optimize`] …
const VACUUM_SHARE: f64 = 0.2;
/// … if it holds so many.
const VACUUM_POINTS: usize = 500;
/// Segments that are kept side by side before they are merged.
const SEGMENTS: usize = 2;

/// What the engine is told of a collection for vectors of `model`.
pub(super) fn config(model: &EmbeddingModel, threads: usize) -> EdgeConfig {
    let optimizers = EdgeOptimizersConfig {
        deleted_threshold: Some(VACUUM_SHARE),
        vacuum_min_vector_number: Some(VACUUM_POINTS),
        default_segment_number: Some(SEGMENTS),
        ..EdgeOptimizersConfig::default()
    };
    EdgeConfig::builder()
        .vector(DENSE, EdgeVectorParamsBuilder::new(model.dimensions, Distance::Cosine).build())
        .sparse_vector(SPARSE, EdgeSparseVectorParamsBuilder::new().modifier(Modifier::Idf).build())
        .optimizers(optimizers)
        .wal_options(WalOptions { segment_capacity: LOG_SEGMENT, ..WalOptions::default() })
        .max_search_threads(threads)
        .build()
}

/// Creates the payload indexes that are not there yet.
pub(super) fn create_indexes(shard: &EdgeShard) -> OperationResult<()> {
    let keyword = |tenant| PayloadSchemaParams::Keyword(KeywordIndexParamsBuilder::new().is_tenant(tenant).build());
    let integer =
        |range| PayloadSchemaParams::Integer(IntegerIndexParamsBuilder::new().lookup(true).range(range).build());
    let wanted = [
        (key::TENANT, keyword(true)),
        (key::PRINCIPALS, keyword(false)),
        (key::DOCUMENT, keyword(false)),
        (key::VERSION, integer(false)),
        (key::CHUNK_IDX, integer(true)),
    ];
    let present = shard.info()?.payload_schema;
    for (key, schema) in wanted {
        let field_name = filter::path(key);
        if !present.contains_key(&field_name) {
            let field_schema = Some(PayloadFieldSchema::FieldParams(schema));
            let create = FieldIndexOperations::CreateIndex(CreateIndex { field_name, field_schema });
            shard.update(UpdateOperation::FieldIndexOperation(create))?;
        }
    }
    Ok(())
}
