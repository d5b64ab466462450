//! What is PostgreSQL's alone: several processes on one database, and a server that fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rag_api::catalog::{AttributesPatch, Catalog, Config, PostgresConfig, PutMode};
use rag_api::config::Secret;
use rag_api::error::{Error, ErrorKind, Result};
use sqlx::{Connection, Executor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::conformance::{DAY, document, publish, put, tenant};
use crate::support::eventually;
use crate::support::postgres::{PASSWORD, Postgres, connect, database};

/// How long a statement takes at most where a test waits for that.
const SHORT: Duration = Duration::from_secs(1);
/// The same where nobody is there to answer.
const SHORTER: Duration = Duration::from_millis(300);

fn config(url: &str, timeout: Duration) -> Config {
    Config::Postgres(PostgresConfig { url: Secret::new(url), max_connections: 6, timeout })
}

pub(super) async fn open(url: &str) -> Arc<dyn Catalog> {
    let catalog = rag_api::catalog::build(&config(url, Duration::from_secs(30))).await;
    catalog.unwrap_or_else(|error| panic!("{}", error.chain()))
}

/// The catalog of a process that is not patient.
async fn open_short(url: &str) -> Arc<dyn Catalog> {
    open(url).await;
    rag_api::catalog::build(&config(url, SHORT)).await.unwrap_or_else(|error| panic!("{}", error.chain()))
}

/// A start that is refused: one line for the operator, and the password nowhere.
async fn refusal(url: &str) -> String {
    let error = rag_api::catalog::build(&config(url, SHORTER)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.chain());
    assert!(!error.chain().contains(PASSWORD) && !format!("{error:?}").contains(PASSWORD), "{error:?}");
    assert!(!error.message().contains('\n'), "{error}");
    error.message().to_owned()
}

fn unavailable<T: std::fmt::Debug>(result: Result<T>) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_at_once_migrate_one_after_the_other() {
    let url = database().await;
    let starts = (0..8).map(|_| open(&url));
    for catalog in futures::future::join_all(starts).await {
        catalog.check().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_claim_each_row_once() {
    const DOCUMENTS: usize = 100;
    let url = database().await;
    let processes = [open(&url).await, open(&url).await];
    for n in 0..DOCUMENTS {
        put(&processes[n % 2], &format!("doc-{n}"), "one").await;
    }
    let workers = (0..8).map(|n| {
        let catalog = processes[n % 2].clone();
        tokio::spawn(async move {
            let mut claimed = Vec::new();
            while let Some(job) = catalog.claim(DAY).await.unwrap() {
                publish(&catalog, &job, 1).await;
                claimed.push(job.record.document_id);
            }
            claimed
        })
    });
    let claimed: Vec<_> =
        futures::future::join_all(workers).await.into_iter().flat_map(|worker| worker.unwrap()).collect();
    assert_eq!(claimed.len(), DOCUMENTS);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>().len(), DOCUMENTS);
    // Each flip was counted, by whichever process.
    assert_eq!(processes[0].generation(&tenant()).await.unwrap(), DOCUMENTS as u64);
}

#[tokio::test]
async fn a_lease_that_ran_out_goes_to_another_process() {
    let url = database().await;
    let [slow, thief] = [open(&url).await, open(&url).await];
    slow.recover().await.unwrap();
    put(&slow, "a", "one").await;
    let lost = slow.claim(Duration::ZERO).await.unwrap().unwrap();
    let stolen = thief.claim(DAY).await.unwrap().unwrap();
    // A start elsewhere frees nobody's lease.
    open(&url).await.recover().await.unwrap();
    assert_eq!(slow.claim(DAY).await.unwrap(), None);
    assert_eq!(slow.renew(&lost.lease, DAY).await.unwrap_err().kind(), ErrorKind::Conflict);
    publish(&thief, &stolen, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_statement_that_takes_too_long_is_unavailable() {
    let url = database().await;
    let catalog = open_short(&url).await;
    let mut other = connect(&url).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql \
                AS 'BEGIN PERFORM pg_sleep(600); RETURN NEW; END'; \
                CREATE TRIGGER slow BEFORE INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION slow()";
    other.execute(slow).await.unwrap();
    let error = unavailable(catalog.count_change(&tenant()).await);
    assert!(error.chain().contains("statement timeout"), "{}", error.chain());
    other.execute("DROP TRIGGER slow ON tenants").await.unwrap();
    catalog.count_change(&tenant()).await.unwrap();

    // Nor does anybody wait for a lock for ever.
    let mut lock = other.begin().await.unwrap();
    lock.execute("LOCK TABLE documents").await.unwrap();
    let error = unavailable(catalog.put(document("a", "one"), PutMode::Create).await);
    assert!(error.chain().contains("lock timeout"), "{}", error.chain());
    unavailable(catalog.get(&tenant(), &"a".parse().unwrap()).await);
    lock.rollback().await.unwrap();
    put(&catalog, "a", "one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_victim_of_a_deadlock_tries_again() {
    let url = database().await;
    let catalog = open(&url).await;
    put(&catalog, "a", "one").await;
    catalog.count_change(&tenant()).await.unwrap();
    // The other takes the locks the other way round.
    let mut other = connect(&url).await;
    let mut other = other.begin().await.unwrap();
    // The patch is to find the deadlock, and to be the one that is ended for it.
    other.execute("SET LOCAL deadlock_timeout = '1h'").await.unwrap();
    other.execute("UPDATE tenants SET generation = generation").await.unwrap();
    let patching = tokio::spawn({
        let catalog = catalog.clone();
        let patch = AttributesPatch { title: Some("new".to_owned()), ..AttributesPatch::default() };
        async move { catalog.patch(&tenant(), &"a".parse().unwrap(), None, patch).await }
    });
    eventually("the patch waits", || async {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut connect(&url).await).await.unwrap() == 1
    })
    .await;
    other.execute("SELECT 1 FROM documents FOR UPDATE").await.unwrap();
    other.commit().await.unwrap();
    assert_eq!(patching.await.unwrap().unwrap().unwrap().title, "new");
    assert_eq!(catalog.generation(&tenant()).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_of_the_server_needs_none_of_ours() {
    let server = Postgres::start().await;
    let url = server.database().await;
    let catalog = open_short(&url).await;
    // Several connections are open when the server goes.
    let puts = (0..6).map(|n| {
        let catalog = catalog.clone();
        async move { put(&catalog, &format!("doc-{n}"), "one").await }
    });
    futures::future::join_all(puts).await;
    let job = catalog.claim(DAY).await.unwrap().unwrap();

    server.stop();
    let error = unavailable(catalog.get(&tenant(), &"doc-0".parse().unwrap()).await);
    assert!(!error.chain().contains(PASSWORD), "{}", error.chain());
    server.start_again().await;
    publish(&catalog, &job, 1).await;
    catalog.check().await.unwrap();

    // So short that nobody asked meanwhile: the dead connections are found by the first who ask.
    server.stop();
    server.start_again().await;
    let gets = (0..6).map(|n| {
        let catalog = catalog.clone();
        async move { catalog.get(&tenant(), &format!("doc-{n}").parse().unwrap()).await.unwrap() }
    });
    assert!(futures::future::join_all(gets).await.iter().all(Option::is_some));
}

/// A way to the server that is cut, once it is told to, as soon as the server has answered a commit.
async fn cut_at_commit(url: &str, cut: Arc<AtomicBool>) -> String {
    let (rest, place) = url.split_once('@').unwrap();
    let (server, database) = place.split_once('/').unwrap();
    let way = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let by = format!("{rest}@{}/{database}", way.local_addr().unwrap());
    let server = server.to_owned();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = way.accept().await {
            let (mut server, cut) = (TcpStream::connect(&server).await.unwrap(), cut.clone());
            tokio::spawn(async move {
                let (mut asked, mut told) = ([0; 65536], [0; 65536]);
                let mut committing = false;
                loop {
                    tokio::select! {
                        Ok(bytes @ 1..) = client.read(&mut asked) => {
                            committing = asked[..bytes].windows(7).any(|word| word == b"COMMIT\0");
                            server.write_all(&asked[..bytes]).await.unwrap();
                        }
                        Ok(bytes @ 1..) = server.read(&mut told) => {
                            if committing && cut.load(Ordering::Relaxed) {
                                break;
                            }
                            client.write_all(&told[..bytes]).await.unwrap();
                        }
                        else => break,
                    }
                }
            });
        }
    });
    by
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_without_an_answer_may_have_been_made() {
    let url = database().await;
    let cut = Arc::new(AtomicBool::new(false));
    let catalog = open(&cut_at_commit(&url, cut.clone()).await).await;
    cut.store(true, Ordering::Relaxed);
    let error = catalog.put(document("a", "one"), PutMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.chain());
    assert_eq!(catalog.get(&tenant(), &"a".parse().unwrap()).await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn a_start_that_cannot_be_is_one_clear_line_without_the_password() {
    let url = database().await;
    let wrong = url.replace(PASSWORD, "wrong-swordfish");
    let line = refusal(&wrong).await;
    assert!(line.starts_with("RAG_DATABASE_URL: 127.0.0.1:"), "{line}");
    assert!(line.ends_with("password authentication failed for user \"rag\""), "{line}");
    let line = refusal(&url.replace("/test_", "/nowhere_")).await;
    assert!(line.contains("database \"nowhere_") && line.ends_with("does not exist"), "{line}");
    let line = refusal(&format!("{url}?sslmode=require")).await;
    assert!(line.ends_with("no TLS with the server; see sslmode and sslrootcert of the URL"), "{line}");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let line = refusal(&format!("postgres://rag:{PASSWORD}@{closed}/rag")).await;
    assert!(line.starts_with(&format!("RAG_DATABASE_URL: no PostgreSQL at {closed} within ")), "{line}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let line = refusal(&format!("postgres://rag:{PASSWORD}@{}/rag", taken.local_addr().unwrap())).await;
    assert!(line.starts_with("RAG_DATABASE_URL: no PostgreSQL at "), "{line}");
}

#[tokio::test]
async fn a_database_that_does_not_fit_is_refused() {
    let url = database().await;
    open(&url).await;
    let mut other = connect(&url).await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'of tomorrow', TRUE, '', 0)";
    other.execute(newer).await.unwrap();
    let line = refusal(&url).await;
    assert_eq!(line, "the database of RAG_DATABASE_URL was written by another version of rag-api");

    let name = url.rsplit('/').next().unwrap();
    let make =
        format!("CREATE DATABASE {name}_ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    other.execute(sqlx::AssertSqlSafe(make)).await.unwrap();
    let line = refusal(&format!("{url}_ascii")).await;
    assert!(line.ends_with("the database's encoding is SQL_ASCII; make one with ENCODING 'UTF8'"), "{line}");
}

#[tokio::test]
async fn a_user_who_may_not_make_tables_serves_what_another_migrated() {
    let url = database().await;
    let guest = format!("guest_of_{}", url.rsplit('/').next().unwrap());
    let by_guest = url.replace("//rag:", &format!("//{guest}:"));
    let mut owner = connect(&url).await;
    let make = format!(
        "CREATE ROLE {guest} LOGIN PASSWORD '{PASSWORD}'; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
         ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {guest}"
    );
    owner.execute(sqlx::AssertSqlSafe(make)).await.unwrap();
    let line = refusal(&by_guest).await;
    assert!(line.contains("its user may not make or change tables"), "{line}");
    open(&url).await;
    put(&open(&by_guest).await, "a", "one").await;
}

#[tokio::test]
async fn what_has_outlived_its_time_is_removed() {
    let url = database().await;
    let catalog = open(&url).await;
    let count = async |table: &str| -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(sql).fetch_one(&mut connect(&url).await).await.unwrap()
    };
    catalog.idempotency(&tenant(), "ann", "young", "one").await.unwrap();
    let old = "INSERT INTO idempotency_keys SELECT 'acme', 'ann', 'old ' || n, 'one', 'old ' || n, 1 \
               FROM generate_series(1, 2500) AS n; \
               INSERT INTO idempotency_parts SELECT request, 0 FROM idempotency_keys; \
               INSERT INTO retired_documents VALUES ('acme', 'old', 1, 1)";
    connect(&url).await.execute(old).await.unwrap();
    catalog.expire().await.unwrap();
    assert_eq!((count("idempotency_keys").await, count("idempotency_parts").await), (1, 1));
    assert_eq!(count("retired_documents").await, 0);
}
