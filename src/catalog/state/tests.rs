use super::*;
use crate::catalog::{Content, Publication, Publish};
use crate::document::{Failure, FailureReason};

const LEASE: Duration = Duration::from_secs(60);

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

fn document(text: &str) -> NewDocument {
    NewDocument {
        tenant: "acme".parse().unwrap(),
        document_id: "a".parse().unwrap(),
        owner: Principal::user("ann").unwrap(),
        as_admin: false,
        readers: None,
        title: None,
        metadata: None,
        content: Content {
            filename: None,
            media_type: "text/plain".to_owned(),
            bytes: 1,
            sha256: text.to_owned(),
            blob: text.to_owned(),
        },
        request: None,
    }
}

#[test]
fn a_deletion_under_a_worker_is_purged_again_when_its_lease_is_over() {
    let mut row = Row::new(document("one"), 1, at(0));
    row.claim(Work::Process, LEASE, at(0));
    let purge = row.tombstone(LEASE, at(10));
    assert_eq!(purge.garbage, ["one"]);
    assert!(!row.purge_done(at(11)));
    assert_eq!((row.not_before, row.needs_purge, row.holder.as_ref()), (at(60), true, None));
    let again = row.claim(Work::Purge, LEASE, at(60));
    assert_eq!(again.garbage, [""; 0]);
    assert!(row.purge_done(at(61)));
}

#[test]
fn a_document_made_again_is_swept_of_what_a_stale_worker_of_the_old_one_writes() {
    let mut row = Row::new(document("one"), 1, at(0));
    row.claim(Work::Process, LEASE, at(0));
    row.tombstone(LEASE, at(10));
    row.recreate(document("two"), at(11));
    assert!(!row.purge_done(at(12)));
    assert_eq!((row.deleted, row.needs_purge, row.needs_cleanup), (false, false, true));
    assert_eq!((row.stale_until, row.record.version), (at(60), 2));
}

#[test]
fn a_replacement_under_a_worker_is_swept_when_its_lease_is_over() {
    let mut row = Row::new(document("one"), 1, at(0));
    row.claim(Work::Process, LEASE, at(0));
    row.replace(document("two"), at(10));
    assert_eq!((row.needs_cleanup, row.stale_until, row.holder.as_ref()), (true, at(60), None));
}

#[test]
fn an_attempt_that_was_taken_back_may_have_left_points() {
    let mut row = Row::new(document("one"), 1, at(0));
    assert!(row.claim(Work::Process, LEASE, at(0)).fresh);
    row.release(Duration::ZERO, true, at(1));
    let again = row.claim(Work::Process, LEASE, at(1));
    assert_eq!((again.record.attempts, again.record.version, again.fresh), (1, 1, false));
    // Should it fail now, what the first attempt left is swept.
    row.fail(&Failure { reason: FailureReason::Malformed, detail: String::new() }, at(2));
    assert!(row.needs_cleanup);

    // The points of a version before, or of a deleted document, are of no fresh one either.
    let mut later = Row::new(document("one"), 2, at(0));
    assert!(!later.claim(Work::Process, LEASE, at(0)).fresh);
}

#[test]
fn the_same_bytes_take_new_attributes_and_no_new_version() {
    let mut row = Row::new(document("one"), 1, at(0));
    let renamed = NewDocument { title: Some("A title".to_owned()), ..document("one") };
    assert_eq!(row.replace(renamed.clone(), at(1)), Replace::Patched);
    assert_eq!((row.record.version, row.record.title.as_str(), row.record.access_version), (1, "A title", 2));
    assert_eq!(row.replace(renamed.clone(), at(2)), Replace::Unchanged);
    // A failed version is tried again.
    row.claim(Work::Process, LEASE, at(3));
    row.fail(&Failure { reason: FailureReason::Timeout, detail: String::new() }, at(4));
    assert!(matches!(row.replace(renamed, at(5)), Replace::Replaced { .. }));
    assert_eq!(row.record.version, 2);
}

#[test]
fn garbage_that_comes_during_a_cleanup_stays_for_the_next() {
    let mut row = Row::new(document("one"), 1, at(0));
    row.replace(document("two"), at(1));
    row.fail(&Failure { reason: FailureReason::Malformed, detail: String::new() }, at(2));
    assert_eq!(row.claim(Work::Cleanup, LEASE, at(3)).garbage, ["one"]);
    row.replace(document("three"), at(4));
    row.cleanup_done();
    assert_eq!((row.garbage.as_slice(), row.needs_cleanup), (&["two".to_owned()][..], true));
}

/// Who may read what is served.
fn served_readers(row: &Row) -> Vec<&str> {
    row.record.served.as_ref().unwrap().attributes.readers.iter().map(Principal::as_str).collect()
}

#[test]
fn the_readers_of_a_new_version_never_see_the_old_one() {
    let readers = |text: &str, readers: &[&str]| NewDocument {
        readers: Some(readers.iter().map(|reader| reader.parse().unwrap()).collect()),
        ..document(text)
    };
    let publish = |row: &mut Row, version| {
        row.claim(Work::Process, LEASE, at(0));
        let access_version = row.record.access_version;
        let publication = Publication { version, chunks: 1, access_version, title: "found".to_owned() };
        assert_eq!(row.publish(&publication, at(1)).unwrap(), Publish::Published);
    };
    let mut row = Row::new(readers("secret", &["user:bob"]), 1, at(0));
    publish(&mut row, 1);
    assert_eq!(served_readers(&row), ["user:ann", "user:bob"]);

    // Wider: only with the new content. Narrower: at once.
    let replaced = row.replace(readers("redacted", &["public"]), at(2));
    assert_eq!(replaced, Replace::Replaced { superseded: None, visible: true });
    assert_eq!((served_readers(&row), row.needs_attributes), (vec!["user:ann"], true));
    publish(&mut row, 2);
    assert_eq!(served_readers(&row), ["public", "user:ann"]);

    // A change of readers alone is about what is served.
    let patch = AttributesPatch { readers: Some(vec!["group:hr".parse().unwrap()]), ..AttributesPatch::default() };
    assert!(row.patch(patch, at(3)));
    assert_eq!(served_readers(&row), ["group:hr", "user:ann"]);
    // The title of a file is its own: the next file brings another.
    assert_eq!((row.record.title.as_str(), row.record.shown_title()), ("", "found"));
}

#[test]
fn what_may_pass_lets_the_others_go_first_and_is_counted() {
    let mut row = Row::new(document("one"), 1, at(0));
    for round in 0..3 {
        assert_eq!(row.claim(Work::Process, LEASE, at(round)).setbacks, u32::try_from(round).unwrap());
        row.release(Duration::from_secs(1), true, at(round));
        assert_eq!((row.record.attempts, row.queued_at), (0, at(round)));
    }
    row.claim(Work::Process, LEASE, at(9));
    row.release(Duration::ZERO, true, at(9));
    assert_eq!(row.setbacks, 3, "a stop is no setback");
}
