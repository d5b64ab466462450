//! Messages of the protocol → the engine's, by the rules of the real server's conversions.

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::{
    self as proto, PointStruct as ProtoPoint, query, vector, vector_input, vector_output, vectors_output,
    with_payload_selector, with_vectors_selector,
};
use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    Condition, DateTimeWrapper, FieldCondition, Filter, IdfCorpusParams, IdfParams, IsEmptyCondition, JsonPath, Match,
    NamedQuery, OperationError, PointId, PointStruct, PointStructPersisted, QueryEnum, QueryRequest,
    QueryRequestBuilder, Range, ScoredPoint, ScoringQuery, SearchParams, SparseVector, ValueVariants, Vector,
    VectorInternal, VectorStructInternal, Vectors, WithPayloadInterface, WithVector,
};
use tonic::Status;

use super::value;

pub(super) fn refused(error: OperationError) -> Status {
    match error {
        OperationError::ServiceError { .. } | OperationError::InconsistentStorage { .. } => {
            Status::internal(error.to_string())
        }
        error => Status::invalid_argument(error.to_string()),
    }
}

fn unsupported(what: impl std::fmt::Debug) -> Status {
    Status::unimplemented(format!("the test server does not know {what:?}"))
}

pub(super) fn path(key: &str) -> Result<JsonPath, Status> {
    key.parse().map_err(|()| Status::invalid_argument(format!("Invalid json path: {key}")))
}

pub(super) fn id(id: Option<proto::PointId>) -> Result<PointId, Status> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Num(number)) => Ok(PointId::NumId(number)),
        Some(PointIdOptions::Uuid(text)) => {
            let uuid = text.parse().map_err(|_| Status::invalid_argument(format!("Unable to parse UUID: {text}")))?;
            Ok(PointId::Uuid(uuid))
        }
        None => Err(Status::invalid_argument("Malformed PointId")),
    }
}

pub(super) fn proto_id(id: PointId) -> proto::PointId {
    match id {
        PointId::NumId(number) => number.into(),
        PointId::Uuid(uuid) => uuid.to_string().into(),
    }
}

pub(super) fn filter(filter: proto::Filter) -> Result<Filter, Status> {
    if filter.min_should.is_some() {
        return Err(unsupported("min_should"));
    }
    Ok(Filter {
        should: conditions(filter.should)?,
        must: conditions(filter.must)?,
        must_not: conditions(filter.must_not)?,
        min_should: None,
    })
}

/// Empty conditions are left out, and an empty list is none.
fn conditions(list: Vec<proto::Condition>) -> Result<Option<Vec<Condition>>, Status> {
    let list = list.into_iter().filter_map(|one| one.condition_one_of).map(condition).collect::<Result<Vec<_>, _>>()?;
    Ok((!list.is_empty()).then_some(list))
}

fn condition(condition: ConditionOneOf) -> Result<Condition, Status> {
    Ok(match condition {
        ConditionOneOf::Field(condition) => Condition::Field(field(condition)?),
        ConditionOneOf::Filter(inner) => Condition::Filter(filter(inner)?),
        ConditionOneOf::IsEmpty(empty) => Condition::IsEmpty(IsEmptyCondition::from(path(&empty.key)?)),
        ConditionOneOf::HasId(ids) => {
            let ids = ids.has_id.into_iter().map(|one| id(Some(one))).collect::<Result<Vec<_>, _>>()?;
            Condition::HasId(ids.into_iter().collect())
        }
        other => return Err(unsupported(other)),
    })
}

fn field(condition: proto::FieldCondition) -> Result<FieldCondition, Status> {
    let path = path(&condition.key)?;
    if let Some(matches) = condition.r#match {
        return Ok(FieldCondition::new_match(path, one_match(matches)?));
    }
    if let Some(range) = condition.range {
        let limit = |limit: Option<f64>| limit.map(OrderedFloat);
        let range = Range { gt: limit(range.gt), gte: limit(range.gte), lt: limit(range.lt), lte: limit(range.lte) };
        return Ok(FieldCondition::new_range(path, range));
    }
    if let Some(range) = condition.datetime_range {
        let range = Range { gt: time(range.gt)?, gte: time(range.gte)?, lt: time(range.lt)?, lte: time(range.lte)? };
        return Ok(FieldCondition::new_datetime_range(path, range));
    }
    Err(unsupported(condition))
}

fn time(timestamp: Option<prost_types::Timestamp>) -> Result<Option<DateTimeWrapper>, Status> {
    let Some(timestamp) = timestamp else { return Ok(None) };
    let nanos = u32::try_from(timestamp.nanos).ok();
    let time = nanos.and_then(|nanos| chrono::DateTime::from_timestamp(timestamp.seconds, nanos));
    time.map(|time| Some(DateTimeWrapper::from(time))).ok_or_else(|| Status::invalid_argument("malformed timestamp"))
}

fn one_match(matches: proto::Match) -> Result<Match, Status> {
    Ok(match matches.match_value {
        Some(MatchValue::Keyword(text)) => Match::from(text),
        Some(MatchValue::Integer(integer)) => Match::from(integer),
        Some(MatchValue::Boolean(flag)) => Match::new_value(ValueVariants::Bool(flag)),
        Some(MatchValue::Keywords(texts)) => Match::from(texts.strings),
        Some(MatchValue::Integers(integers)) => Match::from(integers.integers),
        other => return Err(unsupported(other)),
    })
}

