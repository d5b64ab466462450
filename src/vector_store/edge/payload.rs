//! Our points ↔ the engine's: a passage's fields are the payload's, beside tenant and principals.

use qdrant_edge::{Payload, PointId, PointStruct, PointStructPersisted, Vector, Vectors};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::filter::key;
use super::{DENSE, SPARSE};
use crate::document::{Chunk, Metadata, Passage, Principal, Scope};
use crate::error::{Error, ErrorKind, Result};
use crate::retrieve::filter::normalize_numbers;
use crate::vector_store::{DocumentAttributes, Point};

/// The engine's form of a point. A text without terms has no sparse vector.
pub(super) fn to_edge(point: Point) -> Result<PointStructPersisted> {
    let id = point.id();
    let Value::Object(mut payload) = to_json(&point.passage)? else {
        return Err(Error::new(ErrorKind::Internal, "a passage is not an object"));
    };
    payload.insert(key::TENANT.to_owned(), Value::from(point.tenant.as_str()));
    payload.insert(key::PRINCIPALS.to_owned(), principals(&point.principals));
    payload.insert(key::METADATA.to_owned(), metadata(&point.passage.metadata));
    let mut vectors = vec![(DENSE, Vector::new_dense(point.dense))];
    if !point.sparse.indices.is_empty() {
        let sparse = Vector::new_sparse(point.sparse.indices, point.sparse.values);
        vectors.push((SPARSE, sparse.map_err(|error| Error::internal("a sparse vector is malformed", error))?));
    }
    Ok(PointStruct::new(PointId::Uuid(id), Vectors::new_named(vectors), Value::Object(payload)).into())
}

/// The part of a payload that [`DocumentAttributes`] sets.
pub(super) fn attributes(attributes: &DocumentAttributes) -> Result<Payload> {
    let mut payload = Map::new();
    payload.insert(key::PRINCIPALS.to_owned(), principals(&attributes.principals));
    payload.insert(key::TITLE.to_owned(), Value::from(attributes.title.as_str()));
    payload.insert(key::METADATA.to_owned(), metadata(&attributes.metadata));
    Ok(Payload(payload))
}

/// The passage of a stored payload, if `scope` may read it.
pub(super) fn passage(payload: Option<Payload>, scope: &Scope) -> Result<Option<Passage>> {
    let field = |key| payload.as_ref().and_then(|payload| payload.0.get(key));
    let is_own = field(key::TENANT).and_then(Value::as_str) == Some(scope.tenant().as_str());
    let principals = field(key::PRINCIPALS).and_then(Value::as_array).into_iter().flatten();
    if !is_own || !principals.filter_map(Value::as_str).any(|principal| scope.has(principal)) {
        return Ok(None);
    }
    read(payload).map(Some)
}

/// The chunk of a stored payload.
pub(super) fn chunk(payload: Option<Payload>) -> Result<Chunk> {
    read(payload)
}

fn read<T: serde::de::DeserializeOwned>(payload: Option<Payload>) -> Result<T> {
    let fields = payload.map(|payload| payload.0).unwrap_or_default();
    T::deserialize(Value::Object(fields)).map_err(|error| Error::internal("a stored point cannot be read", error))
}

/// The id of a stored point.
pub(super) fn uuid(id: PointId) -> Result<Uuid> {
    match id {
        PointId::Uuid(id) => Ok(id),
        PointId::NumId(_) => Err(Error::new(ErrorKind::Internal, "a stored point has a number for an id")),
    }
}

fn to_json(passage: &Passage) -> Result<Value> {
    serde_json::to_value(passage).map_err(|error| Error::internal("a passage cannot be written", error))
}

fn principals(principals: &[Principal]) -> Value {
    principals.iter().map(Principal::as_str).collect()
}

fn metadata(metadata: &Metadata) -> Value {
    let mut metadata = Value::Object(metadata.clone());
    normalize_numbers(&mut metadata);
    metadata
}
