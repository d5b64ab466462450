//! [`Filter`] and scope → the engine's filter.
//!
//! An empty list of the engine's `should` lets everything through on some paths, and lists of filters that are merged
//! widen each other: so access and user filter are each wrapped in a condition of their own, and only simplified
//! filters, which hold no empty list, are compiled.

use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    Condition, DateTimeWrapper, FieldCondition, Filter as EdgeFilter, IsEmptyCondition, JsonPath, Match, Range,
    ValueVariants,
};

use crate::document::{DocumentId, Scope, TenantId, Version};
use crate::retrieve::filter::{FieldPath, Filter, Limit, Scalar};
use crate::vector_store::payload::key;

/// The path of a top-level key.
pub(super) fn path(key: &str) -> JsonPath {
    JsonPath { first_key: key.to_owned(), rest: Vec::new() }
}

/// What a search may see; `None`: nothing at all, do not ask.
pub(super) fn visible(scope: &Scope, exclude: &[(DocumentId, Version)], user: Option<Filter>) -> Option<EdgeFilter> {
    if scope.principals().is_empty() {
        return None;
    }
    let principals: Vec<String> = scope.principals().iter().map(ToString::to_string).collect();
    let excluded = exclude
        .iter()
        .map(|(document, version)| all(vec![equals(key::DOCUMENT, document.as_str()), version_is(*version)]));
    let access = EdgeFilter {
        must: Some(vec![
            equals(key::TENANT, scope.tenant().as_str()),
            Condition::Field(FieldCondition::new_match(path(key::PRINCIPALS), Match::from(principals))),
        ]),
        must_not: (!exclude.is_empty()).then(|| excluded.collect()),
        ..EdgeFilter::default()
    };
    let mut must = vec![Condition::Filter(access)];
    match user.map(Filter::simplify) {
        Some(filter) if filter == Filter::NOTHING => return None,
        Some(filter) if filter != Filter::EVERYTHING => must.push(compile(&filter)),
        _ => {}
    }
    Some(EdgeFilter { must: Some(must), ..EdgeFilter::default() })
}

/// The points of a tenant.
pub(super) fn tenant(tenant: &TenantId) -> EdgeFilter {
    EdgeFilter::new_must(equals(key::TENANT, tenant.as_str()))
}

/// No point: no tenant has an empty name.
pub(super) fn nothing() -> EdgeFilter {
    EdgeFilter::new_must(equals(key::TENANT, ""))
}

/// The points of one document: a filter that can never be empty.
pub(super) fn document(tenant: &TenantId, document: &DocumentId) -> EdgeFilter {
    let must = vec![equals(key::TENANT, tenant.as_str()), equals(key::DOCUMENT, document.as_str())];
    EdgeFilter { must: Some(must), ..EdgeFilter::default() }
}

/// The points of one version of a document.
pub(super) fn document_version(tenant: &TenantId, id: &DocumentId, version: Version) -> EdgeFilter {
    let mut filter = document(tenant, id);
    filter.must.get_or_insert_default().push(version_is(version));
    filter
}

/// The points of all versions of a document but one.
pub(super) fn document_except(tenant: &TenantId, id: &DocumentId, version: Version) -> EdgeFilter {
    let mut filter = document(tenant, id);
    filter.must_not = Some(vec![version_is(version)]);
    filter
}

fn equals(key: &str, value: &str) -> Condition {
    Condition::Field(FieldCondition::new_match(path(key), Match::from(value.to_owned())))
}

fn version_is(version: Version) -> Condition {
    Condition::Field(FieldCondition::new_match(path(key::VERSION), Match::from(version as i64)))
}

fn all(must: Vec<Condition>) -> Condition {
    Condition::Filter(EdgeFilter { must: Some(must), ..EdgeFilter::default() })
}

fn any(mut should: Vec<Condition>) -> Condition {
    match should.pop() {
        Some(condition) if should.is_empty() => condition,
        last => {
            should.extend(last);
            Condition::Filter(EdgeFilter { should: Some(should), ..EdgeFilter::default() })
        }
    }
}

fn not(condition: Condition) -> Condition {
    Condition::Filter(EdgeFilter { must_not: Some(vec![condition]), ..EdgeFilter::default() })
}

/// Compiles a simplified filter. Its `And` and `Or` are not empty.
fn compile(filter: &Filter) -> Condition {
    match filter {
        Filter::And(filters) => all(filters.iter().map(compile).collect()),
        Filter::Or(filters) => any(filters.iter().map(compile).collect()),
        Filter::Not(filter) => not(compile(filter)),
        Filter::In { field, values } => one_of(field, values),
        Filter::Range { field, gt, gte, lt, lte } => {
            Condition::Field(range(field, [gt.as_ref(), gte.as_ref(), lt.as_ref(), lte.as_ref()]))
        }
        Filter::Exists { field } => not(Condition::IsEmpty(IsEmptyCondition::from(metadata_path(field)))),
    }
}

/// Built key by key, never parsed from text: no character in a name has a meaning.
fn metadata_path(field: &FieldPath) -> JsonPath {
    field.segments().iter().fold(path(key::METADATA), |whole, segment| whole.extend(&path(segment)))
}

/// The engine's match lists hold one type each.
fn one_of(field: &FieldPath, values: &[Scalar]) -> Condition {
    let mut texts = Vec::new();
    let mut integers = Vec::new();
    let mut rest = Vec::new();
    for value in values {
        match value {
            Scalar::Text(text) => texts.push(text.clone()),
            Scalar::Integer(integer) => integers.push(*integer),
            Scalar::Boolean(flag) => {
                let matches = Match::new_value(ValueVariants::Bool(*flag));
                rest.push(FieldCondition::new_match(metadata_path(field), matches));
            }
            Scalar::Float(float) => {
                let limit = Limit::Number(*float);
                rest.push(range(field, [None, Some(&limit), None, Some(&limit)]));
            }
        }
    }
    if !texts.is_empty() {
        rest.push(FieldCondition::new_match(metadata_path(field), Match::from(texts)));
    }
    if !integers.is_empty() {
        rest.push(FieldCondition::new_match(metadata_path(field), Match::from(integers)));
    }
    any(rest.into_iter().map(Condition::Field).collect())
}

/// `limits`: gt, gte, lt, lte, all numbers or all times.
fn range(field: &FieldPath, limits: [Option<&Limit>; 4]) -> FieldCondition {
    let number = |limit: Option<&Limit>| match limit {
        Some(Limit::Number(number)) => Some(OrderedFloat(*number)),
        _ => None,
    };
    let time = |limit: Option<&Limit>| match limit {
        Some(Limit::Time(time)) => Some(DateTimeWrapper::from(*time)),
        _ => None,
    };
    let [gt, gte, lt, lte] = limits;
    if limits.iter().flatten().any(|limit| matches!(limit, Limit::Time(_))) {
        let range = Range { gt: time(gt), gte: time(gte), lt: time(lt), lte: time(lte) };
        FieldCondition::new_datetime_range(metadata_path(field), range)
    } else {
        let range = Range { gt: number(gt), gte: number(gte), lt: number(lt), lte: number(lte) };
        FieldCondition::new_range(metadata_path(field), range)
    }
}
