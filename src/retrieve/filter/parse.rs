//! JSON → [`Filter`], within limits, with the place of what is wrong.

use std::str::FromStr;

use serde_json::Value;

use super::{FieldPath, Filter, Limit, Scalar, parse_time};
use crate::error::{Error, Result};

/// Most levels of `$and`, `$or` and `$not`, the outermost object included.
const MAX_DEPTH: usize = 8;
/// Most objects of a filter.
const MAX_PARTS: usize = 256;
/// Most conditions on fields.
const MAX_CONDITIONS: usize = 64;
/// Most values in all lists of `$in` and `$nin` together.
const MAX_VALUES: usize = 1_000;
/// Longest field, in bytes.
const MAX_FIELD: usize = 256;

/// Where a filter stands in a request; error pointers start with it.
const ROOT: &str = "/filters";

const COMBINATIONS: &[&str] = &["$and", "$or", "$not"];
const OPERATORS: &[&str] = &["$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$exists", "$not"];

impl Filter {
    /// Reads a filter from the `filters` of a request. Errors point at what is wrong, from `/filters` on.
    pub fn parse(value: &Value) -> Result<Self> {
        Parser::default().combination(value, ROOT, 1)
    }
}

impl FromStr for FieldPath {
    type Err = Error;

    fn from_str(field: &str) -> Result<Self> {
        let refuse = |why: &str| Err(Error::invalid(ROOT, format!("field `{field}` {why}")));
        if field.is_empty() || field.len() > MAX_FIELD {
            return Err(Error::invalid(ROOT, format!("a field has 1 to {MAX_FIELD} bytes")));
        }
        let mut segments = Vec::new();
        let mut rest = Some(field);
        while let Some(text) = rest {
            let (segment, after) = match text.strip_prefix('"') {
                Some(quoted) => match quoted.split_once('"') {
                    Some((segment, "")) => (segment, None),
                    Some((segment, after)) if after.starts_with('.') => (segment, Some(&after[1..])),
                    Some(_) => return refuse("has text between a closing quote and the next dot"),
                    None => return refuse("has a quote that is not closed"),
                },
                None => text.split_once('.').map_or((text, None), |(segment, after)| (segment, Some(after))),
            };
            if segment.is_empty() {
                return refuse("has an empty name between its dots");
            }
            if segment.contains(['"', '\\']) {
                return refuse("has a quote or a backslash in a name: such names cannot be searched");
            }
            segments.push(segment.to_owned());
            rest = after;
        }
        Ok(Self(segments))
    }
}

/// Counts what has been read, for the limits.
#[derive(Default)]
struct Parser {
    parts: usize,
    conditions: usize,
    values: usize,
}

