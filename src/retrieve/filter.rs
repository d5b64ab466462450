//! Our filter language over metadata: one AST, parsed once, compiled by each vector store.
//!
//! ```json
//! {"department": "finance", "year": {"$gte": 2023}, "$or": [{"tags": "tax"}, {"author.name": {"$in": ["Ada"]}}]}
//! ```
//!
//! What a condition means is decided here, by [`Filter::matches`]; a store's compilation of it is tested against that:
//!
//! - A field is a dotted path through objects; a segment with a dot in it is written in double quotes. Objects inside
//!   arrays are not searched.
//! - A condition on an array holds if it holds for any of its elements.
//! - Numbers compare as numbers (`2023` equals `2023.0`), nothing is converted between types.
//! - A field that is missing, `null` or an empty array does not exist: `{"f": null}` finds it, and so do `$ne`, `$nin`
//!   and `$not`, which hold exactly where the condition they negate does not.

mod parse;

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SubsecRound, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::document::Metadata;

/// A value that a field is compared with.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Scalar {
    /// Text.
    Text(String),
    /// A whole number, however it was written.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// True or false.
    Boolean(bool),
}

impl Scalar {
    /// The scalar that a JSON value is; `None` for null, arrays and objects.
    pub fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Bool(flag) => Some(Self::Boolean(*flag)),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => Some(Self::Integer(integer)),
                None => number.as_f64().map(|float| whole(float).map_or(Self::Float(float), Self::Integer)),
            },
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// The whole number that `float` is, if it is one that fits.
fn whole(float: f64) -> Option<i64> {
    // 2^63 is a float, i64::MAX is not: hence the half-open range.
    let fits = (-(2f64.powi(63))..2f64.powi(63)).contains(&float);
    (fits && float.fract() == 0.0).then_some(float as i64)
}

/// Writes whole numbers as integers everywhere in `value`, so that a store's integer match sees `2023.0` as `2023`.
pub fn normalize_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(integer) = number.as_f64().and_then(whole) {
                *value = Value::from(integer);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(normalize_numbers),
        Value::Object(fields) => fields.values_mut().for_each(normalize_numbers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A limit of a range; numbers compare as numbers (as 64-bit floats), text that is a date or a date-time as time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Limit {
    /// A number.
    Number(f64),
    /// A moment.
    Time(DateTime<Utc>),
}

/// The moment that `text` names: RFC 3339, or the same without zone (UTC), seconds or time (midnight). To the
/// microsecond, which is what the stores compare.
pub fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    let zoned = || {
        DateTime::parse_from_rfc3339(text)
            .or_else(|_| text.parse())
            .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%#z"))
            .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"))
            .map(DateTime::<Utc>::from)
            .ok()
    };
    let local = || {
        ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
            .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(NaiveDateTime::from))
            .map(|time| time.and_utc())
    };
    // Every form starts with a digit or a sign and is short: most text of metadata is told apart at once.
    let plausible = text.len() <= 64 && text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'));
    plausible.then(|| zoned().or_else(local)).flatten().map(|time| time.trunc_subsecs(6))
}

/// A path into the metadata: never empty, no segment empty, none with a double quote or a backslash in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "String")]
pub struct FieldPath(Vec<String>);

impl FieldPath {
    /// The keys, outermost first.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// The value at this path.
    fn get<'a>(&self, metadata: &'a Metadata) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(metadata.get(first)?, |value, key| value.as_object()?.get(key))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            if segment.contains('.') || segment.starts_with('$') {
                write!(f, "\"{segment}\"")?;
            } else {
                f.write_str(segment)?;
            }
        }
        Ok(())
    }
}

impl From<FieldPath> for String {
    fn from(path: FieldPath) -> Self {
        path.to_string()
    }
}

/// A condition on a document's metadata.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// All must hold; empty: everything.
    And(Vec<Filter>),
    /// One must hold; empty: nothing.
    Or(Vec<Filter>),
    /// Must not hold.
    Not(Box<Filter>),
    /// The field is one of these; empty: nothing.
    In {
        /// Where.
        field: FieldPath,
        /// Any of these.
        values: Vec<Scalar>,
    },
    /// The field lies in a range; a missing limit is open. The limits are all numbers or all times.
    Range {
        /// Where.
        field: FieldPath,
        /// Greater than.
        gt: Option<Limit>,
        /// Greater than or equal.
        gte: Option<Limit>,
        /// Less than.
        lt: Option<Limit>,
        /// Less than or equal.
        lte: Option<Limit>,
    },
    /// The field is there, and neither null nor an empty array.
    Exists {
        /// Where.
        field: FieldPath,
    },
}

