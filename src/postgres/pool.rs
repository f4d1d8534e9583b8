//! The pool that everything works through but the listener and what has a [`Lane`](super::Lane), with every option
//! decided here.
//!
//! Connections are not tested before they are handed out (a round trip each time); after a restart of the server each
//! stale connection costs one failed call, which is why callers that must persist use
//! [`retry_unavailable`](super::retry_unavailable). The pool itself survives restarts of the server and needs no
//! rebuild.
//!
//! Every session has `search_path` set to the configured schema alone, so our own SQL stays unqualified. Use no
//! transaction-pooling proxy: prepared statements and LISTEN need a session.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};

use super::{DbError, SchemaName};
use super::{server, url};
use crate::config::Indexes;

/// Longest wait for a connection, a new one's making included.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that nobody used for this long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// A connection is closed after this long, so that memory of the server's process does not grow for ever.
pub(super) const LIFETIME_MAX: Duration = Duration::from_secs(30 * 60);

/// Longest wait for a lock of a row or table within one statement.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A transaction that its owner forgot is ended by the server after this long.
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Prepared statements kept for each connection.
const STATEMENT_CACHE_MAX: usize = 100;

/// Oldest server, as `server_version_num`: what Oban asks for.
const SERVER_VERSION_MIN: i32 = 140_000;

/// What differs between pools.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Schema of all unqualified names. Default `public`.
    pub schema: SchemaName,
    /// What `pg_stat_activity` shows: the instance id. Default `singularity`.
    pub application_name: String,
    /// Most connections at once. Default 10.
    pub max: u32,
    /// The server ends a statement after this long. Default 10 s.
    pub statement_timeout: Duration,
    /// Indexes that the table of jobs gets where migrations make it. Default Oban's.
    pub indexes: Indexes,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            schema: SchemaName::default(),
            application_name: "singularity".into(),
            max: 10,
            statement_timeout: Duration::from_secs(10),
            indexes: Indexes::default(),
        }
    }
}

/// A pool of connections to one database and schema. Cloning is cheap and shares the pool.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PgPool,
    /// User, address, name and TLS from the URL, and nothing else.
    base: PgConnectOptions,
    schema: SchemaName,
    application_name: String,
    statement_timeout: Duration,
    indexes: Indexes,
    public_url: String,
    server: Arc<str>,
}

impl Database {
    /// Opens a pool and makes sure that the server answers and is new enough.
    ///
    /// Cancel safety: nothing stays behind but connections that close themselves.
    ///
    /// # Errors
    /// `E0220` URL, `E0222` not available, `E0223` refused, `E0224` server older than 14.
    pub async fn connect(url: &SecretString, options: &PoolOptions) -> Result<Self, DbError> {
        let database = Self::connect_lazy(url, options)?;
        // Not through the pool, which tries until its time is over and then tells that instead of the cause.
        let session = database.inner.pool.connect_options();
        let took_too_long = |_| sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long"));
        let connecting = tokio::time::timeout(ACQUIRE_TIMEOUT, session.connect()).await;
        let connected = connecting.map_err(took_too_long).and_then(|connected| connected);
        let mut connection = connected.map_err(|error| database.at(error))?;
        let (number, found): (i32, String) =
            sqlx::query_as("SELECT current_setting('server_version_num')::int, current_setting('server_version')")
                .fetch_one(&mut connection)
                .await
                .map_err(|error| database.at(error))?;
        connection.close().await.map_err(|error| database.at(error))?;
        if number < SERVER_VERSION_MIN {
            return Err(DbError::UnsupportedServer { found });
        }
        Ok(database)
    }