impl Parser {
    /// `{"field": …, "$or": […]}`: all must hold.
    fn combination(&mut self, value: &Value, at: &str, depth: usize) -> Result<Filter> {
        let Value::Object(fields) = value else {
            return Err(Error::invalid(at, "a filter is an object such as {\"year\": {\"$gte\": 2023}}"));
        };
        if depth > MAX_DEPTH {
            return Err(Error::invalid(at, format!("a filter has at most {MAX_DEPTH} levels")));
        }
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(Error::invalid(ROOT, format!("a filter has at most {MAX_PARTS} parts")));
        }
        let mut parts = Vec::with_capacity(fields.len());
        for (key, value) in fields {
            if key.len() > MAX_FIELD {
                return Err(Error::invalid(at, format!("a field has 1 to {MAX_FIELD} bytes")));
            }
            let at = child(at, key);
            parts.push(match key.as_str() {
                "$and" => Filter::And(self.list(value, &at, depth)?),
                "$or" => Filter::Or(self.list(value, &at, depth)?),
                "$not" => Filter::Not(Box::new(self.combination(value, &at, depth + 1)?)),
                operator if OPERATORS.contains(&operator) => {
                    return Err(Error::invalid(
                        at,
                        format!("`{operator}` belongs under a field, as in {{\"year\": {{\"{operator}\": …}}}}"),
                    ));
                }
                unknown if unknown.starts_with('$') => return Err(unknown_operator(unknown, COMBINATIONS, &at)),
                field => {
                    let field = field.parse::<FieldPath>().map_err(|error| error.at(at.as_str()))?;
                    self.field(&field, value, &at, depth)?
                }
            });
        }
        Ok(unwrap_single(parts))
    }

    fn list(&mut self, value: &Value, at: &str, depth: usize) -> Result<Vec<Filter>> {
        let Value::Array(filters) = value else {
            return Err(Error::invalid(at, "takes a list of filters"));
        };
        let parse = |(i, filter)| self.combination(filter, &format!("{at}/{i}"), depth + 1);
        filters.iter().enumerate().map(parse).collect()
    }

    /// What stands under a field: a value, or an object of operators that must all hold.
    fn field(&mut self, field: &FieldPath, value: &Value, at: &str, depth: usize) -> Result<Filter> {
        let operators = match value {
            Value::Object(operators) => operators,
            Value::Array(_) => return Err(Error::invalid(at, "a list of values is written {\"$in\": […]}")),
            value => return self.equals(field, std::slice::from_ref(value), at),
        };
        if operators.is_empty() {
            return Err(Error::invalid(at, "holds no operator"));
        }
        let mut parts = Vec::with_capacity(operators.len());
        let mut range = RangeLimits::default();
        for (operator, operand) in operators {
            if operator.len() > MAX_FIELD {
                return Err(Error::invalid(at, "holds an unknown operator"));
            }
            let at = child(at, operator);
            match operator.as_str() {
                "$eq" => parts.push(self.equals(field, std::slice::from_ref(operand), &at)?),
                "$ne" => parts.push(not(self.equals(field, std::slice::from_ref(operand), &at)?)),
                "$in" => parts.push(self.any_of(field, operand, &at)?),
                "$nin" => parts.push(not(self.any_of(field, operand, &at)?)),
                "$exists" => parts.push(self.exists(field, operand, &at)?),
                "$not" if depth >= MAX_DEPTH => {
                    return Err(Error::invalid(at, format!("a filter has at most {MAX_DEPTH} levels")));
                }
                "$not" if operand.is_object() => parts.push(not(self.field(field, operand, &at, depth + 1)?)),
                "$not" => return Err(Error::invalid(at, "takes an object of operators; a value is negated by `$ne`")),
                "$gt" | "$gte" | "$lt" | "$lte" => range.set(operator, operand, &at)?,
                unknown if unknown.starts_with('$') => return Err(unknown_operator(unknown, OPERATORS, &at)),
                _ => {
                    return Err(Error::invalid(at, format!("a field inside `{field}` is written as a path with dots")));
                }
            }
        }
        if !range.is_empty() {
            self.count_condition(at)?;
            let RangeLimits { gt, gte, lt, lte } = range;
            parts.push(Filter::Range { field: field.clone(), gt, gte, lt, lte });
        }
        Ok(unwrap_single(parts))
    }

    fn any_of(&mut self, field: &FieldPath, list: &Value, at: &str) -> Result<Filter> {
        let Value::Array(values) = list else {
            return Err(Error::invalid(at, "takes a list of values"));
        };
        self.values += values.len();
        if self.values > MAX_VALUES {
            return Err(Error::invalid(at, format!("a filter has at most {MAX_VALUES} values in its lists")));
        }
        self.equals(field, values, at)
    }

    /// The field is one of `values`; null among them is a field that does not exist.
    fn equals(&mut self, field: &FieldPath, values: &[Value], at: &str) -> Result<Filter> {
        self.count_condition(at)?;
        let mut scalars = Vec::with_capacity(values.len());
        for value in values.iter().filter(|value| !value.is_null()) {
            let scalar = Scalar::from_json(value)
                .ok_or_else(|| Error::invalid(at, "compares with text, numbers, true, false and null only"))?;
            scalars.push(scalar);
        }
        let has_null = scalars.len() < values.len();
        let any = Filter::In { field: field.clone(), values: scalars };
        let missing = || not(Filter::Exists { field: field.clone() });
        Ok(match (has_null, values.len()) {
            (false, _) => any,
            (true, 1) => missing(),
            (true, _) => Filter::Or(vec![any, missing()]),
        })
    }

    fn exists(&mut self, field: &FieldPath, operand: &Value, at: &str) -> Result<Filter> {
        self.count_condition(at)?;
        let exists = Filter::Exists { field: field.clone() };
        match operand {
            Value::Bool(true) => Ok(exists),
            Value::Bool(false) => Ok(not(exists)),
            _ => Err(Error::invalid(at, "takes true or false")),
        }
    }

    fn count_condition(&mut self, at: &str) -> Result<()> {
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS {
            return Err(Error::invalid(at, format!("a filter has at most {MAX_CONDITIONS} conditions")));
        }
        Ok(())
    }
}

/// The limits of one field, gathered from its operators.
#[derive(Default)]
struct RangeLimits {
    gt: Option<Limit>,
    gte: Option<Limit>,
    lt: Option<Limit>,
    lte: Option<Limit>,
}

impl RangeLimits {
    fn is_empty(&self) -> bool {
        [&self.gt, &self.gte, &self.lt, &self.lte].iter().all(|limit| limit.is_none())
    }

    fn set(&mut self, operator: &str, operand: &Value, at: &str) -> Result<()> {
        let limit = match operand {
            Value::Number(number) => number.as_f64().map(Limit::Number),
            Value::String(text) => parse_time(text).map(Limit::Time),
            _ => None,
        };
        let limit = limit.ok_or_else(|| {
            Error::invalid(at, "compares with a number, or a date or date-time such as 2024-05-31T12:00:00Z")
        })?;
        let mixed = [&self.gt, &self.gte, &self.lt, &self.lte]
            .into_iter()
            .flatten()
            .any(|other| std::mem::discriminant(other) != std::mem::discriminant(&limit));
        if mixed {
            return Err(Error::invalid(at, "a range is between numbers or between times"));
        }
        let slot = match operator {
            "$gt" => &mut self.gt,
            "$gte" => &mut self.gte,
            "$lt" => &mut self.lt,
            _ => &mut self.lte,
        };
        *slot = Some(limit);
        Ok(())
    }
}

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

