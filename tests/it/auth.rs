//! Keys: made, known again, changed, revoked, and managed by whom.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use rag_api::auth::{ADMIN_KEY_ID, Config, KeyPatch, Keys, NewKey, REMEMBERED};
use rag_api::catalog::{Catalog, KeyScope};
use rag_api::config::Secret;
use rag_api::document::{Principal, TenantId};
use rag_api::error::ErrorKind;

const ADMIN_KEY: &str = "00123-a-configured-admin-key";

async fn catalog(folder: &Path) -> Arc<dyn Catalog> {
    rag_api::catalog::build(&rag_api::catalog::Config::Sqlite { path: folder.join("catalog.db") }).await.unwrap()
}

fn keys(catalog: &Arc<dyn Catalog>) -> Keys {
    Keys::new(&Config { admin_api_key: Some(Secret::new(ADMIN_KEY)) }, catalog.clone()).unwrap()
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn ann() -> NewKey {
    NewKey {
        tenant: tenant(),
        user: "ann".to_owned(),
        groups: vec!["sales".to_owned(), "board".to_owned(), "sales".to_owned()],
        scopes: vec![KeyScope::Ingest, KeyScope::Query],
        name: "Ann’s laptop".to_owned(),
        expires_at: None,
    }
}

#[tokio::test]
async fn a_key_is_who_it_was_made_for() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = catalog(folder.path()).await;
    let keys = keys(&catalog);
    let (record, secret) = keys.create(ann()).await.unwrap();
    let key = secret.expose();
    assert!(key.starts_with(&format!("rag_{}_", record.id)));
    assert_eq!(format!("{secret:?}"), "[redacted]");
    // The second time from memory.
    for _ in 0..2 {
        let identity = keys.authenticate(key).await.unwrap().expect("known");
        assert_eq!((identity.key_id.as_str(), identity.user.as_str()), (record.id.as_str(), "ann"));
        assert_eq!(identity.tenant, tenant());
        assert!(identity.may(KeyScope::Query) && identity.may(KeyScope::Ingest) && !identity.may(KeyScope::Admin));
        let names = ["group:board", "group:sales", "public", "user:ann"];
        let principals: Vec<Principal> = names.iter().map(|name| name.parse().unwrap()).collect();
        assert_eq!(identity.scope().unwrap().principals(), principals);
    }
    // Only a hash is stored.
    let stored = catalog.key(&record.id).await.unwrap().unwrap();
    assert_eq!(stored, record);
    let file = std::fs::read(folder.path().join("catalog.db-wal")).unwrap();
    let written = |needle: &str| file.windows(needle.len()).any(|window| window == needle.as_bytes());
    assert!(written(&record.id));
    assert!(!written(key.rsplit('_').next().unwrap()));
    // Two keys have nothing in common.
    let (other, other_secret) = keys.create(ann()).await.unwrap();
    assert_ne!((record.id, key), (other.id, other_secret.expose()));
}

#[tokio::test]
async fn what_is_no_key_is_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = catalog(folder.path()).await;
    let keys = keys(&catalog);
    let (record, secret) = keys.create(ann()).await.unwrap();
    let key = secret.expose();
    let wrong_end = if key.ends_with('0') { "1" } else { "0" };
    let wrong_secret = format!("{}{wrong_end}", &key[..key.len() - 1]);
    let unknown = key.replace(&record.id, "0000000000000000");
    let long = "x".repeat(1_000_000);
    for presented in ["", "rag_", "rag__", ADMIN_KEY_ID, &record.id, &wrong_secret, &unknown, &long, " ", "ключ"] {
        assert_eq!(keys.authenticate(presented).await.unwrap(), None);
    }
    assert!(keys.authenticate(key).await.unwrap().is_some());
    assert_eq!(keys.authenticate(&wrong_secret).await.unwrap(), None);
}