    /// A pool that connects at its first use. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// `E0220` when the URL cannot be read.
    pub fn connect_lazy(url: &SecretString, options: &PoolOptions) -> Result<Self, DbError> {
        let url = url.expose_secret();
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(DbError::InvalidUrl { reason: "it does not start with postgres:// or postgresql://".into() });
        }
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.split('?').next().and_then(|main| main.split_once('/')).map_or("", |(_, path)| path);
        if path.contains('@') {
            let reason = "there is a @ after the first /; write / as %2F and @ as %40 inside user, password and names";
            return Err(DbError::InvalidUrl { reason: reason.into() });
        }
        url::check_parameters(url)?;
        let base: PgConnectOptions = url.parse().map_err(DbError::from)?;
        // A control character, NUL above all, would break the start-up message.
        let application_name: String = options.application_name.chars().filter(|c| !c.is_control()).collect();
        let session = session(&base, &options.schema, &application_name, options.statement_timeout);
        let pool = pool_options(options.max).connect_lazy_with(session);
        let public_url = url::without_password(url);
        let server = server::in_words(&base);
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                base,
                schema: options.schema.clone(),
                application_name,
                statement_timeout: options.statement_timeout,
                indexes: options.indexes,
                public_url,
                server,
            }),
        })
    }

    /// The pool, for statements: the one that the node itself works through, of [`PoolOptions::max`] connections.
    ///
    /// A transaction keeps one of them to its end. Code that keeps many for long, in many jobs at once, makes
    /// everything wait that has no connection of its own ([`Lane`](super::Lane)): such code wants a pool of its own.
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    /// The schema that every connection of the pool looks in.
    pub fn schema(&self) -> &SchemaName {
        &self.inner.schema
    }

    /// The full channel of an Oban channel, such as `public.oban_insert` for `insert`: one identifier, dot included.
    pub fn channel(&self, name: &str) -> String {
        format!("{}.oban_{name}", self.inner.schema)
    }

    /// The server ends a statement after this long.
    pub fn statement_timeout(&self) -> Duration {
        self.inner.statement_timeout
    }

    /// Indexes that the table of jobs gets where migrations make it.
    pub fn indexes(&self) -> Indexes {
        self.inner.indexes
    }

    /// The URL without its password, for people and for `psql`.
    pub fn public_url(&self) -> &str {
        &self.inner.public_url
    }

    /// Name of the database and where it is, for people: `"jobs" at db.example:5433`.
    pub(super) fn server(&self) -> &Arc<str> {
        &self.inner.server
    }

    /// The clock of the server, which decides about all leases and orders.
    ///
    /// # Errors
    /// As any statement.
    pub async fn server_now(&self) -> Result<DateTime<Utc>, DbError> {
        Ok(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(self).await?)
    }

    /// What the server calls its version, for people.
    ///
    /// # Errors
    /// As any statement.
    pub async fn server_version(&self) -> Result<String, DbError> {
        Ok(sqlx::query_scalar("SELECT current_setting('server_version')").fetch_one(self).await?)
    }

    /// Closes every connection and waits for those in use. Clones are closed too.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    /// Options of a session in the configured schema that no statement timeout ends: for the listener.
    pub(super) fn session_unlimited(&self) -> PgConnectOptions {
        session(&self.inner.base, &self.inner.schema, &self.inner.application_name, Duration::ZERO)
            .options([("idle_session_timeout", "0")])
    }

    /// A second, short-lived pool without statement timeout that looks where the server's default looks: for scripts of
    /// others that must not run in our schema.
    pub(super) fn maintenance_pool(&self, max: u32) -> PgPool {
        let options = self.inner.base.clone().application_name(&self.inner.application_name);
        pool_options(max).connect_lazy_with(options.options([("statement_timeout", "0")]))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("url", &self.inner.public_url)
            .field("schema", &self.inner.schema.as_str())
            .finish_non_exhaustive()
    }
}

fn pool_options(max: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(max.max(1))
        .min_connections(0)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .max_lifetime(LIFETIME_MAX)
        .test_before_acquire(false)
}

