//! What every catalog does. Each function gets an empty catalog; the callers say which database is behind it.

use crate::support::publication;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rag_api::catalog::{
    AttributesPatch, Catalog, Content, DocumentRecord, Idempotency, Job, KeyPatch, KeyRecord, KeyScope, Lease,
    ListQuery, NewDocument, Progress, Publish, Put, PutMode, RequestNote, RequestPart, Restore, Stage, Status, Work,
};
use rag_api::document::{DocumentId, Failure, FailureReason, Metadata, Principal, Scope, TenantId};
use rag_api::error::{ErrorKind, Result};
use serde_json::json;

pub(super) type Db = Arc<dyn Catalog>;

/// A lease that does not run out in a test.
pub(super) const DAY: Duration = Duration::from_hours(24);
/// A lease that has run out at once.
const OVER: Duration = Duration::ZERO;

pub(super) fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn id(id: &str) -> DocumentId {
    id.parse().unwrap()
}

pub(super) fn readers(names: &[&str]) -> Vec<Principal> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn metadata(value: serde_json::Value) -> Metadata {
    value.as_object().unwrap().clone()
}

fn content(text: &str) -> Content {
    Content {
        filename: Some(format!("{text}.txt")),
        media_type: "text/plain".to_owned(),
        bytes: text.len() as u64,
        sha256: format!("sha256 of {text}"),
        blob: format!("blob of {text}"),
    }
}

/// A document of Ann's, with nothing said about its attributes.
pub(super) fn document(id: &str, text: &str) -> NewDocument {
    NewDocument {
        tenant: tenant(),
        document_id: self::id(id),
        owner: Principal::user("ann").unwrap(),
        as_admin: false,
        readers: None,
        title: None,
        metadata: None,
        content: content(text),
        request: None,
    }
}

async fn write(catalog: &Db, document: NewDocument) -> Put {
    catalog.put(document, PutMode::CreateOrReplace).await.unwrap()
}

/// Puts a document and gives its row.
pub(super) async fn put(catalog: &Db, id: &str, text: &str) -> DocumentRecord {
    match write(catalog, document(id, text)).await {
        Put::Created(record) | Put::Replaced(record, _) | Put::Patched(record) | Put::Unchanged(record) => record,
    }
}

async fn get(catalog: &Db, id: &str) -> DocumentRecord {
    catalog.get(&tenant(), &self::id(id)).await.unwrap().expect("the document is there")
}

/// Claims a row, which must be of this document and kind.
async fn claim(catalog: &Db, id: &str, work: Work) -> Job {
    let job = catalog.claim(DAY).await.unwrap().expect("there is work");
    assert_eq!((job.record.document_id.as_str(), job.work), (id, work));
    job
}

async fn nothing_to_do(catalog: &Db) {
    assert_eq!(catalog.claim(DAY).await.unwrap(), None);
}

pub(super) async fn publish(catalog: &Db, job: &Job, chunks: u32) {
    let record = &job.record;
    let publish =
        catalog.publish(&job.lease, &publication(record.version, chunks, record.access_version)).await.unwrap();
    assert_eq!(publish, Publish::Published);
}

/// Puts a document and publishes it.
async fn serve(catalog: &Db, id: &str, text: &str) -> DocumentRecord {
    put(catalog, id, text).await;
    publish(catalog, &claim(catalog, id, Work::Process).await, 3).await;
    get(catalog, id).await
}

fn failure() -> Failure {
    Failure { reason: FailureReason::Malformed, detail: "it is damaged".to_owned() }
}

fn conflicts<T: std::fmt::Debug>(result: Result<T>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Conflict);
}

/// Every write of a worker is refused.
async fn has_lost(catalog: &Db, lease: &Lease, record: &DocumentRecord) {
    conflicts(catalog.renew(lease, DAY).await);
    conflicts(catalog.progress(lease, Stage::Embed, Progress { done: 9, total: 9 }).await);
    conflicts(catalog.publish(lease, &publication(record.version, 1, record.access_version)).await);
    conflicts(catalog.fail(lease, &failure()).await);
    conflicts(catalog.release(lease, Duration::ZERO, true).await);
    conflicts(catalog.attributes_done(lease, record.access_version).await);
    conflicts(catalog.cleanup_done(lease).await);
    conflicts(catalog.purge_done(lease).await);
}

pub(super) async fn a_document_goes_from_upload_to_served(catalog: Db) {
    let Put::Created(created) = write(&catalog, document("a", "one")).await else { panic!("not created") };
    assert_eq!(
        (created.status, created.stage, created.version, created.attempts),
        (Status::Processing, Stage::Queued, 1, 0)
    );
    assert_eq!(created.readers, readers(&["user:ann"]));
    assert_eq!(created.served, None);
    assert_eq!(get(&catalog, "a").await, created);

    let job = claim(&catalog, "a", Work::Process).await;
    assert_eq!(job.record.attempts, 1);
    nothing_to_do(&catalog).await;
    catalog.renew(&job.lease, DAY).await.unwrap();
    catalog.progress(&job.lease, Stage::Embed, Progress { done: 1, total: 3 }).await.unwrap();
    let working = get(&catalog, "a").await;
    assert_eq!((working.stage, working.progress), (Stage::Embed, Progress { done: 1, total: 3 }));

    publish(&catalog, &job, 3).await;
    let served = get(&catalog, "a").await;
    assert_eq!((served.status, served.progress), (Status::Indexed, Progress { done: 3, total: 3 }));
    let current = served.served.clone().expect("served");
    assert_eq!((current.version, current.content, current.chunks), (1, content("one"), 3));
    has_lost(&catalog, &job.lease, &served).await;
    nothing_to_do(&catalog).await;
}

