//! The catalog in a PostgreSQL database, which any number of processes share.
//!
//! Every call is one transaction that loads a row `FOR UPDATE`, applies [`super::state`], and saves it. Rows are locked
//! in one order: the part of a request, the document, its tenant's generation. Time is the database's, that of the
//! transaction's begin, in milliseconds: never later than the moment of the change, so a lease errs to the short side.
//!
//! No state is kept in a session, so a pooler that gives each transaction another one (PgBouncer, `transaction` mode)
//! may stand between: timeouts are set with the `BEGIN`, and the only locks beside those of rows end with their
//! transaction. Such a pooler must know prepared statements (PgBouncer from 1.21, with `max_prepared_statements`): the
//! driver names every statement, whatever `statement-cache-capacity` says.

mod archive;
mod documents;
mod error;
mod idempotency;
mod jobs;
mod keys;
mod options;
mod rows;
mod start;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgPool, Postgres, SqlSafeStr, Transaction};

use super::stored::moment;
use super::{Catalog, KEPT, PostgresConfig};
use crate::error::{Error, ErrorKind, Result};
use error::{collided, committed, database, is_broken};
pub(super) use options::options;

/// A transaction.
type Tx = Transaction<'static, Postgres>;

/// How often a transaction that the server ends for the sake of another is tried.
const TRIES: usize = 4;
/// Longest wait for a connection that comes back to the pool.
const RETURN: Duration = Duration::from_secs(5);
/// Most rows that one statement of a sweep removes.
const SWEEP: i64 = 1000;
/// The time of the transaction in milliseconds since 1970.
const NOW: &str = "SELECT floor(extract(epoch FROM now()) * 1000)::bigint";

/// One PostgreSQL database.
pub(super) struct PostgresCatalog {
    options: PgConnectOptions,
    pool: PgPool,
    /// Of a statement, and of the wait for a connection.
    timeout: Duration,
    begin_reading: Arc<str>,
    begin_writing: Arc<str>,
}

