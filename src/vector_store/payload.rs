//! What is stored beside the vectors of a point, the same in every store: the passage's fields, tenant and principals.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{DocumentAttributes, Point, SparseVector};
use crate::document::{Chunk, Metadata, Passage, Principal, Scope, TenantId};
use crate::error::{Error, ErrorKind, Result};
use crate::retrieve::filter::normalize_numbers;

/// Top-level keys that filters see.
pub(super) mod key {
    pub(in super::super) const TENANT: &str = "tenant";
    pub(in super::super) const PRINCIPALS: &str = "principals";
    pub(in super::super) const DOCUMENT: &str = "document_id";
    pub(in super::super) const VERSION: &str = "version";
    pub(in super::super) const CHUNK_IDX: &str = "chunk_idx";
    pub(in super::super) const METADATA: &str = "metadata";
    pub(in super::super) const TITLE: &str = "title";
}

/// The fields of a JSON object.
pub(super) type Fields = Map<String, Value>;

/// What is stored of a point.
pub(super) fn of_point(point: &Point) -> Result<Fields> {
    let passage = serde_json::to_value(&point.passage);
    let passage = passage.map_err(|error| Error::internal("a passage cannot be written", error))?;
    let Value::Object(mut fields) = passage else {
        return Err(Error::new(ErrorKind::Internal, "a passage is not an object"));
    };
    fields.insert(key::TENANT.to_owned(), Value::from(point.tenant.as_str()));
    fields.insert(key::PRINCIPALS.to_owned(), principals(&point.principals));
    fields.insert(key::METADATA.to_owned(), metadata(&point.passage.metadata));
    Ok(fields)
}

/// The fields that [`DocumentAttributes`] sets.
pub(super) fn of_attributes(attributes: &DocumentAttributes) -> Fields {
    let mut fields = Map::new();
    fields.insert(key::PRINCIPALS.to_owned(), principals(&attributes.principals));
    fields.insert(key::TITLE.to_owned(), Value::from(attributes.title.as_str()));
    fields.insert(key::METADATA.to_owned(), metadata(&attributes.metadata));
    fields
}

/// The stored passage, if `scope` may read it.
pub(super) fn passage(fields: Fields, scope: &Scope) -> Result<Option<Passage>> {
    let is_own = fields.get(key::TENANT).and_then(Value::as_str) == Some(scope.tenant().as_str());
    let mut principals = fields.get(key::PRINCIPALS).and_then(Value::as_array).into_iter().flatten();
    if !is_own || !principals.any(|principal| principal.as_str().is_some_and(|principal| scope.has(principal))) {
        return Ok(None);
    }
    read(fields).map(Some)
}

/// The stored point.
pub(super) fn point(fields: Fields, dense: Vec<f32>, sparse: SparseVector) -> Result<Point> {
    #[derive(Deserialize)]
    struct Stored {
        tenant: TenantId,
        principals: Vec<Principal>,
        #[serde(flatten)]
        passage: Passage,
    }
    let Stored { tenant, principals, passage } = read(fields)?;
    Ok(Point { tenant, principals, passage, dense, sparse })
}

/// The stored chunk.
pub(super) fn chunk(fields: Fields) -> Result<Chunk> {
    read(fields)
}

fn read<T: serde::de::DeserializeOwned>(fields: Fields) -> Result<T> {
    T::deserialize(Value::Object(fields)).map_err(|error| Error::internal("a stored point cannot be read", error))
}

fn principals(principals: &[Principal]) -> Value {
    principals.iter().map(Principal::as_str).collect()
}

fn metadata(metadata: &Metadata) -> Value {
    let mut metadata = Value::Object(metadata.clone());
    normalize_numbers(&mut metadata);
    metadata
}
