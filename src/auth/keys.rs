//! [`Keys`]: making keys, knowing them again, and who may manage which.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Config, Identity};
use crate::catalog::{Catalog, KeyPatch, KeyRecord, KeyScope};
use crate::config::Secret;
use crate::document::{Principal, TenantId};
use crate::error::{Error, Result};

/// The id of the configured admin key. Ids of made keys are longer, so none is this one.
pub const ADMIN_KEY_ID: &str = "admin";
/// The tenant and user of the configured admin key.
const ADMIN_TENANT: &str = "default";
const ADMIN_USER: &str = "admin";
/// Fewest characters of the configured admin key: so many cannot be guessed even if they are words.
pub(crate) const MIN_ADMIN_KEY: usize = 24;

/// Characters of a key's id: 95 bits, so that ids do not collide.
const ID_LENGTH: usize = 16;
/// Characters of a key's secret: 43 of 62 letters and digits are 256 bits.
const SECRET_LENGTH: usize = 43;
/// Longest key that is looked at.
const MAX_PRESENTED: usize = 512;

/// How long a key is remembered. A revocation by another process takes effect after this at most.
pub const REMEMBERED: Duration = Duration::from_secs(3);
/// Most keys that are remembered.
const MAX_REMEMBERED: u64 = 10_000;

/// Longest name of a key, in characters.
const MAX_NAME: usize = 200;
/// Most groups of a key: each is a value in every search's filter.
const MAX_GROUPS: usize = 256;

/// A key to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// The tenant it acts in.
    pub tenant: TenantId,
    /// The user it acts as.
    pub user: String,
    /// The groups it acts as.
    pub groups: Vec<String>,
    /// What it may do.
    pub scopes: Vec<KeyScope>,
    /// What its owner calls it.
    pub name: String,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key that was right a moment ago.
#[derive(Debug, Clone)]
struct Remembered {
    identity: Identity,
    expires_at: Option<DateTime<Utc>>,
    /// What [`Keys::changes`] was before the key was read.
    as_of: u64,
}

/// Keys of this installation.
#[derive(Debug)]
pub struct Keys {
    catalog: Arc<dyn Catalog>,
    /// SHA-256 of the configured admin key, and who it is.
    admin: Option<([u8; 32], Identity)>,
    /// By SHA-256 of the whole key, so that no key is kept in memory.
    remembered: moka::sync::Cache<[u8; 32], Remembered>,
    /// Counts this process's changes of keys. What was read before a change is not believed after it, not even when a
    /// reading overlaps the change.
    changes: AtomicU64,
}

impl Keys {
    /// Keys in `catalog`, and the configured admin key.
    pub fn new(config: &Config, catalog: Arc<dyn Catalog>) -> Result<Self> {
        let admin = config.admin_api_key.as_ref().map(admin).transpose()?;
        Ok(Self { catalog, admin, remembered: memory(REMEMBERED), changes: AtomicU64::new(0) })
    }

    /// Remembers keys for so long instead of [`REMEMBERED`]; zero: not at all.
    #[must_use]
    pub fn with_remembered(self, time: Duration) -> Self {
        Self { remembered: memory(time), ..self }
    }

    /// Who sent this key; `None` if it is unknown, revoked or expired. An unknown id costs the same work as a wrong
    /// secret: one look-up, one comparison in constant time.
    pub async fn authenticate(&self, presented: &str) -> Result<Option<Identity>> {
        if presented.len() > MAX_PRESENTED {
            return Ok(None);
        }
        let hash: [u8; 32] = Sha256::digest(presented).into();
        if let Some((expected, identity)) = &self.admin
            && bool::from(expected.ct_eq(&hash))
        {
            return Ok(Some(identity.clone()));
        }
        let Some(id) = id_of(presented) else {
            return Ok(None);
        };
        let as_of = self.changes.load(Ordering::SeqCst);
        if let Some(known) = self.remembered.get(&hash)
            && known.as_of == as_of
        {
            return Ok(is_current(known.expires_at).then_some(known.identity));
        }
        let record = self.catalog.key(id).await?;
        let expected = record.as_ref().map_or([0; 32], |record| record.hash);
        let right = bool::from(expected.ct_eq(&hash));
        let Some(record) = record.filter(|record| right && record.active && is_current(record.expires_at)) else {
            return Ok(None);
        };
        let expires_at = record.expires_at;
        let identity = identity(record);
        self.remembered.insert(hash, Remembered { identity: identity.clone(), expires_at, as_of });
        Ok(Some(identity))
    }

