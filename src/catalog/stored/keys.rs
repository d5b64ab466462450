//! Rows of keys.

use std::sync::LazyLock;

use sqlx::query::Query;
use sqlx::{ColumnIndex, Database, Decode, Encode, FromRow, Type};

use super::{damaged, identifier, insert_sql, json, moment, parse};
use crate::catalog::{KeyPatch, KeyRecord};
use crate::error::Result;

stored! {
    /// A row of the table `api_keys`.
    StoredKey {
        id: String,
        hash: Vec<u8>,
        name: String,
        tenant: String,
        user: String,
        groups: String,
        scopes: String,
        active: bool,
        expires_at: Option<i64>,
        created_at: i64,
    }
}

/// The statement that writes a new key, and nothing where its id is taken.
pub(in crate::catalog) static INSERT_KEY: LazyLock<String> =
    LazyLock::new(|| format!("{} ON CONFLICT (id) DO NOTHING", insert_sql("api_keys", StoredKey::COLUMNS)));

impl StoredKey {
    /// A row to be written.
    pub(in crate::catalog) fn of(key: &KeyRecord) -> Result<Self> {
        Ok(Self {
            id: key.id.clone(),
            hash: key.hash.to_vec(),
            name: key.name.clone(),
            tenant: key.tenant.as_str().to_owned(),
            user: key.user.clone(),
            groups: json(&key.groups)?,
            scopes: json(&key.scopes)?,
            active: key.active,
            expires_at: key.expires_at.map(|at| at.timestamp_millis()),
            created_at: key.created_at.timestamp_millis(),
        })
    }

    /// The key of a row.
    pub(in crate::catalog) fn into_record(self) -> Result<KeyRecord> {
        Ok(KeyRecord {
            id: self.id,
            hash: self.hash.try_into().map_err(|_| damaged("a hash that is none"))?,
            name: self.name,
            tenant: identifier(&self.tenant)?,
            user: self.user,
            groups: parse(&self.groups)?,
            scopes: parse(&self.scopes)?,
            active: self.active,
            expires_at: self.expires_at.map(moment).transpose()?,
            created_at: moment(self.created_at)?,
        })
    }
}

/// A change of such a row; `None` keeps, where `change_expires_at` does not say that `None` is new.
#[derive(Debug)]
pub(in crate::catalog) struct StoredKeyPatch {
    pub(in crate::catalog) name: Option<String>,
    pub(in crate::catalog) groups: Option<String>,
    pub(in crate::catalog) scopes: Option<String>,
    pub(in crate::catalog) active: Option<bool>,
    pub(in crate::catalog) change_expires_at: bool,
    pub(in crate::catalog) expires_at: Option<i64>,
}

impl StoredKeyPatch {
    /// A change to be written.
    pub(in crate::catalog) fn of(patch: &KeyPatch) -> Result<Self> {
        Ok(Self {
            name: patch.name.clone(),
            groups: patch.groups.as_ref().map(json).transpose()?,
            scopes: patch.scopes.as_ref().map(json).transpose()?,
            active: patch.active,
            change_expires_at: patch.expires_at.is_some(),
            expires_at: patch.expires_at.flatten().map(|at| at.timestamp_millis()),
        })
    }
}