pub(super) async fn versions_count_and_the_old_one_stays_served(catalog: Db) {
    serve(&catalog, "a", "one").await;
    let Put::Replaced(second, superseded) = write(&catalog, document("a", "two")).await else { panic!("not replaced") };
    assert_eq!((second.version, second.status, superseded), (2, Status::Processing, None));
    assert_eq!(second.served.as_ref().map(|served| served.version), Some(1));

    // Another replacement before it was served: the blob of the version in between is nobody's any more.
    let Put::Replaced(third, superseded) = write(&catalog, document("a", "three")).await else {
        panic!("not replaced")
    };
    assert_eq!((third.version, superseded.as_deref()), (3, Some("blob of two")));
    assert_eq!(third.served.as_ref().map(|served| served.content.clone()), Some(content("one")));

    let job = claim(&catalog, "a", Work::Process).await;
    conflicts(catalog.publish(&job.lease, &publication(2, 1, job.record.access_version)).await);
    publish(&catalog, &job, 5).await;
    let served = get(&catalog, "a").await.served.unwrap();
    assert_eq!((served.version, served.chunks), (3, 5));

    let cleanup = claim(&catalog, "a", Work::Cleanup).await;
    assert_eq!(cleanup.garbage, ["blob of two", "blob of one"]);
    catalog.cleanup_done(&cleanup.lease).await.unwrap();
    nothing_to_do(&catalog).await;
}

pub(super) async fn the_same_bytes_are_unchanged(catalog: Db) {
    put(&catalog, "a", "one").await;
    let first = get(&catalog, "a").await;
    let mut again = document("a", "one");
    again.content.blob = "another blob".to_owned();
    again.title = Some(String::new());
    again.readers = Some(readers(&["user:ann", "user:ann"]));
    assert_eq!(write(&catalog, again.clone()).await, Put::Unchanged(first.clone()));
    assert_eq!(get(&catalog, "a").await, first);

    publish(&catalog, &claim(&catalog, "a", Work::Process).await, 1).await;
    assert!(matches!(write(&catalog, again.clone()).await, Put::Unchanged(_)));
    nothing_to_do(&catalog).await;

    // The same id may be made only once, and the same bytes of a failed one are tried again.
    conflicts(catalog.put(again.clone(), PutMode::Create).await);
    put(&catalog, "a", "two").await;
    catalog.fail(&claim(&catalog, "a", Work::Process).await.lease, &failure()).await.unwrap();
    let Put::Replaced(record, superseded) = write(&catalog, document("a", "two")).await else { panic!("not replaced") };
    assert_eq!((record.version, record.failure, superseded.as_deref()), (3, None, Some("blob of two")));
}

pub(super) async fn attributes_that_are_not_given_stay(catalog: Db) {
    let mut first = document("a", "one");
    first.title = Some("The title".to_owned());
    first.metadata = Some(metadata(json!({"year": 2024})));
    first.readers = Some(readers(&["group:sales", "public", "group:sales"]));
    let Put::Created(created) = write(&catalog, first).await else { panic!("not created") };
    assert_eq!(created.readers, readers(&["group:sales", "public", "user:ann"]));

    let replaced = put(&catalog, "a", "two").await;
    assert_eq!(
        (&replaced.title, &replaced.metadata, &replaced.readers),
        (&created.title, &created.metadata, &created.readers)
    );
    assert_eq!(replaced.access_version, created.access_version);
    assert_eq!(replaced.created_at, created.created_at);

    let patch = AttributesPatch { readers: Some(readers(&["user:bob"])), ..AttributesPatch::default() };
    let patched = catalog.patch(&tenant(), &id("a"), None, patch.clone()).await.unwrap().unwrap();
    assert_eq!(patched.readers, readers(&["user:ann", "user:bob"]));
    assert_eq!((&patched.title, &patched.metadata), (&created.title, &created.metadata));
    assert_eq!(patched.access_version, created.access_version + 1);
    // What is so already is no change.
    assert_eq!(catalog.patch(&tenant(), &id("a"), None, patch.clone()).await.unwrap(), Some(patched));
    assert_eq!(catalog.patch(&tenant(), &id("b"), None, patch).await.unwrap(), None);
}