/// What a write is about. The real server takes a filter without conditions for everything; nobody who asks this one may
/// mean more than a document.
pub(super) fn selected(selector: Option<proto::PointsSelector>) -> Result<Filter, Status> {
    let Some(PointsSelectorOneOf::Filter(selected)) = selector.and_then(|selector| selector.points_selector_one_of)
    else {
        return Err(unsupported("a write without a filter"));
    };
    let selected = filter(selected)?;
    match &selected.must {
        Some(must) if must.len() >= 2 => Ok(selected),
        _ => Err(Status::failed_precondition("a write to more than a document")),
    }
}

pub(super) fn point(point: ProtoPoint) -> Result<PointStructPersisted, Status> {
    let payload = value::payload(point.payload)?;
    let Some(VectorsOptions::Vectors(named)) = point.vectors.and_then(|vectors| vectors.vectors_options) else {
        return Err(unsupported("a point without named vectors"));
    };
    let mut vectors = Vec::new();
    for (name, one) in named.vectors {
        let one = match one.vector {
            Some(vector::Vector::Dense(dense)) => Vector::new_dense(dense.data),
            Some(vector::Vector::Sparse(sparse)) => Vector::new_sparse(sparse.indices, sparse.values)
                .map_err(|error| Status::invalid_argument(error.to_string()))?,
            other => return Err(unsupported(other)),
        };
        vectors.push((name, one));
    }
    let id = id(point.id)?;
    Ok(PointStruct::new(id, Vectors::new_named(vectors), serde_json::Value::Object(payload.0)).into())
}

pub(super) fn query(request: proto::QueryPoints) -> Result<QueryRequest, Status> {
    if !request.prefetch.is_empty() || request.score_threshold.is_some() || request.lookup_from.is_some() {
        return Err(unsupported("prefetch, score_threshold or lookup_from"));
    }
    let Some(query::Variant::Nearest(input)) = request.query.and_then(|query| query.variant) else {
        return Err(unsupported("a query that is not nearest"));
    };
    let vector = match input.variant {
        Some(vector_input::Variant::Dense(dense)) => VectorInternal::Dense(dense.data),
        Some(vector_input::Variant::Sparse(sparse)) => {
            VectorInternal::Sparse(SparseVector { indices: sparse.indices, values: sparse.values })
        }
        other => return Err(unsupported(other)),
    };
    let nearest = ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery { query: vector, using: request.using }));
    let mut builder = QueryRequestBuilder::new(request.limit.unwrap_or(10) as usize).query(nearest);
    if let Some(condition) = request.filter {
        builder = builder.filter(filter(condition)?);
    }
    let params = request.params.map(params).transpose()?;
    let with_payload = with_payload(request.with_payload)?.unwrap_or(WithPayloadInterface::Bool(false));
    Ok(QueryRequest { params, with_payload, ..builder.build() })
}

fn params(params: proto::SearchParams) -> Result<SearchParams, Status> {
    let idf = match params.idf {
        Some(proto::IdfParams { corpus: Some(corpus) }) => {
            Some(IdfParams::Corpus(IdfCorpusParams { corpus: filter(corpus)? }))
        }
        _ => None,
    };
    Ok(SearchParams { exact: params.exact.unwrap_or(false), idf, ..SearchParams::default() })
}

pub(super) fn with_payload(
    selector: Option<proto::WithPayloadSelector>,
) -> Result<Option<WithPayloadInterface>, Status> {
    match selector.and_then(|selector| selector.selector_options) {
        None => Ok(None),
        Some(with_payload_selector::SelectorOptions::Enable(enable)) => Ok(Some(WithPayloadInterface::Bool(enable))),
        Some(other) => Err(unsupported(other)),
    }
}

pub(super) fn with_vectors(selector: Option<proto::WithVectorsSelector>) -> WithVector {
    match selector.and_then(|selector| selector.selector_options) {
        None => WithVector::Bool(false),
        Some(with_vectors_selector::SelectorOptions::Enable(enable)) => WithVector::Bool(enable),
        Some(with_vectors_selector::SelectorOptions::Include(include)) => WithVector::Selector(include.names),
    }
}

pub(super) fn scored(point: ScoredPoint) -> proto::ScoredPoint {
    proto::ScoredPoint {
        id: Some(proto_id(point.id)),
        payload: value::fields(point.payload),
        score: point.score,
        version: point.version,
        ..proto::ScoredPoint::default()
    }
}

pub(super) fn retrieved(record: qdrant_edge::Record) -> proto::RetrievedPoint {
    proto::RetrievedPoint {
        id: Some(proto_id(record.id)),
        payload: value::fields(record.payload),
        vectors: record.vector.map(vectors),
        ..proto::RetrievedPoint::default()
    }
}

fn vectors(stored: VectorStructInternal) -> proto::VectorsOutput {
    let VectorStructInternal::Named(named) = stored else { panic!("all vectors have names: {stored:?}") };
    let one = |vector: VectorInternal| {
        let vector = match vector {
            VectorInternal::Dense(data) => vector_output::Vector::Dense(proto::DenseVector { data }),
            VectorInternal::Sparse(sparse) => {
                vector_output::Vector::Sparse(proto::SparseVector { values: sparse.values, indices: sparse.indices })
            }
            VectorInternal::MultiDense(_) => panic!("no such vectors are written"),
        };
        proto::VectorOutput { vector: Some(vector), ..proto::VectorOutput::default() }
    };
    let vectors = named.into_iter().map(|(name, vector)| (name, one(vector))).collect();
    let named = proto::NamedVectorsOutput { vectors };
    proto::VectorsOutput { vectors_options: Some(vectors_output::VectorsOptions::Vectors(named)) }
}
