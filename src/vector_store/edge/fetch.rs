//! Reads what is stored: of hits, and of a document.

use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    Condition, EdgeShard, FieldCondition, OrderBy, OrderByInterface, PointId, Range, RetrieveRequest, ScrollRequest,
    VectorInternal, VectorStructInternal, WithVector,
};
use uuid::Uuid;

use super::{DENSE, SPARSE, failed, filter, point};
use crate::document::{Chunk, DocumentId, Scope, TenantId, Version};
use crate::error::Result;
use crate::vector_store::payload::key;
use crate::vector_store::{ChunkPage, Found, Point, SparseVector, payload};

/// What is stored of these points and may be read, in their order.
pub(super) fn passages(
    shard: &EdgeShard,
    scope: &Scope,
    ids: Vec<Uuid>,
    question: Option<&[f32]>,
) -> Result<Vec<Found>> {
    let request = RetrieveRequest {
        point_ids: ids.into_iter().map(PointId::Uuid).collect(),
        with_payload: Some(true.into()),
        with_vector: question.map(|_| WithVector::Selector(vec![DENSE.to_owned()])),
    };
    let records = shard.retrieve(request).map_err(failed)?.into_iter();
    let found = records.map(|record| {
        let Some(passage) = payload::passage(point::fields(record.payload), scope)? else { return Ok(None) };
        let cosine = question.zip(record.vector.as_ref()).and_then(|(question, stored)| cosine(question, stored));
        Ok(Some(Found { id: point::uuid(record.id)?, cosine, passage }))
    });
    found.filter_map(Result::transpose).collect()
}

/// The engine keeps vectors at length 1, and questions come so.
fn cosine(question: &[f32], stored: &VectorStructInternal) -> Option<f32> {
    let VectorStructInternal::Named(vectors) = stored else { return None };
    let Some(VectorInternal::Dense(stored)) = vectors.get(DENSE) else { return None };
    Some(question.iter().zip(stored).map(|(a, b)| a * b).sum())
}

/// The terms of a point; none if it is gone.
pub(super) fn terms(shard: &EdgeShard, id: Uuid) -> Result<SparseVector> {
    let request = RetrieveRequest {
        point_ids: vec![PointId::Uuid(id)],
        with_payload: Some(false.into()),
        with_vector: Some(WithVector::Selector(vec![SPARSE.to_owned()])),
    };
    let record = shard.retrieve(request).map_err(failed)?.into_iter().next();
    let Some(VectorStructInternal::Named(mut vectors)) = record.and_then(|record| record.vector) else {
        return Ok(SparseVector::default());
    };
    Ok(sparse(vectors.remove(SPARSE)))
}

/// The points of a page of a document's version, in order; `None`: of none.
pub(super) fn page(
    tenant: &TenantId,
    document: &DocumentId,
    version: Version,
    page: ChunkPage,
) -> Option<ScrollRequest> {
    let mut filter = filter::document_version(tenant, document, version);
    let from = Range { gte: Some(OrderedFloat(f64::from(page.from))), ..Range::default() };
    let from = FieldCondition::new_range(filter::path(key::CHUNK_IDX), from);
    filter.must.get_or_insert_default().push(Condition::Field(from));
    let order = OrderBy { key: filter::path(key::CHUNK_IDX), direction: None, start_from: None };
    let request = ScrollRequest {
        offset: None,
        limit: Some(page.limit),
        filter: Some(filter),
        with_payload: Some(true.into()),
        with_vector: WithVector::Bool(false),
        order_by: Some(OrderByInterface::Struct(order)),
    };
    (page.limit > 0).then_some(request)
}

/// The chunks of a page.
pub(super) fn chunks(shard: &EdgeShard, request: ScrollRequest) -> Result<Vec<Chunk>> {
    let (records, _) = shard.scroll(request).map_err(failed)?;
    records.into_iter().map(|record| payload::chunk(point::fields(record.payload))).collect()
}

/// The points of a page, with their vectors.
pub(super) fn points(shard: &EdgeShard, request: ScrollRequest) -> Result<Vec<Point>> {
    let request = ScrollRequest { with_vector: WithVector::Bool(true), ..request };
    let (records, _) = shard.scroll(request).map_err(failed)?;
    let points = records.into_iter().map(|record| {
        let (dense, sparse) = vectors(record.vector);
        payload::point(point::fields(record.payload), dense, sparse)
    });
    points.collect()
}

/// The two vectors of a point; a text without terms has no sparse one.
fn vectors(stored: Option<VectorStructInternal>) -> (Vec<f32>, SparseVector) {
    let Some(VectorStructInternal::Named(mut vectors)) = stored else { return Default::default() };
    let dense = match vectors.remove(DENSE) {
        Some(VectorInternal::Dense(dense)) => dense,
        _ => Vec::new(),
    };
    (dense, sparse(vectors.remove(SPARSE)))
}

fn sparse(stored: Option<VectorInternal>) -> SparseVector {
    match stored {
        Some(VectorInternal::Sparse(terms)) => SparseVector { indices: terms.indices, values: terms.values },
        _ => SparseVector::default(),
    }
}