pub(super) async fn a_foreign_document_is_not_found(catalog: Db) {
    let before = put(&catalog, "a", "one").await;
    let mut foreign = document("a", "two");
    foreign.owner = Principal::user("eve").unwrap();
    for mode in [PutMode::Create, PutMode::CreateOrReplace] {
        let error = catalog.put(foreign.clone(), mode).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert_eq!(get(&catalog, "a").await, before);

    foreign.as_admin = true;
    let Put::Replaced(record, _) = write(&catalog, foreign).await else { panic!("not replaced") };
    assert_eq!(record.owner, before.owner);
    assert_eq!(record.readers, readers(&["user:ann"]));
}

pub(super) async fn the_same_bytes_take_other_attributes(catalog: Db) {
    let before = serve(&catalog, "a", "one").await;
    let generation = catalog.generation(&tenant()).await.unwrap();
    let mut shared = document("a", "one");
    shared.content.blob = "another blob".to_owned();
    shared.title = Some("Another title".to_owned());
    shared.readers = Some(readers(&["user:bob"]));
    let Put::Patched(record) = write(&catalog, shared.clone()).await else { panic!("not patched") };
    // No new version and no other original, but who may read what is served changes at once.
    assert_eq!((record.version, record.status, &record.content), (1, Status::Indexed, &before.content));
    assert_eq!(record.access_version, before.access_version + 1);
    assert_eq!(get(&catalog, "a").await, record);
    let visible = catalog.visibility(&tenant(), &[id("a")]).await.unwrap();
    assert_eq!(visible[&id("a")].readers, readers(&["user:ann", "user:bob"]));
    assert!(catalog.generation(&tenant()).await.unwrap() > generation);
    let bobs = Some(Scope::new(tenant(), readers(&["user:bob"])));
    let query = ListQuery { status: None, scope: bobs, after: None, limit: 10 };
    assert_eq!(catalog.list(&tenant(), query).await.unwrap(), [record]);
    assert!(matches!(write(&catalog, shared).await, Put::Unchanged(_)));

    // The store gets them; nothing is read again.
    let job = claim(&catalog, "a", Work::Attributes).await;
    catalog.attributes_done(&job.lease, job.record.access_version).await.unwrap();
    nothing_to_do(&catalog).await;
}

pub(super) async fn only_the_owner_changes_a_document(catalog: Db) {
    let before = serve(&catalog, "a", "one").await;
    let [ann, eve] = ["ann", "eve"].map(|name| Principal::user(name).unwrap());
    let patch = AttributesPatch { title: Some("mine".to_owned()), ..AttributesPatch::default() };
    assert_eq!(catalog.patch(&tenant(), &id("a"), Some(&eve), patch.clone()).await.unwrap(), None);
    assert_eq!(catalog.retry(&tenant(), &id("a"), Some(&eve)).await.unwrap(), None);
    assert_eq!(catalog.tombstone(&tenant(), &id("a"), Some(&eve), DAY).await.unwrap(), None);
    assert_eq!(get(&catalog, "a").await, before);

    let patched = catalog.patch(&tenant(), &id("a"), Some(&ann), patch).await.unwrap().unwrap();
    assert_eq!(patched.title, "mine");
    conflicts(catalog.retry(&tenant(), &id("a"), Some(&ann)).await);
    let purge = catalog.tombstone(&tenant(), &id("a"), Some(&ann), DAY).await.unwrap().unwrap();

    // Made again by another user: it is no longer Ann's, whatever she saw before.
    let mut hers = document("a", "two");
    hers.owner = eve.clone();
    write(&catalog, hers).await;
    catalog.purge_done(&purge.lease).await.unwrap();
    assert_eq!(catalog.tombstone(&tenant(), &id("a"), Some(&ann), DAY).await.unwrap(), None);
    assert_eq!(get(&catalog, "a").await.owner, eve);
}

pub(super) async fn attributes_are_done_before_new_content(catalog: Db) {
    serve(&catalog, "a", "one").await;
    put(&catalog, "a", "two").await;
    let rename = |title: &str| AttributesPatch { title: Some(title.to_owned()), ..AttributesPatch::default() };
    catalog.patch(&tenant(), &id("a"), None, rename("first")).await.unwrap();
    let job = claim(&catalog, "a", Work::Attributes).await;
    assert_eq!((job.record.title.as_str(), job.record.attempts), ("first", 0));
    // It moves again while it is being done: it is still pending after.
    catalog.patch(&tenant(), &id("a"), None, rename("second")).await.unwrap();
    catalog.attributes_done(&job.lease, job.record.access_version).await.unwrap();
    let job = claim(&catalog, "a", Work::Attributes).await;
    assert_eq!(job.record.title, "second");
    catalog.attributes_done(&job.lease, job.record.access_version).await.unwrap();
    assert_eq!(claim(&catalog, "a", Work::Process).await.record.version, 2);
}

pub(super) async fn publishing_waits_for_attributes_that_moved(catalog: Db) {
    put(&catalog, "a", "one").await;
    let job = claim(&catalog, "a", Work::Process).await;
    let patch = AttributesPatch { readers: Some(readers(&["user:bob"])), ..AttributesPatch::default() };
    let patched = catalog.patch(&tenant(), &id("a"), None, patch).await.unwrap().unwrap();
    let version = job.record.version;
    let publish = catalog.publish(&job.lease, &publication(version, 1, job.record.access_version)).await.unwrap();
    assert_eq!(publish, Publish::AttributesMoved(Box::new(patched.clone())));
    assert_eq!(get(&catalog, "a").await.status, Status::Processing);
    let publish = catalog.publish(&job.lease, &publication(version, 1, patched.access_version)).await.unwrap();
    assert_eq!(publish, Publish::Published);
    // The points were written with the new attributes: nothing is pending.
    nothing_to_do(&catalog).await;
}

pub(super) async fn a_stolen_lease_writes_nothing(catalog: Db) {
    put(&catalog, "a", "one").await;
    let slow = catalog.claim(OVER).await.unwrap().unwrap();
    let thief = claim(&catalog, "a", Work::Process).await;
    assert_eq!(thief.record.attempts, 2);
    assert_ne!(slow.lease, thief.lease);
    let before = get(&catalog, "a").await;
    has_lost(&catalog, &slow.lease, &slow.record).await;
    assert_eq!(get(&catalog, "a").await, before);
    publish(&catalog, &thief, 1).await;

    // A lease that has run out and that nobody took is still the holder's.
    put(&catalog, "b", "one").await;
    let slow = catalog.claim(OVER).await.unwrap().unwrap();
    catalog.renew(&slow.lease, DAY).await.unwrap();
    nothing_to_do(&catalog).await;
    publish(&catalog, &slow, 1).await;
}

pub(super) async fn replacing_takes_the_row_from_the_worker(catalog: Db) {
    put(&catalog, "a", "one").await;
    let job = claim(&catalog, "a", Work::Process).await;
    let Put::Replaced(record, superseded) = write(&catalog, document("a", "two")).await else { panic!("not replaced") };
    assert_eq!((record.version, record.attempts, superseded.as_deref()), (2, 0, Some("blob of one")));
    has_lost(&catalog, &job.lease, &job.record).await;
    let newer = claim(&catalog, "a", Work::Process).await;
    assert_eq!(newer.record.content, content("two"));
    publish(&catalog, &newer, 1).await;
    // The old worker may write points until its lease would have ended: the sweep waits for that.
    nothing_to_do(&catalog).await;
}

pub(super) async fn a_deletion_takes_the_row_from_the_worker(catalog: Db) {
    serve(&catalog, "a", "one").await;
    put(&catalog, "a", "two").await;
    let job = catalog.claim(OVER).await.unwrap().unwrap();
    let purge = catalog.tombstone(&tenant(), &id("a"), None, DAY).await.unwrap().unwrap();
    assert_eq!(purge.work, Work::Purge);
    assert_eq!(purge.garbage, ["blob of one", "blob of two"]);
    has_lost(&catalog, &job.lease, &job.record).await;

    // It is gone from everything.
    assert_eq!(catalog.get(&tenant(), &id("a")).await.unwrap(), None);
    assert!(catalog.visibility(&tenant(), &[id("a")]).await.unwrap().is_empty());
    let all = ListQuery { status: None, scope: None, after: None, limit: 10 };
    assert!(catalog.list(&tenant(), all).await.unwrap().is_empty());
    assert_eq!(catalog.patch(&tenant(), &id("a"), None, AttributesPatch::default()).await.unwrap(), None);
    assert_eq!(catalog.retry(&tenant(), &id("a"), None).await.unwrap(), None);
    assert_eq!(catalog.tombstone(&tenant(), &id("a"), None, DAY).await.unwrap(), None);
    assert_eq!(catalog.stats().await.unwrap().by_status.values().sum::<u64>(), 0);
    nothing_to_do(&catalog).await;

    catalog.purge_done(&purge.lease).await.unwrap();
    conflicts(catalog.purge_done(&purge.lease).await);
    nothing_to_do(&catalog).await;
}

pub(super) async fn a_document_made_again_has_a_higher_version(catalog: Db) {
    serve(&catalog, "a", "one").await;
    serve(&catalog, "a", "two").await;
    let purge = catalog.tombstone(&tenant(), &id("a"), None, DAY).await.unwrap().unwrap();
    catalog.purge_done(&purge.lease).await.unwrap();
    catalog.expire().await.unwrap();
    let again = catalog.put(document("a", "three"), PutMode::Create).await.unwrap();
    let Put::Created(record) = again else { panic!("not created") };
    assert_eq!((record.version, record.served), (3, None));
    assert_eq!(put(&catalog, "b", "one").await.version, 1);
}

pub(super) async fn a_document_made_again_waits_for_the_purge(catalog: Db) {
    serve(&catalog, "a", "one").await;
    let purge = catalog.tombstone(&tenant(), &id("a"), None, DAY).await.unwrap().unwrap();
    let mut again = document("a", "two");
    again.owner = Principal::user("bob").unwrap();
    let put = catalog.put(again, PutMode::Create).await.unwrap();
    let Put::Created(record) = put else { panic!("not created") };
    assert_eq!((record.version, record.readers, record.served), (2, readers(&["user:bob"]), None));
    assert_eq!(get(&catalog, "a").await.version, 2);
    // The points of the old document are being deleted: the new one's must not come before that is over.
    nothing_to_do(&catalog).await;
    catalog.purge_done(&purge.lease).await.unwrap();
    let job = claim(&catalog, "a", Work::Process).await;
    publish(&catalog, &job, 1).await;
    assert_eq!(get(&catalog, "a").await.served.unwrap().version, 2);

    // The same when the one who deleted has died.
    catalog.tombstone(&tenant(), &id("a"), None, OVER).await.unwrap().unwrap();
    assert_eq!(self::put(&catalog, "a", "three").await.version, 3);
    let purge = claim(&catalog, "a", Work::Purge).await;
    assert_eq!(purge.garbage, ["blob of two"]);
    catalog.purge_done(&purge.lease).await.unwrap();
    assert_eq!(claim(&catalog, "a", Work::Process).await.record.version, 3);
}

pub(super) async fn a_failed_document_can_be_tried_again(catalog: Db) {
    put(&catalog, "a", "one").await;
    conflicts(catalog.retry(&tenant(), &id("a"), None).await);
    assert_eq!(catalog.retry(&tenant(), &id("b"), None).await.unwrap(), None);
    let job = claim(&catalog, "a", Work::Process).await;
    catalog.fail(&job.lease, &failure()).await.unwrap();
    let failed = get(&catalog, "a").await;
    assert_eq!((failed.status, failed.failure, failed.attempts), (Status::Failed, Some(failure()), 1));
    nothing_to_do(&catalog).await;

    let queued = catalog.retry(&tenant(), &id("a"), None).await.unwrap().unwrap();
    assert_eq!(
        (queued.status, queued.stage, queued.failure, queued.attempts),
        (Status::Processing, Stage::Queued, None, 0)
    );
    publish(&catalog, &claim(&catalog, "a", Work::Process).await, 1).await;
    conflicts(catalog.retry(&tenant(), &id("a"), None).await);
}

pub(super) async fn a_failed_replacement_leaves_the_old_version_served(catalog: Db) {
    serve(&catalog, "a", "one").await;
    put(&catalog, "a", "two").await;
    let job = claim(&catalog, "a", Work::Process).await;
    catalog.progress(&job.lease, Stage::Embed, Progress { done: 1, total: 3 }).await.unwrap();
    catalog.fail(&job.lease, &failure()).await.unwrap();
    let record = get(&catalog, "a").await;
    assert_eq!((record.status, record.version), (Status::Failed, 2));
    assert_eq!(record.served.unwrap().version, 1);
    assert_eq!(catalog.visibility(&tenant(), &[id("a")]).await.unwrap()[&id("a")].version, 1);

    // It had begun to write points: those are swept, and its original stays for another try.
    let cleanup = claim(&catalog, "a", Work::Cleanup).await;
    assert_eq!(cleanup.garbage, Vec::<String>::new());
    // A try that begins meanwhile waits for the sweep, which would take its points for leftovers.
    catalog.retry(&tenant(), &id("a"), None).await.unwrap();
    nothing_to_do(&catalog).await;
    catalog.cleanup_done(&cleanup.lease).await.unwrap();
    claim(&catalog, "a", Work::Process).await;
}

pub(super) async fn released_work_comes_back(catalog: Db) {
    put(&catalog, "a", "one").await;
    let job = claim(&catalog, "a", Work::Process).await;
    assert!(job.fresh);
    catalog.release(&job.lease, Duration::ZERO, true).await.unwrap();
    conflicts(catalog.release(&job.lease, Duration::ZERO, true).await);
    let job = claim(&catalog, "a", Work::Process).await;
    // The attempt is not counted, but it may have written points.
    assert_eq!((job.record.attempts, job.fresh), (1, false));
    catalog.release(&job.lease, Duration::ZERO, false).await.unwrap();
    let job = claim(&catalog, "a", Work::Process).await;
    assert_eq!(job.record.attempts, 2);
    catalog.release(&job.lease, DAY, false).await.unwrap();
    nothing_to_do(&catalog).await;
    // New content does not wait for the delay of the old.
    put(&catalog, "a", "two").await;
    claim(&catalog, "a", Work::Process).await;
}

pub(super) async fn repeated_operations_are_harmless(catalog: Db) {
    serve(&catalog, "a", "one").await;
    serve(&catalog, "a", "two").await;
    let cleanup = catalog.claim(OVER).await.unwrap().unwrap();
    // The worker died after deleting: the same is handed out again.
    let again = claim(&catalog, "a", Work::Cleanup).await;
    assert_eq!(again.garbage, cleanup.garbage);
    conflicts(catalog.cleanup_done(&cleanup.lease).await);
    catalog.cleanup_done(&again.lease).await.unwrap();

    catalog.tombstone(&tenant(), &id("a"), None, OVER).await.unwrap().unwrap();
    let first = catalog.claim(OVER).await.unwrap().unwrap();
    let second = claim(&catalog, "a", Work::Purge).await;
    assert_eq!((first.work, &first.garbage), (Work::Purge, &second.garbage));
    conflicts(catalog.purge_done(&first.lease).await);
    catalog.purge_done(&second.lease).await.unwrap();
    nothing_to_do(&catalog).await;
}

pub(super) async fn each_row_is_claimed_once(catalog: Db) {
    const DOCUMENTS: usize = 200;
    for n in 0..DOCUMENTS {
        put(&catalog, &format!("doc-{n}"), "one").await;
    }
    let workers = (0..8).map(|_| {
        let catalog = catalog.clone();
        tokio::spawn(async move {
            let mut claimed = Vec::new();
            while let Some(job) = catalog.claim(DAY).await.unwrap() {
                claimed.push(job.record.document_id);
            }
            claimed
        })
    });
    let claimed: Vec<_> =
        futures::future::join_all(workers).await.into_iter().flat_map(|worker| worker.unwrap()).collect();
    assert_eq!(claimed.len(), DOCUMENTS);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>().len(), DOCUMENTS);
}