#[tokio::test]
async fn a_change_holds_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = catalog(folder.path()).await;
    let keys = keys(&catalog);
    let (record, secret) = keys.create(ann()).await.unwrap();
    let known = async || keys.authenticate(secret.expose()).await.unwrap();
    assert!(known().await.is_some());

    let patch = KeyPatch { groups: Some(Vec::new()), scopes: Some(vec![KeyScope::Query]), ..KeyPatch::default() };
    keys.update(&tenant(), &record.id, patch).await.unwrap();
    let identity = known().await.unwrap();
    assert!(identity.groups.is_empty() && !identity.may(KeyScope::Ingest));

    let active = |active| KeyPatch { active: Some(active), ..KeyPatch::default() };
    keys.update(&tenant(), &record.id, active(false)).await.unwrap();
    assert_eq!(known().await, None);
    keys.update(&tenant(), &record.id, active(true)).await.unwrap();
    assert!(known().await.is_some());

    let past = Some(Utc::now() - Duration::from_secs(1));
    let expires = |at| KeyPatch { expires_at: Some(at), ..KeyPatch::default() };
    keys.update(&tenant(), &record.id, expires(past)).await.unwrap();
    assert_eq!(known().await, None);
    keys.update(&tenant(), &record.id, expires(None)).await.unwrap();
    assert!(known().await.is_some());

    keys.revoke(&tenant(), &record.id).await.unwrap();
    assert_eq!(known().await, None);
    assert_eq!(keys.revoke(&tenant(), &record.id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_at_once_do_not_undo_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(keys(&catalog(folder.path()).await));
    for _ in 0..20 {
        let (record, secret) = keys.create(ann()).await.unwrap();
        let change = |patch: KeyPatch| {
            let (keys, id) = (keys.clone(), record.id.clone());
            tokio::spawn(async move { keys.update(&tenant(), &id, patch).await.unwrap() })
        };
        let named = |n: u32| KeyPatch { name: Some(format!("name {n}")), ..KeyPatch::default() };
        let mut changes: Vec<_> = (0..4).map(|n| change(named(n))).collect();
        changes.push(change(KeyPatch { active: Some(false), ..KeyPatch::default() }));
        changes.extend((4..8).map(|n| change(named(n))));
        futures::future::join_all(changes).await;
        let key = keys.get(&tenant(), &record.id).await.unwrap();
        assert!(!key.active && key.name.starts_with("name "), "{key:?}");
        assert_eq!(keys.authenticate(secret.expose()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_revocation_by_another_process_takes_effect_when_the_key_is_forgotten() {
    assert!(REMEMBERED <= Duration::from_secs(5));
    for (time, known) in [(Duration::from_secs(3600), true), (Duration::ZERO, false)] {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (catalog(folder.path()).await, catalog(folder.path()).await);
        let (keys_here, keys_there) = (keys(&here), keys(&there).with_remembered(time));
        let (record, secret) = keys_here.create(ann()).await.unwrap();
        assert!(keys_there.authenticate(secret.expose()).await.unwrap().is_some());
        keys_here.revoke(&tenant(), &record.id).await.unwrap();
        let identity = keys_there.authenticate(secret.expose()).await.unwrap();
        assert_eq!(identity.is_some(), known, "remembered for {time:?}");
    }
}

#[tokio::test]
async fn the_configured_admin_key_works_from_the_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = catalog(folder.path()).await;
    let admin = keys(&catalog).authenticate(ADMIN_KEY).await.unwrap().expect("known");
    assert_eq!((admin.tenant.as_str(), admin.user.as_str(), admin.key_id.as_str()), ("default", "admin", "admin"));
    assert!([KeyScope::Query, KeyScope::Ingest, KeyScope::Admin].into_iter().all(|scope| admin.may(scope)));
    assert!(catalog.keys(&admin.tenant, None, 10).await.unwrap().is_empty());

    let none = Keys::new(&Config { admin_api_key: None }, catalog.clone()).unwrap();
    assert_eq!(none.authenticate(ADMIN_KEY).await.unwrap(), None);
    for bad in ["", "x", "only-23-characters-long", &"x".repeat(1_000)] {
        let error = Keys::new(&Config { admin_api_key: Some(Secret::new(bad)) }, catalog.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().starts_with("RAG_ADMIN_API_KEY must have at "));
    }
}

#[tokio::test]
async fn who_manages_which_keys() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = catalog(folder.path()).await;
    let keys = keys(&catalog);
    let operator = keys.authenticate(ADMIN_KEY).await.unwrap().unwrap();
    assert_eq!(keys.managed_tenant(&operator, None).unwrap().as_str(), "default");
    assert_eq!(keys.managed_tenant(&operator, Some(tenant())).unwrap(), tenant());

    let as_admin = async |tenant: &str| {
        let new = NewKey { tenant: tenant.parse().unwrap(), scopes: vec![KeyScope::Admin], ..ann() };
        let (_, secret) = keys.create(new).await.unwrap();
        keys.authenticate(secret.expose()).await.unwrap().unwrap()
    };
    // An admin of a tenant has its own only, also one of the operator's tenant.
    for own in ["acme", "default"] {
        let admin = as_admin(own).await;
        assert_eq!(keys.managed_tenant(&admin, None).unwrap().as_str(), own);
        assert_eq!(keys.managed_tenant(&admin, Some(own.parse().unwrap())).unwrap().as_str(), own);
        let error = keys.managed_tenant(&admin, Some("other".parse().unwrap())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    // Who is no admin has none, not even its own key.
    let (record, secret) = keys.create(ann()).await.unwrap();
    let user = keys.authenticate(secret.expose()).await.unwrap().unwrap();
    assert_eq!(keys.managed_tenant(&user, None).unwrap_err().kind(), ErrorKind::NotFound);

    // A key of another tenant is no key.
    let other: TenantId = "other".parse().unwrap();
    assert_eq!(keys.get(&other, &record.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    let patch = KeyPatch { scopes: Some(vec![KeyScope::Admin]), ..KeyPatch::default() };
    assert_eq!(keys.update(&other, &record.id, patch).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(keys.revoke(&other, &record.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(keys.get(&tenant(), &record.id).await.unwrap(), record);
    assert_eq!(keys.list(&other, None, 10).await.unwrap(), []);
    assert_eq!(keys.list(&tenant(), None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_key_that_could_not_work_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = catalog(folder.path()).await;
    let keys = keys(&catalog);
    let many = (0..1_000).map(|n| format!("g{n}")).collect();
    for (new, pointer) in [
        (NewKey { user: String::new(), ..ann() }, "/user"),
        (NewKey { user: "ann smith".to_owned(), ..ann() }, "/user"),
        (NewKey { groups: vec!["größe".to_owned()], ..ann() }, "/groups"),
        (NewKey { groups: many, ..ann() }, "/groups"),
        (NewKey { scopes: Vec::new(), ..ann() }, "/scopes"),
        (NewKey { name: "x".repeat(201), ..ann() }, "/name"),
    ] {
        let error = keys.create(new).await.unwrap_err();
        assert_eq!((error.kind(), error.pointer()), (ErrorKind::Invalid, Some(pointer)));
    }
    assert!(catalog.keys(&tenant(), None, 10).await.unwrap().is_empty());

    // Nor does a change make one of a key that works.
    let (record, _) = keys.create(ann()).await.unwrap();
    for (patch, pointer) in [
        (KeyPatch { groups: Some(vec!["größe".to_owned()]), ..KeyPatch::default() }, "/groups"),
        (KeyPatch { scopes: Some(Vec::new()), ..KeyPatch::default() }, "/scopes"),
        (KeyPatch { name: Some("x".repeat(201)), ..KeyPatch::default() }, "/name"),
    ] {
        let error = keys.update(&tenant(), &record.id, patch).await.unwrap_err();
        assert_eq!((error.kind(), error.pointer()), (ErrorKind::Invalid, Some(pointer)));
    }
    let groups = Some(vec!["b".to_owned(), "a".to_owned(), "b".to_owned()]);
    let changed = keys.update(&tenant(), &record.id, KeyPatch { groups, ..KeyPatch::default() }).await.unwrap();
    assert_eq!(changed.groups, ["a", "b"]);
}
