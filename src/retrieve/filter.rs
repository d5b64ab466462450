//! Our filter language over metadata: one AST, parsed once, compiled by each vector store.

use serde::Serialize;

/// A value that a field is compared with.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Scalar {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// True or false.
    Boolean(bool),
}

/// A limit of a range; numbers compare as numbers, text that is an RFC 3339 date or date-time as time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Limit {
    /// A number.
    Number(f64),
    /// A moment, RFC 3339.
    Time(chrono::DateTime<chrono::Utc>),
}

/// A condition on a document's metadata. A field is a dotted path into it; an array matches if any element does.
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
        /// Dotted path.
        field: String,
        /// Any of these.
        values: Vec<Scalar>,
    },
    /// The field lies in a range; a missing limit is open.
    Range {
        /// Dotted path.
        field: String,
        /// Greater than.
        gt: Option<Limit>,
        /// Greater than or equal.
        gte: Option<Limit>,
        /// Less than.
        lt: Option<Limit>,
        /// Less than or equal.
        lte: Option<Limit>,
    },
    /// The field is there and not null (or is not there, under `Not`).
    Exists {
        /// Dotted path.
        field: String,
    },
}
