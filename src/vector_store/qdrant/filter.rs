//! [`Filter`] and scope → Qdrant's filter.
//!
//! Over gRPC an empty list is no list, and a filter without lists lets everything through; lists of filters that are
//! merged widen each other. So access and user filter are each wrapped in a condition of their own, and only simplified
//! filters, which hold no empty list, are compiled.

use prost_types::Timestamp;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::{Condition, DatetimeRange, Filter as QdrantFilter, Range};
use uuid::Uuid;

use crate::document::{DocumentId, Scope, TenantId, Version};
use crate::retrieve::filter::{FieldPath, Filter, Limit, Scalar};
use crate::vector_store::payload::key;

/// What a caller may see; `None`: nothing at all, do not ask.
pub(super) fn access(scope: &Scope) -> Option<QdrantFilter> {
    let principals: Vec<String> = scope.principals().iter().map(ToString::to_string).collect();
    if principals.is_empty() {
        return None;
    }
    Some(QdrantFilter::must([
        equals(key::TENANT, scope.tenant().as_str()),
        Condition::matches(key::PRINCIPALS, principals),
    ]))
}

/// What a search may see; `None`: nothing at all, do not ask.
pub(super) fn visible(scope: &Scope, exclude: &[(DocumentId, Version)], user: Option<Filter>) -> Option<QdrantFilter> {
    let mut access = access(scope)?;
    access.must_not = exclude
        .iter()
        .map(|(document, version)| all(vec![equals(key::DOCUMENT, document.as_str()), version_is(*version)]))
        .collect();
    let mut must = vec![Condition::from(access)];
    match user.map(Filter::simplify) {
        Some(filter) if filter == Filter::NOTHING => return None,
        Some(filter) if filter != Filter::EVERYTHING => must.push(compile(&filter)),
        _ => {}
    }
    Some(QdrantFilter::must(must))
}

/// These points, as far as `scope` may read them; `None`: none of them.
pub(super) fn readable(scope: &Scope, ids: &[Uuid]) -> Option<QdrantFilter> {
    let access = access(scope).filter(|_| !ids.is_empty())?;
    Some(QdrantFilter::must([Condition::from(access), Condition::has_id(ids.iter().map(Uuid::to_string))]))
}

/// The points of a tenant.
pub(super) fn tenant(tenant: &TenantId) -> QdrantFilter {
    QdrantFilter::must([equals(key::TENANT, tenant.as_str())])
}

/// The points of one document: a filter that can never be empty.
pub(super) fn document(tenant: &TenantId, document: &DocumentId) -> QdrantFilter {
    QdrantFilter::must([equals(key::TENANT, tenant.as_str()), equals(key::DOCUMENT, document.as_str())])
}

/// The points of one version of a document.
pub(super) fn document_version(tenant: &TenantId, id: &DocumentId, version: Version) -> QdrantFilter {
    let mut filter = document(tenant, id);
    filter.must.push(version_is(version));
    filter
}

/// The points of all versions of a document but one.
pub(super) fn document_except(tenant: &TenantId, id: &DocumentId, version: Version) -> QdrantFilter {
    let mut filter = document(tenant, id);
    filter.must_not.push(version_is(version));
    filter
}

/// The chunks of one version of a document from a number on.
pub(super) fn chunks_from(tenant: &TenantId, id: &DocumentId, version: Version, from: u32) -> QdrantFilter {
    let mut filter = document_version(tenant, id, version);
    let from = Range { gte: Some(f64::from(from)), ..Range::default() };
    filter.must.push(Condition::range(key::CHUNK_IDX, from));
    filter
}

fn equals(key: &str, value: &str) -> Condition {
    Condition::matches(key, value.to_owned())
}

fn version_is(version: Version) -> Condition {
    Condition::matches(key::VERSION, version as i64)
}

fn all(must: Vec<Condition>) -> Condition {
    QdrantFilter::must(must).into()
}

fn any(mut should: Vec<Condition>) -> Condition {
    match should.pop() {
        Some(condition) if should.is_empty() => condition,
        last => {
            should.extend(last);
            QdrantFilter::should(should).into()
        }
    }
}

fn not(condition: Condition) -> Condition {
    QdrantFilter::must_not([condition]).into()
}

/// Compiles a simplified filter. Its `And` and `Or` are not empty.
fn compile(filter: &Filter) -> Condition {
    match filter {
        Filter::And(filters) => all(filters.iter().map(compile).collect()),
        Filter::Or(filters) => any(filters.iter().map(compile).collect()),
        Filter::Not(filter) => not(compile(filter)),
        Filter::In { field, values } => one_of(field, values),
        Filter::Range { field, gt, gte, lt, lte } => {
            range(field, [gt.as_ref(), gte.as_ref(), lt.as_ref(), lte.as_ref()])
        }
        Filter::Exists { field } => not(Condition::is_empty(metadata_path(field))),
    }
}

/// Qdrant's form of a path. In double quotes no character has a meaning, and no segment has a quote or a backslash.
fn metadata_path(field: &FieldPath) -> String {
    let mut path = key::METADATA.to_owned();
    for segment in field.segments() {
        path.push_str(".\"");
        path.push_str(segment);
        path.push('"');
    }
    path
}

/// Qdrant's match lists hold one type each.
fn one_of(field: &FieldPath, values: &[Scalar]) -> Condition {
    let mut texts = Vec::new();
    let mut integers = Vec::new();
    let mut rest = Vec::new();
    for value in values {
        match value {
            Scalar::Text(text) => texts.push(text.clone()),
            Scalar::Integer(integer) => integers.push(*integer),
            Scalar::Boolean(flag) => rest.push(Condition::matches(metadata_path(field), *flag)),
            Scalar::Float(float) => {
                let limit = Limit::Number(*float);
                rest.push(range(field, [None, Some(&limit), None, Some(&limit)]));
            }
        }
    }
    if !texts.is_empty() {
        rest.push(Condition::matches(metadata_path(field), MatchValue::from(texts)));
    }
    if !integers.is_empty() {
        rest.push(Condition::matches(metadata_path(field), MatchValue::from(integers)));
    }
    any(rest)
}

/// `limits`: gt, gte, lt, lte, all numbers or all times.
fn range(field: &FieldPath, limits: [Option<&Limit>; 4]) -> Condition {
    let number = |limit: Option<&Limit>| match limit {
        Some(Limit::Number(number)) => Some(*number),
        _ => None,
    };
    let time = |limit: Option<&Limit>| match limit {
        Some(Limit::Time(time)) => {
            // Below a second there is nothing negative.
            Some(Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos() as i32 })
        }
        _ => None,
    };
    let [gt, gte, lt, lte] = limits;
    if limits.iter().flatten().any(|limit| matches!(limit, Limit::Time(_))) {
        let range = DatetimeRange { gt: time(gt), gte: time(gte), lt: time(lt), lte: time(lte) };
        Condition::datetime_range(metadata_path(field), range)
    } else {
        let range = Range { gt: number(gt), gte: number(gte), lt: number(lt), lte: number(lte) };
        Condition::range(metadata_path(field), range)
    }
}