pub(super) async fn the_order_of_work(catalog: Db) {
    serve(&catalog, "swept", "one").await;
    serve(&catalog, "swept", "two").await;
    serve(&catalog, "renamed", "one").await;
    serve(&catalog, "deleted", "one").await;
    put(&catalog, "older", "one").await;
    put(&catalog, "newer", "one").await;
    let patch = AttributesPatch { title: Some("new".to_owned()), ..AttributesPatch::default() };
    catalog.patch(&tenant(), &id("renamed"), None, patch).await.unwrap();
    catalog.tombstone(&tenant(), &id("deleted"), None, OVER).await.unwrap();
    claim(&catalog, "deleted", Work::Purge).await;
    claim(&catalog, "renamed", Work::Attributes).await;
    claim(&catalog, "older", Work::Process).await;
    claim(&catalog, "newer", Work::Process).await;
    claim(&catalog, "swept", Work::Cleanup).await;
    nothing_to_do(&catalog).await;
}

pub(super) async fn the_list_pages_and_shows_only_what_is_readable(catalog: Db) {
    for (name, who) in [("a", "user:bob"), ("b", "group:sales"), ("c", "public"), ("d", "user:carl"), ("e", "user:bob")]
    {
        let mut document = document(name, "one");
        document.readers = Some(readers(&[who]));
        write(&catalog, document).await;
    }
    publish(&catalog, &claim(&catalog, "a", Work::Process).await, 1).await;
    let list = async |status, scope: Option<&[&str]>, after: Option<&str>, limit| {
        let scope = scope.map(|names| Scope::new(tenant(), readers(names)));
        let query = ListQuery { status, scope, after: after.map(id), limit };
        let records = catalog.list(&tenant(), query).await.unwrap();
        records.into_iter().map(|record| record.document_id.to_string()).collect::<Vec<_>>()
    };
    let bob = Some(&["user:bob", "group:sales", "public"][..]);
    assert_eq!(list(None, None, None, 10).await, ["a", "b", "c", "d", "e"]);
    assert_eq!(list(None, bob, None, 10).await, ["a", "b", "c", "e"]);
    assert_eq!(list(None, bob, None, 2).await, ["a", "b"]);
    assert_eq!(list(None, bob, Some("b"), 2).await, ["c", "e"]);
    assert_eq!(list(None, bob, Some("e"), 2).await, [""; 0]);
    assert_eq!(list(None, Some(&["user:ann"]), None, 10).await.len(), 5);
    assert_eq!(list(None, Some(&[]), None, 10).await, [""; 0]);
    assert_eq!(list(Some(Status::Indexed), bob, None, 10).await, ["a"]);
    assert_eq!(list(Some(Status::Processing), bob, Some("b"), 10).await, ["c", "e"]);

    // A change of readers is a change of lists.
    let patch = AttributesPatch { readers: Some(Vec::new()), ..AttributesPatch::default() };
    catalog.patch(&tenant(), &id("e"), None, patch).await.unwrap();
    assert_eq!(list(None, bob, None, 10).await, ["a", "b", "c"]);
    let foreign = Scope::new("other".parse().unwrap(), readers(&["user:bob"]));
    let query = ListQuery { status: None, scope: Some(foreign), after: None, limit: 10 };
    assert!(catalog.list(&tenant(), query).await.unwrap().is_empty());
}

