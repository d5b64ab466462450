//! Our points ↔ Qdrant's, and how many go into one request.

use std::collections::HashMap;

use prost::Message;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::{
    DenseVector, NamedVectors, PointId, PointStruct, SparseVector, Vector, Vectors, VectorsOutput, vector,
    vector_output, vectors_output,
};
use uuid::Uuid;

use super::{DENSE, SPARSE, value};
use crate::error::{Error, ErrorKind, Result};
use crate::vector_store::{Point, SparseVector as StoredSparse, payload};

/// Points of one request: bounds how long it takes.
const MAX_POINTS: usize = 256;

/// Bytes of one request: gRPC servers and proxies refuse more than 4 MiB unless told otherwise.
const MAX_BYTES: usize = 3 << 20;

/// Qdrant's form of a point. A text without terms has no sparse vector.
pub(super) fn to_qdrant(point: Point) -> Result<PointStruct> {
    let id = PointId::from(point.id().to_string());
    let fields = payload::of_point(&point)?;
    let mut vectors =
        HashMap::from([(DENSE.to_owned(), named(vector::Vector::Dense(DenseVector { data: point.dense })))]);
    if !point.sparse.indices.is_empty() {
        let sparse = SparseVector { indices: point.sparse.indices, values: point.sparse.values };
        vectors.insert(SPARSE.to_owned(), named(vector::Vector::Sparse(sparse)));
    }
    let vectors = Vectors { vectors_options: Some(VectorsOptions::Vectors(NamedVectors { vectors })) };
    Ok(PointStruct { id: Some(id), payload: value::to_qdrant(fields), vectors: Some(vectors) })
}

fn named(vector: vector::Vector) -> Vector {
    Vector { vector: Some(vector), ..Vector::default() }
}

/// The two vectors of a stored point; a text without terms has no sparse one.
pub(super) fn vectors(stored: Option<VectorsOutput>) -> (Vec<f32>, StoredSparse) {
    let Some(vectors_output::VectorsOptions::Vectors(mut named)) = stored.and_then(|stored| stored.vectors_options)
    else {
        return Default::default();
    };
    let dense = match named.vectors.remove(DENSE).map(|vector| vector.into_vector()) {
        Some(vector_output::Vector::Dense(dense)) => dense.data,
        _ => Vec::new(),
    };
    let sparse = match named.vectors.remove(SPARSE).map(|vector| vector.into_vector()) {
        Some(vector_output::Vector::Sparse(terms)) => StoredSparse { indices: terms.indices, values: terms.values },
        _ => StoredSparse::default(),
    };
    (dense, sparse)
}

/// Cuts points into requests, in their order. A point that is too large for one is a request of its own.
pub(super) fn batches(points: Vec<PointStruct>) -> Vec<Vec<PointStruct>> {
    let mut batches: Vec<Vec<PointStruct>> = Vec::new();
    let mut bytes = 0;
    for point in points {
        let size = point.encoded_len();
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_POINTS && bytes + size <= MAX_BYTES => {
                bytes += size;
                batch.push(point);
            }
            _ => {
                bytes = size;
                batches.push(vec![point]);
            }
        }
    }
    batches
}

/// The id of a stored point.
pub(super) fn uuid(id: Option<PointId>) -> Result<Uuid> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Uuid(id)) => {
            Uuid::try_parse(&id).map_err(|error| Error::internal("a stored point's id is not a UUID", error))
        }
        _ => Err(Error::new(ErrorKind::Internal, "a stored point's id is not a UUID")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(bytes: usize) -> PointStruct {
        let mut payload = serde_json::Map::new();
        payload.insert("text".to_owned(), "x".repeat(bytes).into());
        PointStruct { payload: value::to_qdrant(payload), ..PointStruct::default() }
    }

    #[test]
    fn requests_are_bounded_by_points_and_by_bytes() {
        let sizes = |points: Vec<PointStruct>| batches(points).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(Vec::new()), [0; 0]);
        assert_eq!(sizes(vec![point(10); 600]), [256, 256, 88]);
        assert_eq!(sizes(vec![point(1 << 20); 5]), [2, 2, 1]);
        assert_eq!(sizes(vec![point(10), point(5 << 20), point(10), point(10)]), [1, 1, 2]);
    }
}
