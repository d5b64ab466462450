//! Reads the hits that are shown.

use qdrant_edge::{EdgeShard, PointId, RetrieveRequest, VectorInternal, VectorStructInternal, WithVector};
use uuid::Uuid;

use super::{DENSE, failed, payload};
use crate::document::Scope;
use crate::error::Result;
use crate::vector_store::Found;

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
        let Some(passage) = payload::passage(record.payload, scope)? else { return Ok(None) };
        let cosine = question.zip(record.vector.as_ref()).and_then(|(question, stored)| cosine(question, stored));
        Ok(Some(Found { id: payload::uuid(record.id)?, cosine, passage }))
    });
    found.filter_map(Result::transpose).collect()
}

/// The engine keeps vectors at length 1, and questions come so.
fn cosine(question: &[f32], stored: &VectorStructInternal) -> Option<f32> {
    let VectorStructInternal::Named(vectors) = stored else { return None };
    let Some(VectorInternal::Dense(stored)) = vectors.get(DENSE) else { return None };
    Some(question.iter().zip(stored).map(|(a, b)| a * b).sum())
}