    /// The tenant whose keys `caller` manages: its own, which is what `None` means. The configured admin key is the
    /// operator's and manages every tenant's keys; for everybody else another tenant is
    /// [`crate::error::ErrorKind::NotFound`], as if it did not exist.
    pub fn managed_tenant(&self, caller: &Identity, requested: Option<TenantId>) -> Result<TenantId> {
        if !caller.may(KeyScope::Admin) {
            return Err(Error::not_found("tenant"));
        }
        match requested {
            Some(tenant) if tenant != caller.tenant && caller.key_id != ADMIN_KEY_ID => Err(Error::not_found("tenant")),
            requested => Ok(requested.unwrap_or_else(|| caller.tenant.clone())),
        }
    }

    /// Makes a key. The second value is the whole key, which nobody can ever read again.
    pub async fn create(&self, new: NewKey) -> Result<(KeyRecord, Secret)> {
        let id = Alphanumeric.sample_string(&mut rand::rng(), ID_LENGTH);
        let key = format!("rag_{id}_{}", Alphanumeric.sample_string(&mut rand::rng(), SECRET_LENGTH));
        let now = Utc::now().timestamp_millis();
        let record = checked(KeyRecord {
            id,
            hash: Sha256::digest(&key).into(),
            name: new.name,
            tenant: new.tenant,
            user: new.user,
            groups: new.groups,
            scopes: new.scopes,
            active: true,
            expires_at: new.expires_at,
            created_at: DateTime::from_timestamp_millis(now).unwrap_or_default(),
        })?;
        self.catalog.insert_key(&record).await?;
        Ok((record, Secret::new(key)))
    }

    /// The keys of a tenant by id, those after `after`, at most `limit`.
    pub async fn list(&self, tenant: &TenantId, after: Option<&str>, limit: u32) -> Result<Vec<KeyRecord>> {
        self.catalog.keys(tenant, after, limit).await
    }

    /// A key of a tenant; [`crate::error::ErrorKind::NotFound`] if it is none of this tenant.
    pub async fn get(&self, tenant: &TenantId, id: &str) -> Result<KeyRecord> {
        let record = self.catalog.key(id).await?.filter(|record| record.tenant == *tenant);
        record.ok_or_else(|| Error::not_found("key"))
    }

    /// Changes a key of a tenant; effective at once in this process, within 3 s in others. What the patch does not name
    /// stays as it is when the change is written, whoever else changes the key meanwhile.
    pub async fn update(&self, tenant: &TenantId, id: &str, mut patch: KeyPatch) -> Result<KeyRecord> {
        if let Some(name) = &patch.name {
            check_name(name)?;
        }
        if let Some(groups) = &mut patch.groups {
            tidy_groups(groups)?;
        }
        if let Some(scopes) = &mut patch.scopes {
            tidy_scopes(scopes)?;
        }
        let written = self.catalog.patch_key(tenant, id, &patch).await;
        self.forget();
        written?.ok_or_else(|| Error::not_found("key"))
    }

    /// Removes a key of a tenant; effective at once in this process, within 3 s in others.
    pub async fn revoke(&self, tenant: &TenantId, id: &str) -> Result<()> {
        let removed = self.catalog.delete_key(tenant, id).await;
        self.forget();
        if removed? { Ok(()) } else { Err(Error::not_found("key")) }
    }

