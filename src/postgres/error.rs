//! What can go wrong between us and PostgreSQL, sorted by what helps: waiting, or doing something else.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use super::server::taken_apart;
use crate::error::Coded;

/// What to try where transactions cannot write.
pub const READ_ONLY_WAY_OUT: &str =
    "name the server that takes writes, not a standby, and a user without default_transaction_read_only";

/// An error of the database or of the way to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// The URL cannot be read. The URL itself is not repeated, because it may hold a password.
    #[error("the database URL cannot be read: {reason}")]
    InvalidUrl {
        /// Which part, and why.
        reason: String,
    },
    /// The schema name is not usable.
    #[error(
        "schema \"{schema}\" is not allowed: a name has 1 to 30 characters of a-z, 0-9 and _, does not start with a digit, \
         and is neither pg_… nor information_schema"
    )]
    InvalidSchema {
        /// What was given.
        schema: String,
    },
    /// The server cannot be reached at the moment: refused, reset, starting, stopping, or all connections are busy.
    /// The same call may succeed later.
    #[error("the database is not available{}: {}", at(server.as_deref()), said(error))]
    Unavailable {
        /// What the driver saw.
        error: sqlx::Error,
        /// Name of the database and where it is, for people, where that is known.
        server: Option<Arc<str>>,
    },
    /// The server was reached and does not let us in: user, password, database name, TLS.
    #[error("the database refused the connection{}: {}", at(server.as_deref()), said(error))]
    Refused {
        /// What the driver saw.
        error: sqlx::Error,
        /// As of [`DbError::Unavailable`].
        server: Option<Arc<str>>,
    },
    /// The server is older than what Oban and this crate work with.
    #[error("PostgreSQL {found} is too old: 14 or newer is needed")]
    UnsupportedServer {
        /// Version as the server tells it.
        found: String,
    },
    /// The statement failed, or its result is not what the code expects.
    #[error("the database refused a statement: {}", said(error))]
    Statement {
        /// What the driver saw.
        error: sqlx::Error,
    },
    /// The pool was closed by this process, which is about to end.
    #[error("the connection pool is closed")]
    Closed,
    /// The caller stopped waiting for the database to come back.
    #[error("stopped while waiting for the database: {last}")]
    Stopped {
        /// The last failure before that.
        last: Box<DbError>,
    },
    /// A notification that must not be sent.
    #[error("a notification on channel \"{channel}\" cannot be sent: {reason}")]
    Payload {
        /// Full channel name.
        channel: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl DbError {
    /// True when waiting may help, because the server could not be reached or had no connection to give.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// True when the same statement may succeed a moment later: the server is away, or it ended the statement because
    /// of others (deadlock, serialization, lock or statement time-out) or because it is stopping.
    pub fn is_transient(&self) -> bool {
        let of_others = |code: &str| code.starts_with("40") || matches!(code, "55P03" | "57014");
        self.is_unavailable() || self.sqlstate().is_some_and(|code| of_others(&code))
    }

    /// The five-character error code of the server, where the server answered with one.
    pub fn sqlstate(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unavailable { error, .. } | Self::Refused { error, .. } | Self::Statement { error } => {
                sqlstate(error)
            }
            Self::Stopped { last } => last.sqlstate(),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        let (error, server) = taken_apart(error);
        match &error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => Self::Unavailable { error, server },
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::Tls(source) if source.downcast_ref::<io::Error>().is_some() => {
                Self::Unavailable { error, server }
            }
            sqlx::Error::Tls(_) => Self::Refused { error, server },
            sqlx::Error::Configuration(source) => Self::InvalidUrl { reason: source.to_string() },
            _ => match sqlstate(&error).as_deref() {
                Some(code) if is_away(code) => Self::Unavailable { error, server },
                Some(code) if is_refusal(code) => Self::Refused { error, server },
                _ => Self::Statement { error },
            },
        }
    }
}

/// What the server said, without the line of its own source that sqlx puts behind it.
fn said(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// ` ("jobs" at db.example:5433)`
fn at(server: Option<&str>) -> String {
    server.map(|server| format!(" ({server})")).unwrap_or_default()
}

pub(super) fn sqlstate(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}

/// Class 08 (connection exceptions), 57P01 to 57P03 (stopping, crashed, starting), 57P05 (idle session ended), 53300
/// (too many connections).
pub(super) fn is_away(code: &str) -> bool {
    code.starts_with("08") || matches!(code, "57P01" | "57P02" | "57P03" | "57P05" | "53300")
}

/// Wrong password, no entry for this user in the server's pg_hba.conf, no such database.
pub(super) fn is_refusal(code: &str) -> bool {
    matches!(code, "28P01" | "28000" | "3D000")
}

impl Coded for DbError {
    fn code(&self) -> &'static str {
        match self {
            Self::InvalidUrl { .. } => "E0220",
            Self::InvalidSchema { .. } => "E0221",
            Self::Unavailable { .. } => "E0222",
            Self::Refused { .. } => "E0223",
            Self::UnsupportedServer { .. } => "E0224",
            Self::Statement { .. } => "E0225",
            Self::Closed => "E0226",
            Self::Stopped { .. } => "E0227",
            Self::Payload { .. } => "E0228",
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::InvalidUrl { .. } => "write it as postgres://USER:PASSWORD@HOST:PORT/DATABASE",
            Self::InvalidSchema { .. } => "choose another name for `schema` in [database]",
            Self::Unavailable { error, .. } => match (error, sqlstate(error).as_deref()) {
                (sqlx::Error::PoolTimedOut, _) => {
                    "check that the server runs and answers; if it does, raise `pool_max` in [database]"
                }
                (_, Some("53300")) => "raise `max_connections` of the server, or lower `pool_max` in [database]",
                _ => "check that the server runs and that host and port in the URL are right",
            },
            Self::Refused { error, .. } => match sqlstate(error).as_deref() {
                Some("3D000") => "create the database, or correct its name in the URL",
                Some(_) => "check user and password in the URL, and the server's pg_hba.conf",
                None => "check `sslmode` and the certificates in the URL",
            },
            Self::UnsupportedServer { .. } => "upgrade the server, or name another one in the URL",
            Self::Statement { error } => match sqlstate(error).as_deref() {
                Some("42P01" | "42703" | "42883" | "3F000") => {
                    "bring the schema up to date with `singularity migrate up`, and check `schema` in [database]"
                }
                Some("42501") => "grant the missing privilege to the user of the URL",
                Some("25006") => READ_ONLY_WAY_OUT,
                Some("57014") => "find out why it was slow, or raise `statement_timeout` in [database]",
                Some("55P03") => "find out who holds the lock with pg_locks and pg_stat_activity",
                _ => return None,
            },
            Self::Stopped { last } => return last.hint(),
            Self::Closed | Self::Payload { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_io_and_a_busy_pool_but_not_for_a_closed_one() {
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof] {
            assert!(DbError::from(sqlx::Error::Io(kind.into())).is_unavailable(), "{kind}");
        }
        assert!(DbError::from(sqlx::Error::PoolTimedOut).is_unavailable());
        assert!(!DbError::from(sqlx::Error::PoolClosed).is_unavailable());
        assert!(!DbError::from(sqlx::Error::RowNotFound).is_unavailable());
    }

    #[test]
    fn knows_the_codes_of_a_server_that_is_away() {
        for code in ["57P01", "57P02", "57P03", "08006", "53300"] {
            assert!(is_away(code), "{code}");
        }
        for code in ["57014", "23505", "42P01", "40001"] {
            assert!(!is_away(code), "{code}");
        }
    }
}