/// One session's settings. They are part of the connection, so they hold after every reconnect; sqlx itself adds
/// `TimeZone=UTC`.
fn session(
    base: &PgConnectOptions,
    schema: &SchemaName,
    application_name: &str,
    statement_timeout: Duration,
) -> PgConnectOptions {
    let millis = |time: Duration| time.as_millis().to_string();
    base.clone().application_name(application_name).statement_cache_capacity(STATEMENT_CACHE_MAX).options([
        ("search_path", schema.to_string()),
        ("statement_timeout", millis(statement_timeout)),
        ("lock_timeout", millis(LOCK_TIMEOUT)),
        ("idle_in_transaction_session_timeout", millis(IDLE_IN_TRANSACTION_TIMEOUT)),
        // The server notices a dead client within a minute instead of two hours. On a Unix socket they have no effect.
        ("tcp_keepalives_idle", "30".to_owned()),
        ("tcp_keepalives_interval", "10".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Coded;

    fn lazy(url: &str, options: &PoolOptions) -> Result<Database, DbError> {
        Database::connect_lazy(&SecretString::from(url), options)
    }

    #[tokio::test]
    async fn shows_no_password() {
        let url = "postgres://ann:secret@db.example:5433/jobs?sslmode=require&password=secret&host=/run/pg";
        let database = lazy(url, &PoolOptions::default()).unwrap();
        assert_eq!(database.public_url(), "postgres://ann@db.example:5433/jobs?sslmode=require&host=/run/pg");
        assert!(!format!("{database:?}").contains("secret"));
    }

    #[tokio::test]
    async fn says_what_is_wrong_with_a_url_without_repeating_it() {
        for url in ["", "secret", "mysql://u:secret@h/d", "postgres://u:secret@h:port/d", "postgres://u:a/secret@h/d"] {
            let error = lazy(url, &PoolOptions::default()).unwrap_err();
            assert_eq!(error.code(), "E0220", "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn names_channels_as_oban_does() {
        let options = PoolOptions { schema: "jobs".parse().unwrap(), ..PoolOptions::default() };
        assert_eq!(lazy("postgres://localhost/d", &options).unwrap().channel("insert"), "jobs.oban_insert");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable() {
        // Nobody listens on port 1.
        for url in ["postgres://localhost:1/d?host=/nonexistent", "postgres://127.0.0.1:1/d"] {
            let error = Database::connect(&url.into(), &PoolOptions::default()).await.unwrap_err();
            assert!(error.is_unavailable() && error.hint().is_some(), "{error:?}");
            // The cause, and not that a time is over.
            assert!(!error.to_string().contains("timed out"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_names_the_database_and_where_it_is_and_no_password() {
        for (url, wanted) in [
            ("postgres://ann:secret@127.0.0.1:1/jobs?password=secret", "(\"jobs\" at 127.0.0.1:1): "),
            ("postgres://ann:secret@localhost:1/jobs?host=/nonexistent", "(\"jobs\" at /nonexistent/.s.PGSQL.1): "),
            // As psql does, the name of the user is that of the database.
            ("postgres://ann:secret@[::1]:1", "(\"ann\" at [::1]:1): "),
        ] {
            let database = lazy(url, &PoolOptions::default()).unwrap();
            let statement = sqlx::query("SELECT 1").execute(&database).await.map_err(DbError::from).unwrap_err();
            let transaction = database.begin().await.map_err(DbError::from).unwrap_err();
            let start = Database::connect(&url.into(), &PoolOptions::default()).await.unwrap_err();
            let lane = crate::postgres::Lane::new(database);
            let lane = sqlx::query("SELECT 1").execute(&lane).await.map_err(DbError::from).unwrap_err();
            for error in [statement, transaction, start, lane] {
                let text = error.to_string();
                assert!(error.is_unavailable() && text.contains(wanted), "{error:?}");
                assert!(!format!("{text}{error:?}").contains("secret"), "{error:?}");
            }
        }
    }
}