pub(super) async fn visibility_is_of_the_served_and_not_deleted(catalog: Db) {
    serve(&catalog, "a", "one").await;
    serve(&catalog, "c", "one").await;
    put(&catalog, "a", "two").await;
    put(&catalog, "b", "one").await;
    catalog.tombstone(&tenant(), &id("c"), None, DAY).await.unwrap();
    let ids = [id("a"), id("b"), id("c"), id("d"), id("a")];
    let visible = catalog.visibility(&tenant(), &ids).await.unwrap();
    assert_eq!(visible.len(), 1);
    assert_eq!((visible[&id("a")].version, &visible[&id("a")].readers), (1, &readers(&["user:ann"])));
    assert!(catalog.visibility(&tenant(), &[]).await.unwrap().is_empty());
}

pub(super) async fn generations_count_what_questions_may_see(catalog: Db) {
    let generation = async || catalog.generation(&tenant()).await.unwrap();
    assert_eq!(generation().await, 0);
    put(&catalog, "a", "one").await;
    assert_eq!(generation().await, 0);
    publish(&catalog, &claim(&catalog, "a", Work::Process).await, 1).await;
    assert_eq!(generation().await, 1);
    let patch = AttributesPatch { readers: Some(readers(&["public"])), ..AttributesPatch::default() };
    catalog.patch(&tenant(), &id("a"), None, patch).await.unwrap();
    assert_eq!(generation().await, 2);
    let purge = catalog.tombstone(&tenant(), &id("a"), None, DAY).await.unwrap().unwrap();
    assert_eq!(generation().await, 3);
    catalog.purge_done(&purge.lease).await.unwrap();
    assert_eq!(generation().await, 3);
    assert_eq!(catalog.generation(&"other".parse().unwrap()).await.unwrap(), 0);
}

