//! JSON ↔ Qdrant's values.

use std::collections::HashMap;

use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{ListValue, NullValue, Struct, Value as QdrantValue};
use serde_json::{Number, Value};

use crate::vector_store::payload::Fields;

/// Qdrant's form of an object's fields.
pub(super) fn to_qdrant(fields: Fields) -> HashMap<String, QdrantValue> {
    fields.into_iter().map(|(key, value)| (key, to_value(value))).collect()
}

fn to_value(value: Value) -> QdrantValue {
    let kind = match value {
        Value::Null => Kind::NullValue(NullValue::NullValue.into()),
        Value::Bool(flag) => Kind::BoolValue(flag),
        // What is above 2^63 loses its last digits: Qdrant knows no such integers.
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Kind::IntegerValue(integer),
            None => Kind::DoubleValue(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(to_value).collect() }),
        Value::Object(fields) => Kind::StructValue(Struct { fields: to_qdrant(fields) }),
    };
    QdrantValue { kind: Some(kind) }
}

/// The fields of a stored object. Qdrant keeps no order, so they come by name.
pub(super) fn from_qdrant(fields: HashMap<String, QdrantValue>) -> Fields {
    let mut fields: Vec<_> = fields.into_iter().map(|(key, value)| (key, from_value(value))).collect();
    fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    fields.into_iter().collect()
}

fn from_value(value: QdrantValue) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::IntegerValue(integer)) => Value::from(integer),
        Some(Kind::DoubleValue(double)) => Number::from_f64(double).map_or(Value::Null, Value::Number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(from_value).collect(),
        Some(Kind::StructValue(object)) => Value::Object(from_qdrant(object.fields)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_comes_back_as_it_was() {
        let object = json!({
            "null": null, "flag": true, "least": i64::MIN, "float": 1e300, "half": -0.5, "text": "\u{0}發票", "": "empty",
            "list": [[], [1, "a", null], {"b.c": {}}],
        });
        let fields = object.as_object().unwrap().clone();
        assert_eq!(Value::Object(from_qdrant(to_qdrant(fields))), object);
    }

    #[test]
    fn fields_come_by_name() {
        let fields: Fields = ["m", "z", "a", "k"].into_iter().map(|key| (key.to_owned(), Value::Null)).collect();
        assert_eq!(from_qdrant(to_qdrant(fields)).keys().collect::<Vec<_>>(), ["a", "k", "m", "z"]);
    }
}
