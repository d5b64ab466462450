//! `rag-api keys create | list | revoke`: straight in the database, so that the first key needs no key.

use std::process::ExitCode;

use chrono::{TimeDelta, Utc};
use clap::{Subcommand, ValueEnum};
use rag_api::auth::{Keys, NewKey};
use rag_api::catalog::{self, KeyRecord, KeyScope};
use rag_api::config::Config;
use rag_api::document::TenantId;
use rag_api::error::Result;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Scope {
    /// Ask and search
    Query,
    /// Upload and manage documents
    Ingest,
    /// Manage keys; implies the others
    Admin,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key; it is printed once, alone on standard output
    Create {
        /// The user that the key acts as
        #[arg(long)]
        user: String,
        /// The tenant that it acts in
        #[arg(long, default_value = "default")]
        tenant: String,
        /// The user's groups, separated by commas
        #[arg(long, value_delimiter = ',')]
        groups: Vec<String>,
        /// What it may do, separated by commas
        #[arg(long, value_delimiter = ',', default_values = ["query", "ingest"])]
        scopes: Vec<Scope>,
        /// A name to know it by
        #[arg(long, default_value = "")]
        name: String,
        /// Days until it stops working
        #[arg(long, value_name = "N")]
        expires_in_days: Option<u32>,
    },
    /// List the keys of a tenant (never their secrets)
    List {
        /// The tenant
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Revoke a key by its id; it stops working everywhere within 5 seconds
    Revoke {
        /// The key's id, as `list` prints it
        id: String,
        /// The tenant
        #[arg(long, default_value = "default")]
        tenant: String,
    },
}

pub(crate) async fn keys(config: Config, command: KeysCommand) -> Result<ExitCode> {
    let catalog = catalog::build(&config.catalog).await?;
    let keys = Keys::new(&config.auth, catalog)?;
    match command {
        KeysCommand::Create { user, tenant, groups, scopes, name, expires_in_days } => {
            let expires_at = expires_in_days.map(|days| Utc::now() + TimeDelta::days(i64::from(days)));
            let scopes = scopes.into_iter().map(key_scope).collect();
            let new = NewKey { tenant: tenant.parse()?, user, groups, scopes, name, expires_at };
            let (record, secret) = keys.create(new).await?;
            super::complain(&format!(
                "key {} of user {} in tenant {}; it is shown only now:",
                record.id, record.user, record.tenant
            ));
            super::say(secret.expose())
        }
        KeysCommand::List { tenant } => list(&keys, &tenant.parse()?).await,
        KeysCommand::Revoke { id, tenant } => {
            keys.revoke(&tenant.parse()?, &id).await?;
            super::say(&format!("revoked {id}"))
        }
    }
}

async fn list(keys: &Keys, tenant: &TenantId) -> Result<ExitCode> {
    let mut lines = vec!["ID\tNAME\tUSER\tGROUPS\tSCOPES\tACTIVE\tEXPIRES".to_owned()];
    let mut after: Option<String> = None;
    loop {
        let page = keys.list(tenant, after.as_deref(), 100).await?;
        lines.extend(page.iter().map(line));
        match page.last() {
            Some(last) if page.len() == 100 => after = Some(last.id.clone()),
            _ => break,
        }
    }
    super::say(&lines.join("\n"))
}

fn line(key: &KeyRecord) -> String {
    let scopes: Vec<String> = key.scopes.iter().map(|scope| format!("{scope:?}").to_lowercase()).collect();
    let expires = key.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_rfc3339());
    let active = if key.active { "yes" } else { "no" };
    let (groups, scopes) = (key.groups.join(","), scopes.join(","));
    format!("{}\t{}\t{}\t{groups}\t{scopes}\t{active}\t{expires}", key.id, key.name, key.user)
}

fn key_scope(scope: Scope) -> KeyScope {
    match scope {
        Scope::Query => KeyScope::Query,
        Scope::Ingest => KeyScope::Ingest,
        Scope::Admin => KeyScope::Admin,
    }
}