impl fmt::Debug for PostgresCatalog {
    /// Without the options, which print their password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresCatalog").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl PostgresCatalog {
    /// A catalog that connects when it is first asked.
    pub(super) fn new(config: &PostgresConfig) -> Result<Self> {
        let options =
            options(config.url.expose()).map_err(|problem| Error::config(format!("RAG_DATABASE_URL: {problem}")))?;
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.timeout)
            // A connection that died is found by the `BEGIN` of the next transaction, see `begin`.
            .test_before_acquire(false)
            // Here what a dropped call left is rolled back; should the server be silent, the connection is given up.
            .after_release(|connection, _| {
                Box::pin(async move {
                    let ping = tokio::time::timeout(RETURN, connection.ping());
                    ping.await.map_err(|_| sqlx::Error::PoolTimedOut)?.map(|()| true)
                })
            })
            .connect_lazy_with(options.clone());
        let millis = config.timeout.as_millis().max(1);
        // Half for a lock, so that the log tells who waits from who is slow; twice for us between two statements.
        let timeouts = format!(
            "SET LOCAL statement_timeout = {millis}; SET LOCAL lock_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}",
            millis.div_ceil(2),
            2 * millis
        );
        Ok(Self {
            options,
            pool,
            timeout: config.timeout,
            begin_reading: format!("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {timeouts}").into(),
            begin_writing: format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {timeouts}").into(),
        })
    }

    /// Runs a call's transaction to its end: again where the server ended it for the sake of another, and no longer
    /// than a call may take.
    async fn run<T, F, Fut>(&self, call: F) -> Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let tries = async {
            for _ in 1..TRIES {
                match call().await {
                    Err(error) if collided(&error) => tracing::debug!(error = %error.chain(), "tried again"),
                    done => return done,
                }
            }
            call().await
        };
        let late = |_| Error::new(ErrorKind::Timeout, "the catalog did not answer in time");
        tokio::time::timeout(3 * self.timeout, tries).await.map_err(late)?
    }

    /// Begins a transaction that sees what is committed, statement by statement, and changes nothing.
    async fn read(&self) -> Result<Tx> {
        self.begin(&self.begin_reading).await
    }

    /// Begins a transaction that may write; with its time.
    async fn write(&self) -> Result<(Tx, DateTime<Utc>)> {
        let mut tx = self.begin(&self.begin_writing).await?;
        let now = sqlx::query_scalar(NOW).fetch_one(&mut *tx).await.map_err(database)?;
        Ok((tx, moment(now)?))
    }

    /// Begins on the first connection that lives; the server may have ended all that idle (a restart, a failover).
    async fn begin(&self, sql: &Arc<str>) -> Result<Tx> {
        let mut tries = self.pool.options().get_max_connections();
        loop {
            let connection = self.pool.acquire().await.map_err(database)?;
            match begin_on(connection, sql.clone()).await? {
                Err(error) if is_broken(&error) && tries > 0 => {
                    tracing::debug!(%error, "a connection had died");
                    tries -= 1;
                }
                begun => return begun.map_err(database),
            }
        }
    }

    /// Removes the rows of a table whose column says that they are older than what is kept.
    async fn sweep(&self, table: &str, column: &str) -> Result<()> {
        // In small steps that pass over what another process has in hand.
        let sql = format!(
            "DELETE FROM {table} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {table} WHERE {column} < $1 \
             ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED))"
        );
        let step = || async {
            let (mut tx, now) = self.write().await?;
            let query = sqlx::query(AssertSqlSafe(sql.clone())).bind((now - KEPT).timestamp_millis()).bind(SWEEP);
            let removed = query.execute(&mut *tx).await.map_err(database)?.rows_affected();
            commit(tx).await?;
            Ok(removed)
        };
        while self.run(&step).await? >= SWEEP as u64 {}
        Ok(())
    }
}

#[async_trait]
impl Catalog for PostgresCatalog {
    async fn migrate(&self) -> Result<()> {
        let mut connection = start::connect(&self.options, 6 * self.timeout).await?;
        start::migrate(&mut connection).await?;
        // It is of no more use, and the server notices if the goodbye is lost.
        let _ = tokio::time::timeout(RETURN, connection.close()).await;
        Ok(())
    }

    async fn check(&self) -> Result<()> {
        self.run(|| async {
            let mut tx = self.read().await?;
            sqlx::query("SELECT 1 FROM tenants LIMIT 1").fetch_optional(&mut *tx).await.map_err(database)?;
            Ok(())
        })
        .await
    }

    async fn expire(&self) -> Result<()> {
        self.sweep("idempotency_keys", "seen_at").await?;
        self.sweep("retired_documents", "retired_at").await
    }
}

/// Begins in a task of its own, which ends what it began if the caller has gone away: the driver forgets a `BEGIN` that
/// was not answered yet, and would leave it open.
async fn begin_on(connection: PoolConnection<Postgres>, sql: Arc<str>) -> Result<Result<Tx, sqlx::Error>> {
    let begun = tokio::spawn(Transaction::begin(connection, Some(AssertSqlSafe(sql).into_sql_str())));
    begun.await.map_err(|error| Error::internal("the catalog failed", error))
}

/// Ends a transaction that changes nothing, and gives what came of it. Dropped, it would keep its locks until its
/// connection is back in the pool, and whoever claims meanwhile would pass over the row.
async fn abandon<T>(tx: Tx, outcome: T) -> T {
    if let Err(error) = tx.rollback().await {
        tracing::debug!(%error, "a transaction could not be rolled back; its connection goes");
    }
    outcome
}

/// Commits. Where the connection breaks it is not known whether the change was written: [`ErrorKind::Timeout`].
async fn commit(tx: Tx) -> Result<()> {
    tx.commit().await.map_err(committed)
}
