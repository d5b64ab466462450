//! Versions of the schema.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use crate::error::Error;

/// The schema's versions, names and statements, oldest first; what was released never changes. Not by sqlx's macro, for
/// which a build would compile both databases' drivers twice.
pub(super) fn migrations<const N: usize>(versions: [(&'static str, &'static str); N]) -> Migrator {
    let versions = (1..).zip(versions).map(|(version, (name, sql))| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(versions.collect())
}

/// The error of a migration of the database at `place`; `database` says what the database's own errors mean.
pub(super) fn migration(error: MigrateError, place: &str, database: fn(sqlx::Error) -> Error) -> Error {
    match error {
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) | MigrateError::VersionMismatch(_) => {
            Error::config(format!("{place} was written by another version of rag-api")).with_source(error)
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => database(error),
        error => Error::internal("the catalog's schema could not be brought up to date", error),
    }
}