fn unwrap_single(mut parts: Vec<Filter>) -> Filter {
    match parts.len() {
        1 => parts.remove(0),
        _ => Filter::And(parts),
    }
}

/// The JSON pointer of `key` below `at` (RFC 6901).
fn child(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn unknown_operator(unknown: &str, known: &[&str], at: &str) -> Error {
    let nearest =
        known.iter().max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)));
    let nearest = nearest.map(|operator| format!(", did you mean `{operator}`")).unwrap_or_default();
    Error::invalid(at, format!("unknown operator `{unknown}`{nearest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn refused(filter: Value, pointer: &str, message: &str) {
        let error = Filter::parse(&filter).unwrap_err();
        assert_eq!(error.pointer(), Some(pointer), "{filter}: {error}");
        assert!(error.message().contains(message), "{filter}: {error}");
    }

    #[test]
    fn errors_name_the_place_and_the_way_out() {
        refused(json!([]), "/filters", "a filter is an object");
        refused(json!({"year": {"$gte ": 1}}), "/filters/year/$gte ", "did you mean `$gte`");
        refused(json!({"year": {"$greater": 1}}), "/filters/year/$greater", "unknown operator `$greater`");
        refused(json!({"$nor": []}), "/filters/$nor", "did you mean `$");
        refused(json!({"$eq": 1}), "/filters/$eq", "belongs under a field");
        refused(json!({"$or": {"a": 1}}), "/filters/$or", "a list of filters");
        refused(json!({"$or": [{"a": 1}, {"b": {"c": 1}}]}), "/filters/$or/1/b/c", "path with dots");
        refused(json!({"a/b": {"$in": 1}}), "/filters/a~1b/$in", "a list of values");
        refused(json!({"tags": ["a"]}), "/filters/tags", "$in");
        refused(json!({"tags": {"$in": [["a"]]}}), "/filters/tags/$in", "compares with text");
        refused(json!({"a": {}}), "/filters/a", "no operator");
        refused(json!({"a": {"$exists": 1}}), "/filters/a/$exists", "true or false");
        refused(json!({"a": {"$gt": "soon"}}), "/filters/a/$gt", "a date");
        refused(json!({"a": {"$gt": 1, "$lt": "2024-01-01"}}), "/filters/a/$lt", "between numbers or between times");
        refused(json!({"a": {"$not": 1}}), "/filters/a/$not", "`$ne`");
    }

    #[test]
    fn fields_that_no_store_can_name_are_refused() {
        for field in ["", ".", "a.", "a..b", "say \"hi\"", "back\\slash", "\"open", "\"a\"b"] {
            assert!(Filter::parse(&json!({ field: 1 })).is_err(), "{field}");
        }
        for field in ["a b", "a[0]", "größe", "年", "\"$price\"", "it's", "a.\"b.c\".d"] {
            assert!(Filter::parse(&json!({ field: 1 })).is_ok(), "{field}");
        }
    }

    #[test]
    fn limits_hold() {
        let nested = |levels: usize| (1..levels).fold(json!({"a": 1}), |filter, _| json!({"$and": [filter]}));
        assert!(Filter::parse(&nested(MAX_DEPTH)).is_ok());
        assert!(Filter::parse(&nested(MAX_DEPTH + 1)).unwrap_err().message().contains("levels"));

        let negated = (0..MAX_DEPTH).fold(json!({"$eq": 1}), |operators, _| json!({"$not": operators}));
        assert!(Filter::parse(&json!({"a": negated})).unwrap_err().message().contains("levels"));

        let wide = |n: usize| json!({"$or": (0..n).map(|i| json!({"a": i})).collect::<Vec<_>>()});
        assert!(Filter::parse(&wide(MAX_CONDITIONS)).is_ok());
        assert!(Filter::parse(&wide(MAX_CONDITIONS + 1)).unwrap_err().message().contains("conditions"));

        let list = |n: usize| json!({"a": {"$in": (0..n / 2).collect::<Vec<_>>()}, "b": {"$nin": (0..n - n / 2).collect::<Vec<_>>()}});
        assert!(Filter::parse(&list(MAX_VALUES)).is_ok());
        assert!(Filter::parse(&list(MAX_VALUES + 1)).unwrap_err().message().contains("values"));
    }

    #[test]
    fn several_operators_on_a_field_all_hold() {
        let filter = Filter::parse(&json!({"a": {"$gte": 1, "$lt": 5, "$ne": 3}})).unwrap();
        for (value, expected) in [(0, false), (1, true), (3, false), (4, true), (5, false)] {
            assert_eq!(filter.matches(json!({"a": value}).as_object().unwrap()), expected, "{value}");
        }
    }
}