pub(super) async fn tenants_do_not_meet(catalog: Db) {
    serve(&catalog, "a", "one").await;
    let other: TenantId = "other".parse().unwrap();
    assert_eq!(catalog.get(&other, &id("a")).await.unwrap(), None);
    assert!(catalog.visibility(&other, &[id("a")]).await.unwrap().is_empty());
    assert_eq!(catalog.tombstone(&other, &id("a"), None, DAY).await.unwrap(), None);
    let mut same_id = document("a", "two");
    same_id.tenant = other.clone();
    same_id.owner = Principal::user("eve").unwrap();
    let Put::Created(record) = write(&catalog, same_id).await else { panic!("not created") };
    assert_eq!((record.version, record.tenant), (1, other));
    assert_eq!(get(&catalog, "a").await.content, content("one"));
}

pub(super) async fn texts_survive(catalog: Db) {
    assert!("größe".parse::<DocumentId>().is_err());
    assert!("../a".parse::<DocumentId>().is_err());
    let mut strange = document("a:b@c+d_e-f.g", "one");
    strange.title = Some("契約書 – عقد \"'; DROP TABLE documents; -- 🦀 \u{0}".to_owned());
    strange.metadata = Some(metadata(json!({"größe": [1, 2.5, null, {"ä": true}], "n": u64::MAX, "e": ""})));
    strange.content.filename = Some("Protokoll ☂.pdf".to_owned());
    let Put::Created(written) = write(&catalog, strange.clone()).await else { panic!("not created") };
    let read = get(&catalog, "a:b@c+d_e-f.g").await;
    assert_eq!(read, written);
    assert_eq!(
        (Some(read.title), Some(read.metadata), read.content),
        (strange.title, strange.metadata, strange.content)
    );
}

pub(super) async fn keys_are_kept(catalog: Db) {
    let at = |seconds| chrono::DateTime::from_timestamp(seconds, 0).unwrap();
    let key = |id: &str, tenant: &str| KeyRecord {
        id: id.to_owned(),
        hash: [7; 32],
        name: "Ann’s laptop".to_owned(),
        tenant: tenant.parse().unwrap(),
        user: "ann".to_owned(),
        groups: vec!["sales".to_owned()],
        scopes: vec![KeyScope::Query, KeyScope::Admin],
        active: true,
        expires_at: Some(at(2_000_000_000)),
        created_at: at(1_700_000_000),
    };
    for (id, tenant) in [("b", "acme"), ("a", "acme"), ("c", "other")] {
        catalog.insert_key(&key(id, tenant)).await.unwrap();
    }
    conflicts(catalog.insert_key(&key("a", "other")).await);
    assert_eq!(catalog.key("a").await.unwrap(), Some(key("a", "acme")));
    assert_eq!(catalog.key("z").await.unwrap(), None);
    assert_eq!(catalog.keys(&tenant(), None, 10).await.unwrap(), [key("a", "acme"), key("b", "acme")]);
    assert_eq!(catalog.keys(&tenant(), Some("a"), 10).await.unwrap(), [key("b", "acme")]);
    assert_eq!(catalog.keys(&tenant(), None, 1).await.unwrap(), [key("a", "acme")]);

    let other: TenantId = "other".parse().unwrap();
    let off = KeyPatch { active: Some(false), ..KeyPatch::default() };
    assert_eq!(catalog.patch_key(&other, "a", &off).await.unwrap(), None);
    assert_eq!(catalog.key("a").await.unwrap(), Some(key("a", "acme")));
    let patched = async |patch: &KeyPatch, expected: KeyRecord| {
        assert_eq!(catalog.patch_key(&tenant(), "a", patch).await.unwrap().as_ref(), Some(&expected));
        assert_eq!(catalog.key("a").await.unwrap(), Some(expected));
    };
    // Each changes what it names, and leaves what the others changed.
    let changed = KeyRecord { active: false, ..key("a", "acme") };
    patched(&off, changed.clone()).await;
    let changed = KeyRecord { name: "Phone".to_owned(), ..changed };
    patched(&KeyPatch { name: Some("Phone".to_owned()), ..KeyPatch::default() }, changed.clone()).await;
    let changed = KeyRecord { groups: Vec::new(), scopes: vec![KeyScope::Query], ..changed };
    let lists = KeyPatch { groups: Some(Vec::new()), scopes: Some(vec![KeyScope::Query]), ..KeyPatch::default() };
    patched(&lists, changed.clone()).await;
    let changed = KeyRecord { expires_at: None, ..changed };
    patched(&KeyPatch { expires_at: Some(None), ..KeyPatch::default() }, changed.clone()).await;
    let changed = KeyRecord { expires_at: Some(at(1_900_000_000)), active: true, ..changed };
    let back = KeyPatch { expires_at: Some(changed.expires_at), active: Some(true), ..KeyPatch::default() };
    patched(&back, changed).await;

    assert!(!catalog.delete_key(&"other".parse().unwrap(), "a").await.unwrap());
    assert!(catalog.delete_key(&tenant(), "a").await.unwrap());
    assert!(!catalog.delete_key(&tenant(), "a").await.unwrap());
    assert_eq!(catalog.key("a").await.unwrap(), None);
}

