//! Values of single columns.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::value::{Error as NameError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::error::{Error, Result};

/// A value as JSON.
pub(in crate::catalog) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal("not JSON", error))
}

/// A column that is JSON.
pub(in crate::catalog) fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(damaged)
}

/// A column that is a moment.
pub(in crate::catalog) fn moment(millis: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis).ok_or_else(|| damaged(format!("time {millis}")))
}

/// An identifier; it was checked before it was written.
pub(in crate::catalog) fn identifier<T: std::str::FromStr<Err = Error>>(text: &str) -> Result<T> {
    text.parse().map_err(damaged)
}

/// A value of one of our enumerations, by the name that serde gives it.
pub(in crate::catalog) fn named<T: DeserializeOwned>(name: &str) -> Result<T> {
    let name: StrDeserializer<'_, NameError> = name.into_deserializer();
    T::deserialize(name).map_err(damaged)
}

/// A counter as it is stored.
pub(in crate::catalog) fn integer(number: u64) -> Result<i64> {
    number.try_into().map_err(damaged)
}

/// A counter as it was stored.
pub(in crate::catalog) fn number<T: TryFrom<i64>>(stored: i64) -> Result<T> {
    stored.try_into().map_err(|_| damaged(format!("number {stored}")))
}

/// What cannot be read was not written by this program.
pub(in crate::catalog) fn damaged(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal("the catalog holds a row that cannot be read", what)
}
