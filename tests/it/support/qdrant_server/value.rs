//! Values of the protocol ↔ JSON.

use std::collections::HashMap;

use qdrant_client::qdrant::Value;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{ListValue, Struct};
use qdrant_edge::Payload;
use serde_json::{Map, Number, Value as Json};
use tonic::Status;

pub(super) fn payload(fields: HashMap<String, Value>) -> Result<Payload, Status> {
    object(fields).map(Payload)
}

fn object(fields: HashMap<String, Value>) -> Result<Map<String, Json>, Status> {
    fields.into_iter().map(|(key, value)| Ok((key, json(value)?))).collect()
}

fn json(value: Value) -> Result<Json, Status> {
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::Bool(flag),
        Some(Kind::IntegerValue(integer)) => Json::from(integer),
        Some(Kind::DoubleValue(double)) => Json::Number(
            Number::from_f64(double).ok_or_else(|| Status::invalid_argument("cannot convert to json number"))?,
        ),
        Some(Kind::StringValue(text)) => Json::String(text),
        Some(Kind::ListValue(list)) => Json::Array(list.values.into_iter().map(json).collect::<Result<_, _>>()?),
        Some(Kind::StructValue(fields)) => Json::Object(object(fields.fields)?),
    })
}

pub(super) fn fields(payload: Option<Payload>) -> HashMap<String, Value> {
    payload.map(|payload| payload.0).unwrap_or_default().into_iter().map(|(key, value)| (key, proto(value))).collect()
}

fn proto(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(flag),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Kind::IntegerValue(integer),
            None => Kind::DoubleValue(number.as_f64().unwrap()),
        },
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(proto).collect() }),
        Json::Object(fields) => {
            Kind::StructValue(Struct { fields: fields.into_iter().map(|(key, value)| (key, proto(value))).collect() })
        }
    };
    Value { kind: Some(kind) }
}