impl Filter {
    /// What matches everything.
    pub const EVERYTHING: Self = Self::And(Vec::new());
    /// What matches nothing.
    pub const NOTHING: Self = Self::Or(Vec::new());

    /// Whether a document with this metadata is let through.
    pub fn matches(&self, metadata: &Metadata) -> bool {
        match self {
            Self::And(filters) => filters.iter().all(|filter| filter.matches(metadata)),
            Self::Or(filters) => filters.iter().any(|filter| filter.matches(metadata)),
            Self::Not(filter) => !filter.matches(metadata),
            Self::In { field, values } => any_element(field.get(metadata), |element| {
                Scalar::from_json(element).is_some_and(|element| values.contains(&element))
            }),
            Self::Range { field, gt, gte, lt, lte } => any_element(field.get(metadata), |element| {
                use std::cmp::Ordering::{Equal, Greater, Less};
                let ok = |limit: &Option<Limit>, allowed: &[_]| {
                    limit.as_ref().is_none_or(|limit| compare(element, limit).is_some_and(|o| allowed.contains(&o)))
                };
                ok(gt, &[Greater]) && ok(gte, &[Greater, Equal]) && ok(lt, &[Less]) && ok(lte, &[Less, Equal])
            }),
            Self::Exists { field } => match field.get(metadata) {
                None | Some(Value::Null) => false,
                Some(Value::Array(elements)) => !elements.is_empty(),
                Some(_) => true,
            },
        }
    }

    /// The same filter without constant parts: [`Filter::EVERYTHING`] and [`Filter::NOTHING`] are left only as the
    /// whole filter. Some stores read an empty list as "everything", so a store compiles only what this returned.
    #[must_use]
    pub fn simplify(self) -> Self {
        match self {
            Self::And(filters) => {
                let mut parts = Vec::with_capacity(filters.len());
                for filter in filters.into_iter().map(Self::simplify) {
                    if filter == Self::NOTHING {
                        return Self::NOTHING;
                    }
                    if filter != Self::EVERYTHING {
                        parts.push(filter);
                    }
                }
                only_or(parts, Self::And)
            }
            Self::Or(filters) => {
                let mut parts = Vec::with_capacity(filters.len());
                for filter in filters.into_iter().map(Self::simplify) {
                    if filter == Self::EVERYTHING {
                        return Self::EVERYTHING;
                    }
                    if filter != Self::NOTHING {
                        parts.push(filter);
                    }
                }
                only_or(parts, Self::Or)
            }
            Self::Not(filter) => match filter.simplify() {
                filter if filter == Self::EVERYTHING => Self::NOTHING,
                filter if filter == Self::NOTHING => Self::EVERYTHING,
                Self::Not(inner) => *inner,
                filter => Self::Not(Box::new(filter)),
            },
            Self::In { values, .. } if values.is_empty() => Self::NOTHING,
            filter => filter,
        }
    }
}

/// The only part, or all of them together.
fn only_or(mut parts: Vec<Filter>, all: fn(Vec<Filter>) -> Filter) -> Filter {
    match parts.pop() {
        Some(part) if parts.is_empty() => part,
        Some(part) => {
            parts.push(part);
            all(parts)
        }
        None => all(parts),
    }
}

fn any_element(value: Option<&Value>, holds: impl Fn(&Value) -> bool) -> bool {
    match value {
        Some(Value::Array(elements)) => elements.iter().any(holds),
        Some(value) => holds(value),
        None => false,
    }
}

