//! Which database on which server, in the errors that a person acts on.
//!
//! The driver's errors say what happened and not where; whoever has several databases must see which one is meant. They
//! pass through many hands as errors of the driver, so the place travels inside of one until [`DbError`] takes it out.

use std::path::Path;
use std::sync::Arc;

use sqlx::Error;
use sqlx::postgres::PgConnectOptions;

use super::Database;
use super::error::{is_away, is_refusal, sqlstate};

/// An error of the driver, and where it happened.
#[derive(Debug, thiserror::Error)]
#[error("{error} ({server})")]
pub(super) struct Located {
    error: Error,
    server: Arc<str>,
}

impl Database {
    /// The error with the server and the database that it is about, where it is about the way to them. Others stay.
    pub(super) fn at(&self, error: Error) -> Error {
        located(error, self.server())
    }

    /// Begins a transaction that nothing here ends, for migrations, with errors that say where.
    ///
    /// # Errors
    /// As the pool.
    pub(super) async fn begin(&self) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, Error> {
        self.pool().begin().await.map_err(|error| self.at(error))
    }
}

/// See [`Database::at`].
pub(super) fn located(error: Error, server: &Arc<str>) -> Error {
    if is_about_the_way(&error) {
        return Error::AnyDriverError(Box::new(Located { error, server: Arc::clone(server) }));
    }
    error
}

/// The error as the driver gave it, and where it happened, where that is known.
pub(super) fn taken_apart(error: Error) -> (Error, Option<Arc<str>>) {
    match error {
        Error::AnyDriverError(source) => match source.downcast::<Located>() {
            Ok(located) => (located.error, Some(located.server)),
            Err(source) => (Error::AnyDriverError(source), None),
        },
        error => (error, None),
    }
}

fn is_about_the_way(error: &Error) -> bool {
    let said = |code: &str| is_away(code) || is_refusal(code);
    matches!(error, Error::Io(_) | Error::PoolTimedOut | Error::Tls(_)) || sqlstate(error).as_deref().is_some_and(said)
}

/// `"jobs" at db.example:5433`, or the path of the socket in place of host and port. A URL without the name of a
/// database means the one that is called as its user. There is no password in it.
pub(super) fn in_words(options: &PgConnectOptions) -> Arc<str> {
    let name = options.get_database().unwrap_or_else(|| options.get_username());
    let (host, port) = (options.get_host(), options.get_port());
    // As the driver takes it: a host that begins so is a folder.
    let of_host = || host.starts_with('/').then(|| Path::new(host));
    let folder = options.get_socket().map(|folder| folder.as_path()).or_else(of_host);
    let place = match folder {
        Some(folder) => folder.join(format!(".s.PGSQL.{port}")).display().to_string(),
        None if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    };
    format!("\"{name}\" at {place}").into()
}
