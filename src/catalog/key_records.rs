//! What the catalog takes and gives of keys, and of requests with an `Idempotency-Key`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::document::TenantId;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyScope {
    /// Ask and search.
    Query,
    /// Upload and manage documents.
    Ingest,
    /// Manage keys; implies the others.
    Admin,
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The public part of the key.
    pub id: String,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// What its owner calls it.
    pub name: String,
    /// The tenant it acts in.
    pub tenant: TenantId,
    /// The user it acts as.
    pub user: String,
    /// The groups it acts as.
    pub groups: Vec<String>,
    /// What it may do.
    pub scopes: Vec<KeyScope>,
    /// Whether it works.
    pub active: bool,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A change of a key; `None` keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPatch {
    /// What its owner calls it.
    pub name: Option<String>,
    /// The groups it acts as, whole.
    pub groups: Option<Vec<String>>,
    /// What it may do, whole.
    pub scopes: Option<Vec<KeyScope>>,
    /// Whether it works.
    pub active: Option<bool>,
    /// When it stops working; `Some(None)`: never.
    pub expires_at: Option<Option<DateTime<Utc>>>,
}

/// What is known of an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idempotency {
    /// It belongs to this request, which is noted now or was noted when it came before.
    Noted(RequestNote),
    /// It belongs to a request with another fingerprint.
    Mismatch,
}

/// A request with an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestNote {
    /// Names the request: a UUIDv7 of the time when it first came.
    pub request: Uuid,
    /// The parts whose documents are written; the others failed, or never began.
    pub done: BTreeSet<u32>,
}

/// One document of a request with an `Idempotency-Key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestPart {
    /// [`RequestNote::request`].
    pub request: Uuid,
    /// Its place in the request, from 0.
    pub part: u32,
}