/// How a value compares with a limit; `None` if it is of another kind.
fn compare(value: &Value, limit: &Limit) -> Option<std::cmp::Ordering> {
    match limit {
        Limit::Number(limit) => value.as_f64()?.partial_cmp(limit),
        Limit::Time(limit) => Some(parse_time(value.as_str()?)?.cmp(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(filter: Value) -> Filter {
        Filter::parse(&filter).unwrap_or_else(|error| panic!("{filter}: {} at {:?}", error, error.pointer()))
    }

    fn matches(filter: Value, metadata: Value) -> bool {
        let metadata = metadata.as_object().unwrap();
        let filter = parse(filter);
        let simple = filter.clone().simplify();
        assert_eq!(filter.matches(metadata), simple.matches(metadata), "{filter:?} is not {simple:?}");
        filter.matches(metadata)
    }

    #[test]
    fn numbers_compare_as_numbers_and_types_are_not_mixed() {
        assert!(matches(json!({"year": 2023}), json!({"year": 2023.0})));
        assert!(matches(json!({"year": 2023.0}), json!({"year": 2023})));
        assert!(!matches(json!({"year": "2023"}), json!({"year": 2023})));
        assert!(!matches(json!({"flag": 1}), json!({"flag": true})));
        assert!(matches(json!({"x": 0.5}), json!({"x": 0.5})));
        assert!(matches(json!({"x": 9_007_199_254_740_993_i64}), json!({"x": 9_007_199_254_740_993_i64})));
        assert!(!matches(json!({"x": 9_007_199_254_740_993_i64}), json!({"x": 9_007_199_254_740_992_i64})));
    }

    #[test]
    fn arrays_match_by_any_element() {
        assert!(matches(json!({"tags": "b"}), json!({"tags": ["a", "b"]})));
        assert!(!matches(json!({"tags": {"$ne": "b"}}), json!({"tags": ["a", "b"]})));
        assert!(!matches(json!({"n": {"$gt": 3, "$lt": 7}}), json!({"n": [1, 9]})), "one element lies in the range");
        assert!(!matches(json!({"tags": "a"}), json!({"tags": [["a"]]})));
    }

    #[test]
    fn what_is_missing_null_or_empty_does_not_exist() {
        for missing in [json!({}), json!({"f": null}), json!({"f": []})] {
            assert!(matches(json!({"f": null}), missing.clone()));
            assert!(matches(json!({"f": {"$exists": false}}), missing.clone()));
            assert!(matches(json!({"f": {"$ne": 1}}), missing.clone()));
            assert!(matches(json!({"f": {"$nin": [1, 2]}}), missing.clone()));
            assert!(!matches(json!({"f": {"$ne": null}}), missing.clone()));
            assert!(matches(json!({"f": {"$in": [1, null]}}), missing.clone()));
            assert!(!matches(json!({"f": {"$lte": 1}}), missing.clone()));
        }
        assert!(matches(json!({"f": {"$exists": true}}), json!({"f": [null]})));
    }

    #[test]
    fn times_compare_as_times() {
        let metadata = json!({"at": "2024-03-01T12:00:00+02:00"});
        assert!(matches(json!({"at": {"$lt": "2024-03-01T10:30:00Z"}}), metadata.clone()));
        assert!(matches(json!({"at": {"$gte": "2024-03-01"}}), metadata.clone()));
        assert!(!matches(json!({"at": {"$gt": 5}}), metadata));
        assert!(matches(json!({"at": {"$lte": "2024-03-01"}}), json!({"at": "2024-02-29 23:59"})));
        assert!(!matches(json!({"at": {"$lte": "2024-03-01"}}), json!({"at": "soon"})));
    }

    #[test]
    fn paths_go_through_objects_and_quotes_keep_dots() {
        let metadata = json!({"a": {"b.c": 1, "d": {"e f": "x"}}, "list": [{"g": 1}]});
        assert!(matches(json!({"a.\"b.c\"": 1}), metadata.clone()));
        assert!(matches(json!({"a.d.e f": "x"}), metadata.clone()));
        assert!(!matches(json!({"list.g": 1}), metadata));
        assert_eq!(serde_json::to_value(parse(json!({"a.\"b.c\"": 1}))).unwrap()["in"]["field"], "a.\"b.c\"");
    }

    #[test]
    fn constants_disappear() {
        let nothing = [
            json!({"$or": []}),
            json!({"f": {"$in": []}}),
            json!({"$not": {}}),
            json!({"f": 1, "$or": [{"g": {"$in": []}}, {"$or": []}]}),
        ];
        for filter in nothing {
            assert_eq!(parse(filter.clone()).simplify(), Filter::NOTHING, "{filter}");
        }
        let everything =
            [json!({}), json!({"$and": []}), json!({"f": {"$nin": []}}), json!({"$or": [{"f": 1}, {"$and": []}]})];
        for filter in everything {
            assert_eq!(parse(filter.clone()).simplify(), Filter::EVERYTHING, "{filter}");
        }
        assert_eq!(parse(json!({"$not": {"$not": {"f": 1}}})).simplify(), parse(json!({"f": 1})));
    }

    #[test]
    fn whole_floats_become_integers_deep_down() {
        let mut value = json!({"a": [1.0, 1.5, {"b": -0.0}], "c": 1e300});
        normalize_numbers(&mut value);
        assert_eq!(value.to_string(), json!({"a": [1, 1.5, {"b": 0}], "c": 1e300}).to_string());
    }
}
