//! The catalog: one conformance suite for every database, and what is SQLite's alone.

mod conformance;
mod postgres;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rag_api::catalog::{Catalog, Config, ListQuery, Progress, PutMode, Stage};
use rag_api::document::{Principal, Scope};
use rag_api::error::ErrorKind;

use conformance::{DAY, publish, put, readers, tenant};

async fn open(folder: &Path) -> Arc<dyn Catalog> {
    rag_api::catalog::build(&Config::Sqlite { path: folder.join("data/catalog.db") }).await.unwrap()
}

macro_rules! conforms {
    ($($test:ident)*) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    let folder = tempfile::tempdir().unwrap();
                    super::conformance::$test(super::open(folder.path()).await).await;
                }
            )*
        }

        mod postgresql {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    let url = crate::support::postgres::database().await;
                    super::conformance::$test(super::postgres::open(&url).await).await;
                }
            )*
        }
    };
}

conforms! {
    a_document_goes_from_upload_to_served
    versions_count_and_the_old_one_stays_served
    the_same_bytes_are_unchanged
    attributes_that_are_not_given_stay
    a_foreign_document_is_not_found
    the_same_bytes_take_other_attributes
    only_the_owner_changes_a_document
    attributes_are_done_before_new_content
    publishing_waits_for_attributes_that_moved
    a_stolen_lease_writes_nothing
    replacing_takes_the_row_from_the_worker
    a_deletion_takes_the_row_from_the_worker
    a_document_made_again_has_a_higher_version
    a_document_made_again_waits_for_the_purge
    a_failed_document_can_be_tried_again
    a_failed_replacement_leaves_the_old_version_served
    released_work_comes_back
    repeated_operations_are_harmless
    each_row_is_claimed_once
    the_order_of_work
    the_list_pages_and_shows_only_what_is_readable
    visibility_is_of_the_served_and_not_deleted
    generations_count_what_questions_may_see
    tenants_do_not_meet
    texts_survive
    keys_are_kept
    idempotency_keys_are_noted_once
    a_part_is_done_with_its_document
    stats_count
    documents_and_keys_of_all_tenants_come_in_pages
    what_is_restored_is_held_until_it_is_published
    what_is_restored_over_another_is_a_new_version
    what_waits_for_a_purge_is_restored_without_a_lease
    what_is_served_is_built_again
    ids_sort_by_their_bytes
    one_of_many_puts_makes_the_document
    a_caller_that_goes_away_in_the_middle_leaves_no_open_transaction
}

#[tokio::test]
async fn a_second_worker_process_is_refused_and_a_crash_frees_leases() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).await;
    first.recover().await.unwrap();
    put(&first, "a", "one").await;
    let job = first.claim(DAY).await.unwrap().unwrap();
    first.progress(&job.lease, Stage::Embed, Progress { done: 1, total: 2 }).await.unwrap();
    // Again in the same process: nothing is freed under its own workers.
    first.recover().await.unwrap();
    assert_eq!(first.claim(DAY).await.unwrap(), None);

    let second = open(folder.path()).await;
    let refused = second.recover().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.message().contains("another process"), "{refused}");
    assert!(!refused.message().contains('\n'));

    // The lock dies with its process; the lease that it left is free, and the attempt stays counted.
    drop(first);
    second.recover().await.unwrap();
    let again = second.claim(DAY).await.unwrap().unwrap();
    assert_eq!(again.record.attempts, 2);
    assert_eq!(again.record.stage, Stage::Queued);
    assert_ne!(again.lease.token, job.lease.token);
    assert_eq!(second.renew(&job.lease, DAY).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn what_is_acknowledged_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let record = put(&open(folder.path()).await, "a", "one").await;
    let catalog = open(folder.path()).await;
    catalog.migrate().await.unwrap();
    catalog.check().await.unwrap();
    assert_eq!(catalog.get(&tenant(), &"a".parse().unwrap()).await.unwrap(), Some(record));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_at_once_migrate_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let starts = (0..4).map(|_| open(folder.path()));
    for catalog in futures::future::join_all(starts).await {
        catalog.check().await.unwrap();
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), "a file").unwrap();
    let error =
        rag_api::catalog::build(&Config::Sqlite { path: folder.path().join("data/catalog.db") }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().starts_with("RAG_DATABASE_URL: "), "{error}");
}

/// Prints what one process does in a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_documents() {
    const DOCUMENTS: usize = 10_000;
    const PROCESSED: usize = 1_000;
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(folder.path()).await;
    let timed = |what: &str, count: usize, start: Instant| {
        let rate = count as f64 / start.elapsed().as_secs_f64();
        println!("{what}: {rate:.0}/s");
    };

    let start = Instant::now();
    for n in 0..DOCUMENTS {
        let who = if n % 100 == 0 { &["group:few"][..] } else { &["public"][..] };
        let mut document = conformance::document(&format!("doc-{n:05}"), "one");
        document.readers = Some(readers(who));
        catalog.put(document, PutMode::Create).await.unwrap();
    }
    timed("documents put", DOCUMENTS, start);

    let start = Instant::now();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..PROCESSED {
        let job = catalog.claim(DAY).await.unwrap().expect("there is work");
        assert!(seen.insert(job.record.document_id.clone()));
        publish(&catalog, &job, 20).await;
    }
    timed("documents claimed and published", PROCESSED, start);

    let start = Instant::now();
    let ids: Vec<_> = seen.into_iter().take(100).collect();
    for _ in 0..100 {
        assert_eq!(catalog.visibility(&tenant(), &ids).await.unwrap().len(), 100);
    }
    timed("visibilities of 100 documents", 100, start);

    for (principal, expected) in [("public", 9_900), ("group:few", 100)] {
        let start = Instant::now();
        let (mut found, mut pages, mut after) = (0, 0, None);
        loop {
            let scope = Some(Scope::new(tenant(), vec![principal.parse::<Principal>().unwrap()]));
            let page = catalog.list(&tenant(), ListQuery { status: None, scope, after, limit: 100 }).await.unwrap();
            (found, pages) = (found + page.len(), pages + 1);
            match page.last() {
                Some(last) => after = Some(last.document_id.clone()),
                None => break,
            }
        }
        assert_eq!(found, expected);
        timed(&format!("pages of 100 documents for {principal}"), pages, start);
    }
}
