//! The start: the first connection, and the schema.

use std::io::ErrorKind;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::Instant;

use super::error::{code, database, is_broken};
use super::options::server;
use crate::catalog::schema;
use crate::error::{Error, Result};

/// The schema's versions.
const VERSIONS: [(&str, &str); 1] = [("catalog", include_str!("../migrations/postgres/0001_catalog.sql"))];

/// The driver's table of what was done.
const DONE: &str = "_sqlx_migrations";
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(250);
/// Whose turn it is to migrate: any number that nobody else takes in the same database.
const LOCK: i64 = 0x7261_672d_6170_6900;
/// Longest wait for other processes that migrate, and longest statement of a migration.
const MIGRATION: Duration = Duration::from_mins(10);
/// Longest wait of a migration for a lock on a table: all who come after it wait with it.
const TABLE: Duration = Duration::from_secs(30);

/// Connects; waits for a server that is not up yet, but no longer than `patience`.
pub(super) async fn connect(options: &PgConnectOptions, patience: Duration) -> Result<PgConnection> {
    let deadline = Instant::now() + patience;
    let mut told = false;
    loop {
        let error = match tokio::time::timeout_at(deadline, PgConnection::connect_with(options)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::Io(ErrorKind::TimedOut.into()),
        };
        // 53300: as many connections as the server takes.
        let passing = is_broken(&error) || code(&error).as_deref() == Some("53300");
        if !passing || is_missing_file(options, &error) {
            return Err(refused(options, error));
        }
        if Instant::now() + PAUSE >= deadline {
            let (server, seconds) = (server(options), patience.as_secs_f64());
            return Err(Error::config(format!(
                "RAG_DATABASE_URL: no PostgreSQL at {server} within {seconds} s; start it or correct the URL"
            ))
            .with_source(error));
        }
        if !told {
            tracing::warn!(server = server(options), error = %error, "waiting for PostgreSQL");
            told = true;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a file of the URL cannot be read. The socket of a server that is not up yet is none of them.
fn is_missing_file(options: &PgConnectOptions, error: &sqlx::Error) -> bool {
    let unreadable = |kind| matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied);
    options.get_socket().is_none() && matches!(error, sqlx::Error::Io(error) if unreadable(error.kind()))
}

/// The error of a server that is there and does not let us in.
fn refused(options: &PgConnectOptions, error: sqlx::Error) -> Error {
    let server = server(options);
    let problem = match &error {
        sqlx::Error::Io(_) => "a file of the URL cannot be read; see sslrootcert, sslcert and sslkey".to_owned(),
        sqlx::Error::Tls(_) => "no TLS with the server; see sslmode and sslrootcert of the URL".to_owned(),
        error => match error.as_database_error() {
            Some(error) => error.message().replace('\n', " "),
            None => "the server does not speak as PostgreSQL does".to_owned(),
        },
    };
    Error::config(format!("RAG_DATABASE_URL: {server}: {problem}")).with_source(error)
}

/// Brings the schema up to date, one process after the other, all or nothing.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<()> {
    let late =
        |_| Error::config("RAG_DATABASE_URL: PostgreSQL did not bring its schema up to date in time; start again");
    tokio::time::timeout(2 * MIGRATION, migrate_in_time(connection)).await.map_err(late)?
}

async fn migrate_in_time(connection: &mut PgConnection) -> Result<()> {
    let millis = MIGRATION.as_millis();
    let begin = format!(
        "BEGIN; SET LOCAL statement_timeout = {millis}; SET LOCAL lock_timeout = {millis}; \
         SET LOCAL client_min_messages = warning"
    );
    let mut tx = connection.begin_with(AssertSqlSafe(begin)).await.map_err(unusable)?;
    let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *tx).await.map_err(unusable)?;
    if encoding != "UTF8" {
        let problem = format!("the database's encoding is {encoding}; make one with ENCODING 'UTF8'");
        return Err(Error::config(format!("RAG_DATABASE_URL: {problem}")));
    }
    let failed = |error| schema::migration(error, "the database of RAG_DATABASE_URL", unusable);
    // The driver's own lock would belong to the session, which is not ours behind a pooler.
    let mut migrations = schema::migrations(VERSIONS);
    migrations.set_locking(false);
    if is_current(&mut tx, &migrations).await.map_err(failed)? {
        return Ok(());
    }
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await.map_err(unusable)?;
    let patience = format!("SET LOCAL lock_timeout = {}", TABLE.as_millis());
    sqlx::query(AssertSqlSafe(patience)).execute(&mut *tx).await.map_err(unusable)?;
    migrations.run_direct(None, &mut *tx, false).await.map_err(failed)?;
    tx.commit().await.map_err(unusable)
}

/// Whether every version is there and no other. Then nothing is to be done, and the user needs no right to make tables:
/// `rag-api migrate` may have been run by another.
async fn is_current(connection: &mut PgConnection, migrations: &Migrator) -> Result<bool, MigrateError> {
    let there = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(DONE);
    let there: bool = there.fetch_one(&mut *connection).await?;
    if !there {
        return Ok(false);
    }
    let applied = connection.list_applied_migrations(DONE).await?;
    let applied = applied.iter().map(|migration| (migration.version, &migration.checksum));
    Ok(applied.eq(migrations.iter().map(|migration| (migration.version, &migration.checksum))))
}

/// What an error of a migration means: rights are a matter of configuration.
fn unusable(error: sqlx::Error) -> Error {
    let problem = match code(&error).as_deref() {
        Some("42501") => "its user may not make or change tables; GRANT CREATE ON SCHEMA public TO the user",
        Some("25006") => "the server is a standby, which takes no changes; name the primary",
        _ => return database(error),
    };
    Error::config(format!("RAG_DATABASE_URL: {problem}")).with_source(error)
}