pub(super) async fn idempotency_keys_are_noted_once(catalog: Db) {
    let tries = (0..20).map(|_| {
        let catalog = catalog.clone();
        tokio::spawn(async move { noted(&catalog, "ann", "one").await })
    });
    let notes: Vec<_> = futures::future::join_all(tries).await.into_iter().map(|tried| tried.unwrap()).collect();
    assert!(notes.iter().all(|note| *note == notes[0] && note.done.is_empty()));
    let other_body = catalog.idempotency(&tenant(), "ann", "key", "two").await.unwrap();
    assert_eq!(other_body, Idempotency::Mismatch);
    assert_ne!(noted(&catalog, "bob", "two").await.request, notes[0].request);
    catalog.expire().await.unwrap();
    assert_eq!(noted(&catalog, "ann", "one").await, notes[0]);
}

async fn noted(catalog: &Db, user: &str, fingerprint: &str) -> RequestNote {
    match catalog.idempotency(&tenant(), user, "key", fingerprint).await.unwrap() {
        Idempotency::Noted(note) => note,
        Idempotency::Mismatch => panic!("the key belongs to another request"),
    }
}

pub(super) async fn a_part_is_done_with_its_document(catalog: Db) {
    let request = noted(&catalog, "ann", "one").await.request;
    let part =
        |id: &str, text: &str, part| NewDocument { request: Some(RequestPart { request, part }), ..document(id, text) };
    // What is refused is not done.
    let mut foreign = part("a", "one", 0);
    put(&catalog, "a", "zero").await;
    foreign.owner = Principal::user("eve").unwrap();
    let refused = catalog.put(foreign.clone(), PutMode::CreateOrReplace).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    assert!(noted(&catalog, "ann", "one").await.done.is_empty());

    let Put::Replaced(replaced, _) = write(&catalog, part("a", "one", 0)).await else { panic!("not replaced") };
    assert_eq!(replaced.version, 2);
    // Nothing to write is done too.
    assert!(matches!(write(&catalog, part("a", "one", 2)).await, Put::Unchanged(_)));
    assert_eq!(noted(&catalog, "ann", "one").await.done, [0, 2].into());

    // A try that comes late changes nothing, also where the document has moved on.
    put(&catalog, "a", "newer").await;
    let Put::Unchanged(late) = write(&catalog, part("a", "one", 0)).await else { panic!("written twice") };
    assert_eq!((late.version, &late.content), (3, &content("newer")));
    let refused = catalog.put(foreign, PutMode::CreateOrReplace).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    catalog.tombstone(&tenant(), &id("a"), None, DAY).await.unwrap().unwrap();
    let gone = catalog.put(part("a", "one", 0), PutMode::CreateOrReplace).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

pub(super) async fn stats_count(catalog: Db) {
    assert_eq!(catalog.stats().await.unwrap(), rag_api::catalog::CatalogStats::default());
    serve(&catalog, "a", "one").await;
    put(&catalog, "b", "one").await;
    put(&catalog, "c", "one").await;
    catalog.fail(&claim(&catalog, "b", Work::Process).await.lease, &failure()).await.unwrap();
    let stats = catalog.stats().await.unwrap();
    let count = |status| stats.by_status.get(&status).copied().unwrap_or(0);
    assert_eq!((count(Status::Indexed), count(Status::Processing), count(Status::Failed)), (1, 1, 1));
    assert!(stats.oldest_queued.is_some());
    // Who is with a worker does not wait.
    claim(&catalog, "c", Work::Process).await;
    assert_eq!(catalog.stats().await.unwrap().oldest_queued, None);
}

pub(super) async fn ids_sort_by_their_bytes(catalog: Db) {
    for name in ["b", "a-b", "B", "a.b", "a", "ab", "A", "1"] {
        put(&catalog, name, "one").await;
    }
    let scope = Some(Scope::new(tenant(), readers(&["user:ann"])));
    for scope in [None, scope] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let query = ListQuery { status: None, scope: scope.clone(), after, limit: 3 };
            let page = catalog.list(&tenant(), query).await.unwrap();
            listed.extend(page.iter().map(|record| record.document_id.to_string()));
            match page.last() {
                Some(last) => after = Some(last.document_id.clone()),
                None => break,
            }
        }
        assert_eq!(listed, ["1", "A", "B", "a", "a-b", "a.b", "ab", "b"]);
    }
}

pub(super) async fn one_of_many_puts_makes_the_document(catalog: Db) {
    const PUTS: usize = 8;
    for round in 0..10 {
        let name = format!("doc-{round}");
        // The same bytes every time, or others every time.
        let text = |n: usize| if round % 2 == 0 { "one".to_owned() } else { format!("text {n}") };
        let puts = (0..PUTS).map(|n| {
            let (catalog, document) = (catalog.clone(), document(&name, &text(n)));
            tokio::spawn(async move { write(&catalog, document).await })
        });
        let puts: Vec<_> = futures::future::join_all(puts).await.into_iter().map(|put| put.unwrap()).collect();
        let created = puts.iter().filter(|put| matches!(put, Put::Created(_))).count();
        let unchanged = puts.iter().filter(|put| matches!(put, Put::Unchanged(_))).count();
        assert_eq!((created, unchanged), (1, if round % 2 == 0 { PUTS - 1 } else { 0 }));
        let versions = if round % 2 == 0 { 1 } else { PUTS as u64 };
        assert_eq!(get(&catalog, &name).await.version, versions);
    }
}

pub(super) async fn a_caller_that_goes_away_in_the_middle_leaves_no_open_transaction(catalog: Db) {
    for patience in 0..200 {
        let going_away = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
        };
        let name = format!("doc-{patience}");
        tokio::select! {
            biased;
            _ = put(&catalog, &name, "one") => {}
            () = going_away => {}
        }
        // Whole or not at all, and the next writer is not in the way of anything.
        let record = put(&catalog, &name, "one").await;
        assert_eq!((record.version, record.readers), (1, readers(&["user:ann"])));
    }
}

