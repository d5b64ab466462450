//! Reads what is stored of hits.

use qdrant_edge::{EdgeShard, PointId, RetrieveRequest, VectorInternal, VectorStructInternal, WithVector};
use uuid::Uuid;

use super::{DENSE, SPARSE, failed, point};
use crate::document::Scope;
use crate::error::Result;
use crate::vector_store::{Found, SparseVector, payload};

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
    match vectors.remove(SPARSE) {
        Some(VectorInternal::Sparse(terms)) => Ok(SparseVector { indices: terms.indices, values: terms.values }),
        _ => Ok(SparseVector::default()),
    }
}