    /// Believes nothing that was read before now.
    fn forget(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

fn memory(time: Duration) -> moka::sync::Cache<[u8; 32], Remembered> {
    moka::sync::Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(time).build()
}

/// The id in `rag_<id>_<secret>`. Neither part has an underscore.
fn id_of(key: &str) -> Option<&str> {
    let (id, secret) = key.strip_prefix("rag_")?.split_once('_')?;
    let sane = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (sane(id, ID_LENGTH) && sane(secret, SECRET_LENGTH)).then_some(id)
}

fn is_current(expires_at: Option<DateTime<Utc>>) -> bool {
    expires_at.is_none_or(|at| at > Utc::now())
}

fn identity(record: KeyRecord) -> Identity {
    let KeyRecord { id: key_id, tenant, user, groups, scopes, .. } = record;
    Identity { key_id, tenant, user, groups, scopes }
}

fn admin(key: &Secret) -> Result<([u8; 32], Identity)> {
    let key = key.expose();
    if key.chars().count() < MIN_ADMIN_KEY {
        return Err(Error::config(format!("RAG_ADMIN_API_KEY must have at least {MIN_ADMIN_KEY} characters")));
    }
    if key.len() > MAX_PRESENTED {
        return Err(Error::config(format!("RAG_ADMIN_API_KEY must have at most {MAX_PRESENTED} bytes")));
    }
    let identity = Identity {
        key_id: ADMIN_KEY_ID.to_owned(),
        tenant: ADMIN_TENANT.parse()?,
        user: ADMIN_USER.to_owned(),
        groups: Vec::new(),
        scopes: vec![KeyScope::Query, KeyScope::Ingest, KeyScope::Admin],
    };
    Ok((Sha256::digest(key).into(), identity))
}

/// A key as it is stored: names that are principals, lists sorted and unique.
fn checked(mut record: KeyRecord) -> Result<KeyRecord> {
    Principal::user(&record.user).map_err(|_| not_a_name("/user", "user"))?;
    check_name(&record.name)?;
    tidy_groups(&mut record.groups)?;
    tidy_scopes(&mut record.scopes)?;
    Ok(record)
}

fn check_name(name: &str) -> Result<()> {
    if name.chars().count() > MAX_NAME {
        return Err(Error::invalid("/name", format!("a name has at most {MAX_NAME} characters")));
    }
    Ok(())
}

fn tidy_groups(groups: &mut Vec<String>) -> Result<()> {
    for group in groups.iter() {
        Principal::group(group).map_err(|_| not_a_name("/groups", "group"))?;
    }
    groups.sort();
    groups.dedup();
    if groups.len() > MAX_GROUPS {
        return Err(Error::invalid("/groups", format!("a key has at most {MAX_GROUPS} groups")));
    }
    Ok(())
}

fn tidy_scopes(scopes: &mut Vec<KeyScope>) -> Result<()> {
    scopes.sort();
    scopes.dedup();
    if scopes.is_empty() {
        return Err(Error::invalid("/scopes", "a key needs a scope: query, ingest or admin"));
    }
    Ok(())
}

fn not_a_name(pointer: &str, what: &str) -> Error {
    let most = crate::document::MAX_IDENTIFIER;
    Error::invalid(pointer, format!("a {what} is 1 to {most} of the characters A-Z a-z 0-9 - _ . @ + :"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_form_of_a_key_has_an_id() {
        let secret = "s".repeat(SECRET_LENGTH);
        assert_eq!(id_of(&format!("rag_0123456789abcdef_{secret}")), Some("0123456789abcdef"));
        for other in [
            String::new(),
            "rag_".to_owned(),
            format!("rag_admin_{secret}"),
            format!("0123456789abcdef_{secret}"),
            format!("rag_0123456789abcdef_{}_", &secret[1..]),
            format!("rag_0123456789abcdéf_{secret}"),
            format!("rag_0123456789abcdef_{secret}s"),
            format!("rag_0123456789abcdef{secret}"),
        ] {
            assert_eq!(id_of(&other), None, "{other}");
        }
    }
}