pub(super) async fn documents_and_keys_of_all_tenants_come_in_pages(catalog: Db) {
    for (tenant, name) in [("beta", "a"), ("acme", "b"), ("acme", "a"), ("acme", "z")] {
        write(&catalog, NewDocument { tenant: tenant.parse().unwrap(), ..document(name, "one") }).await;
    }
    catalog.tombstone(&tenant(), &id("z"), None, DAY).await.unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = catalog.all_documents(after.as_ref(), 1).await.unwrap();
        let Some(record) = page.into_iter().next() else { break };
        after = Some((record.tenant.clone(), record.document_id.clone()));
        seen.push(format!("{}/{}", record.tenant, record.document_id));
    }
    assert_eq!(seen, ["acme/a", "acme/b", "beta/a"]);

    let key = |id: &str, tenant: &str| KeyRecord {
        id: id.to_owned(),
        hash: [7; 32],
        name: "nul \0 in it".to_owned(),
        tenant: tenant.parse().unwrap(),
        user: "ann".to_owned(),
        groups: vec!["a".to_owned()],
        scopes: vec![KeyScope::Query],
        active: true,
        expires_at: None,
        created_at: chrono::DateTime::UNIX_EPOCH,
    };
    let keys = [key("k1", "beta"), key("k2", "acme"), key("k3", "beta")];
    for key in &keys {
        catalog.insert_key(key).await.unwrap();
    }
    assert_eq!(catalog.all_keys(None, 2).await.unwrap(), keys[..2]);
    assert_eq!(catalog.all_keys(Some("k2"), 2).await.unwrap(), keys[2..]);
}

fn restored(id: &str, text: &str, version: u64, mode: PutMode) -> Restore {
    let document = NewDocument { owner: Principal::user("ida").unwrap(), as_admin: true, ..document(id, text) };
    Restore { document, mode, version, created_at: chrono::DateTime::from_timestamp_millis(1_234_567).unwrap() }
}

pub(super) async fn what_is_restored_is_held_until_it_is_published(catalog: Db) {
    let generation = catalog.generation(&tenant()).await.unwrap();
    let new = restored("a", "one", 7, PutMode::Create);
    let job = catalog.restore(&new, DAY).await.unwrap().expect("it is held");
    assert_eq!((job.work, job.record.version, job.record.created_at), (Work::Process, 7, new.created_at));
    assert_eq!(job.record.readers, readers(&["user:ida"]));
    nothing_to_do(&catalog).await;
    conflicts(catalog.restore(&new, DAY).await);
    publish(&catalog, &job, 3).await;
    let record = get(&catalog, "a").await;
    assert_eq!((record.status, record.created_at), (Status::Indexed, new.created_at));
    assert!(catalog.generation(&tenant()).await.unwrap() > generation, "answers from before are stale");

    // One that was not published in time is any worker's.
    let job = catalog.restore(&restored("b", "one", 1, PutMode::Create), OVER).await.unwrap().unwrap();
    let again = claim(&catalog, "b", Work::Process).await;
    assert!(!again.fresh, "there may be points of it");
    has_lost(&catalog, &job.lease, &job.record).await;
}

pub(super) async fn what_is_restored_over_another_is_a_new_version(catalog: Db) {
    let former = serve(&catalog, "a", "one").await;
    let job = catalog.restore(&restored("a", "one", 1, PutMode::CreateOrReplace), DAY).await.unwrap().unwrap();
    assert_eq!((job.record.version, job.record.owner.as_str()), (2, "user:ida"));
    assert_eq!(get(&catalog, "a").await.served.map(|served| served.version), Some(former.version));
    publish(&catalog, &job, 3).await;
    let record = get(&catalog, "a").await;
    assert_eq!((record.version, record.readers), (2, readers(&["user:ida"])));
    claim(&catalog, "a", Work::Cleanup).await;
}

pub(super) async fn what_waits_for_a_purge_is_restored_without_a_lease(catalog: Db) {
    serve(&catalog, "a", "one").await;
    catalog.tombstone(&tenant(), &id("a"), None, OVER).await.unwrap();
    assert_eq!(catalog.restore(&restored("a", "two", 9, PutMode::Create), DAY).await.unwrap(), None);
    let purge = claim(&catalog, "a", Work::Purge).await;
    catalog.purge_done(&purge.lease).await.unwrap();
    assert_eq!(claim(&catalog, "a", Work::Process).await.record.version, 9);
}

pub(super) async fn what_is_served_is_built_again(catalog: Db) {
    assert!(!catalog.rebuild(&tenant(), &id("a")).await.unwrap(), "it is not there");
    put(&catalog, "a", "one").await;
    assert!(!catalog.rebuild(&tenant(), &id("a")).await.unwrap(), "it is being processed");
    publish(&catalog, &claim(&catalog, "a", Work::Process).await, 3).await;
    let before = get(&catalog, "a").await;
    assert!(catalog.rebuild(&tenant(), &id("a")).await.unwrap());
    let queued = get(&catalog, "a").await;
    assert_eq!((queued.status, queued.version, &queued.served), (Status::Processing, 2, &before.served));
    assert_eq!(queued.content, before.content);

    // Replaced while it waits: the original of what is served is nobody's garbage.
    let Put::Replaced(_, superseded) = write(&catalog, document("a", "two")).await else { panic!("not replaced") };
    assert_eq!(superseded, None);
    let job = claim(&catalog, "a", Work::Process).await;
    catalog.fail(&job.lease, &failure()).await.unwrap();
    // What failed is given up for what is served.
    assert!(catalog.rebuild(&tenant(), &id("a")).await.unwrap());
    let job = claim(&catalog, "a", Work::Process).await;
    assert_eq!(job.record.content, before.content);
    publish(&catalog, &job, 3).await;
    let cleanup = claim(&catalog, "a", Work::Cleanup).await;
    assert_eq!(cleanup.garbage, [content("two").blob]);
}
