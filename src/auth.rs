//! Keys, and who a caller is.
//!
//! A key is `rag_<id>_<secret>`. The catalog has its id and the SHA-256 of the whole; a secret of 256 random bits needs
//! no slow hash. Beside those, one key may be configured, which works from the first start.

mod keys;

pub(crate) use keys::MIN_ADMIN_KEY;
pub use keys::{ADMIN_KEY_ID, Keys, NewKey, REMEMBERED};

pub use crate::catalog::KeyPatch;
use crate::catalog::KeyScope;
use crate::document::{Principal, Scope, TenantId};
use crate::error::Result;

/// How callers prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A key that works from the first start: tenant `default`, user `admin`, all scopes.
    pub admin_api_key: Option<crate::config::Secret>,
}

/// A caller, by the key that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The key's id, for limits and logs.
    pub key_id: String,
    /// The tenant it acts in.
    pub tenant: TenantId,
    /// The user it acts as.
    pub user: String,
    /// The groups it acts as.
    pub groups: Vec<String>,
    /// What it may do.
    pub scopes: Vec<KeyScope>,
}

impl Identity {
    /// Whether it may do this; admin may do everything.
    pub fn may(&self, scope: KeyScope) -> bool {
        self.scopes.iter().any(|held| *held == scope || *held == KeyScope::Admin)
    }

    /// Whether it administers its tenant.
    pub fn is_admin(&self) -> bool {
        self.scopes.contains(&KeyScope::Admin)
    }

    /// The user as a principal.
    pub fn owner(&self) -> Result<Principal> {
        Principal::user(&self.user)
    }

    /// What it may see: its user, its groups, and what is public in its tenant.
    pub fn scope(&self) -> Result<Scope> {
        let mut principals = vec![Principal::public(), self.owner()?];
        for group in &self.groups {
            principals.push(Principal::group(group)?);
        }
        Ok(Scope::new(self.tenant.clone(), principals))
    }
}
