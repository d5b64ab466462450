//! Our points ↔ the engine's.

use qdrant_edge::{Payload, PointId, PointStruct, PointStructPersisted, Vector, Vectors};
use serde_json::Value;
use uuid::Uuid;

use super::{DENSE, SPARSE};
use crate::error::{Error, ErrorKind, Result};
use crate::vector_store::Point;
use crate::vector_store::payload::{self, Fields};

/// The engine's form of a point. A text without terms has no sparse vector.
pub(super) fn to_edge(point: Point) -> Result<PointStructPersisted> {
    let id = point.id();
    let fields = payload::of_point(&point)?;
    let mut vectors = vec![(DENSE, Vector::new_dense(point.dense))];
    if !point.sparse.indices.is_empty() {
        let sparse = Vector::new_sparse(point.sparse.indices, point.sparse.values);
        vectors.push((SPARSE, sparse.map_err(|error| Error::internal("a sparse vector is malformed", error))?));
    }
    Ok(PointStruct::new(PointId::Uuid(id), Vectors::new_named(vectors), Value::Object(fields)).into())
}

/// The stored fields; none if the engine gave none.
pub(super) fn fields(payload: Option<Payload>) -> Fields {
    payload.map(|payload| payload.0).unwrap_or_default()
}

/// The id of a stored point.
pub(super) fn uuid(id: PointId) -> Result<Uuid> {
    match id {
        PointId::Uuid(id) => Ok(id),
        PointId::NumId(_) => Err(Error::new(ErrorKind::Internal, "a stored point has a number for an id")),
    }
}
