//! What `/v1/keys` takes and sends.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::{Array, ArrayBuilder, ObjectBuilder, Type};

use crate::auth::{KeyPatch, NewKey};
use crate::catalog::{KeyRecord, KeyScope};
use crate::config::Secret;
use crate::document::TenantId;
use crate::error::{Error, Result};
use crate::http::problem::scope_name;

/// A key to make.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "ada's laptop", "user": "ada", "groups": ["finance"], "scopes": ["query"]}))]
pub(in crate::http) struct KeyRequest {
    /// What its owner calls it.
    #[serde(default)]
    #[schema(max_length = 200)]
    name: String,
    /// The user it acts as.
    #[schema(max_length = 128)]
    user: String,
    /// The groups it acts as.
    #[serde(default)]
    #[schema(max_items = 256)]
    groups: Vec<String>,
    /// What it may do; `admin` may do everything.
    #[schema(schema_with = scopes_schema)]
    scopes: Vec<KeyScope>,
    /// When it stops working; without: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<DateTime<Utc>>,
    /// Another tenant than the caller's, for the operator's key alone.
    #[schema(value_type = Option<String>, max_length = 128)]
    pub(super) tenant: Option<TenantId>,
}

impl KeyRequest {
    pub(super) fn new_key(self, tenant: TenantId) -> NewKey {
        let Self { name, user, groups, scopes, expires_at, tenant: _ } = self;
        NewKey { tenant, user, groups, scopes, name, expires_at }
    }
}

/// A change of a key; what is not given stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"active": false}))]
pub(in crate::http) struct KeyChange {
    /// What its owner calls it.
    #[schema(max_length = 200)]
    name: Option<String>,
    /// The groups it acts as, whole.
    #[schema(max_items = 256)]
    groups: Option<Vec<String>>,
    /// What it may do, whole.
    #[schema(schema_with = scopes_schema, required = false)]
    scopes: Option<Vec<KeyScope>>,
    /// Whether it works.
    active: Option<bool>,
    /// When it stops working; `null`: never.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Option<DateTime<Utc>>>,
}

/// Tells `null` from a field that is not there.
fn given<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Option<DateTime<Utc>>>, D::Error> {
    Option::deserialize(json).map(Some)
}

impl KeyChange {
    pub(super) fn checked(self) -> Result<KeyPatch> {
        let Self { name, groups, scopes, active, expires_at } = self;
        let patch = KeyPatch { name, groups, scopes, active, expires_at };
        if patch == KeyPatch::default() {
            return Err(Error::invalid("", "nothing to change: give name, groups, scopes, active or expires_at"));
        }
        Ok(patch)
    }
}

/// A key, without its secret.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct KeyView {
    /// Its public part.
    id: String,
    /// What its owner calls it.
    name: String,
    /// The tenant it acts in.
    #[schema(value_type = String)]
    tenant: TenantId,
    /// The user it acts as.
    user: String,
    /// The groups it acts as.
    groups: Vec<String>,
    /// What it may do.
    #[schema(schema_with = scopes_schema)]
    scopes: Vec<KeyScope>,
    /// Whether it works.
    active: bool,
    /// When it stops working.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<DateTime<Utc>>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: DateTime<Utc>,
}

impl From<KeyRecord> for KeyView {
    fn from(record: KeyRecord) -> Self {
        let KeyRecord { id, hash: _, name, tenant, user, groups, scopes, active, expires_at, created_at } = record;
        Self { id, name, tenant, user, groups, scopes, active, expires_at, created_at }
    }
}

/// A new key with its secret, which is never shown again.
#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct CreatedKey {
    /// What is sent as `X-API-Key`.
    #[schema(example = "rag_ID_SECRET")]
    key: String,
    /// The rest.
    #[serde(flatten)]
    view: KeyView,
}

impl CreatedKey {
    pub(super) fn new(record: KeyRecord, secret: &Secret) -> Self {
        Self { key: secret.expose().to_owned(), view: record.into() }
    }
}

/// A page of keys.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct KeyList {
    /// By id.
    pub(super) keys: Vec<KeyView>,
    /// The `cursor` of the next page; null on the last one.
    pub(super) next_cursor: Option<String>,
}

fn scopes_schema() -> Array {
    let names = [KeyScope::Query, KeyScope::Ingest, KeyScope::Admin].map(scope_name);
    let one = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
    ArrayBuilder::new().items(one).min_items(Some(1)).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::parse;

    #[test]
    fn a_key_to_make_names_its_user_and_scopes() {
        let request: KeyRequest = parse(br#"{"user": "ada", "scopes": ["query", "ingest"]}"#).unwrap();
        let new = request.new_key("acme".parse().unwrap());
        assert_eq!(new.scopes, [KeyScope::Query, KeyScope::Ingest]);
        assert_eq!((new.tenant.as_str(), new.user.as_str(), new.expires_at), ("acme", "ada", None));
    }

    #[test]
    fn null_takes_the_expiry_away_and_nothing_keeps_it() {
        let change = |json: &str| parse::<KeyChange>(json.as_bytes()).unwrap().checked();
        assert_eq!(change(r#"{"expires_at": null}"#).unwrap().expires_at, Some(None));
        assert_eq!(change(r#"{"active": false}"#).unwrap().expires_at, None);
        assert!(change(r#"{"expires_at": "2030-01-01T00:00:00Z"}"#).unwrap().expires_at.flatten().is_some());
        assert_eq!(change("{}").unwrap_err().pointer(), Some(""));
    }
}
