//! What the errors of PostgreSQL mean. Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use crate::error::{Error, ErrorKind};

/// Classes of codes that pass: connection, missing resources, the operator's intervention, system errors.
const PASSING_CLASSES: [&str; 4] = ["08", "53", "57", "58"];
/// Codes that pass, or that the operator mends without us: serialization failure, deadlock, lock not available, ended
/// for idling, a standby (after a failover, until the old connections are gone), password, user, database.
const PASSING: [&str; 8] = ["40001", "40P01", "55P03", "25P03", "25006", "28P01", "28000", "3D000"];

/// The SQLSTATE of an error that the server sent.
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// What an error of the database means to the caller.
pub(super) fn database(error: sqlx::Error) -> Error {
    if is_passing(&error) {
        Error::unavailable("the catalog is not available", error)
    } else {
        Error::internal("the catalog failed", error)
    }
}

/// What an error of a commit means: where the connection broke, nobody knows what became of it.
pub(super) fn committed(error: sqlx::Error) -> Error {
    if is_broken(&error) {
        let message = "the catalog did not say whether the change was written";
        return Error::new(ErrorKind::Timeout, message).with_source(error);
    }
    database(error)
}

fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::Tls(_) => true,
        error => code(error).is_some_and(|code| {
            PASSING.contains(&code.as_str()) || PASSING_CLASSES.iter().any(|class| code.starts_with(class))
        }),
    }
}

/// Whether the connection is of no more use.
pub(super) fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // 57P01 to 57P03: ended by the administrator, by a crash, not up yet; 25P03 and 57P05: ended for idling.
        error => code(error).is_some_and(|code| {
            code.starts_with("08") || matches!(code.as_str(), "57P01" | "57P02" | "57P03" | "57P05" | "25P03")
        }),
    }
}

/// Whether the server ended the transaction for the sake of another, so that it may be tried again at once.
pub(super) fn collided(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    source.and_then(code).is_some_and(|code| matches!(code.as_str(), "40001" | "40P01"))
}
