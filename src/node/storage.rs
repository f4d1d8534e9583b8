//! The database of a node: a server that somebody named, or the embedded one.

use std::path::Path;
#[cfg(feature = "embedded-postgres")]
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::error::NodeError;
use crate::config::{Config, SecretRef};
#[cfg(feature = "embedded-postgres")]
use crate::postgres::embedded;
use crate::postgres::{Database, PoolOptions};

/// Names the database where the configuration does not say how else.
const URL_VARIABLE: &str = "DATABASE_URL";
/// How long closing connections may take: a pool waits for those on which an answer is awaited.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// An open database and, where it is ours, a share of its server.
#[derive(Debug, Clone)]
pub struct Storage {
    db: Database,
    display_url: String,
    #[cfg(feature = "embedded-postgres")]
    server: Option<Arc<embedded::Server>>,
}

/// Who stops the embedded server when all of its users were killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guardian {
    /// Nobody: the server then runs until its next user leaves. For programs that embed this crate.
    #[default]
    Nobody,
    /// A process of the running program, which must be `singularity` itself: it is started with a hidden argument.
    ThisProgram,
}

/// What a configuration says about the database.
#[derive(Debug)]
pub enum Source {
    /// A server at this URL, named by this reference.
    Given(SecretString, SecretRef),
    /// None: the embedded server.
    Embedded,
}

impl Source {
    /// Reads the reference of `[database] url`.
    ///
    /// # Errors
    /// [`NodeError::DatabaseUrl`] when it cannot be read, or names nothing and is not the default.
    pub fn of(config: &Config) -> Result<Self, NodeError> {
        let reference = &config.database.url;
        let problem = |reason: String| NodeError::DatabaseUrl { reference: reference.to_string(), reason };
        match reference.read() {
            Ok(Some(url)) => Ok(Self::Given(url, reference.clone())),
            // A blank one is a variable that was meant to be filled in; a database of its own is not what was meant.
            Ok(None) if *reference == SecretRef::env(URL_VARIABLE) => match std::env::var_os(URL_VARIABLE) {
                None => Ok(Self::Embedded),
                Some(_) => Err(problem(format!("{URL_VARIABLE} is set to nothing"))),
            },
            Ok(None) => Err(problem("there is nothing at it".into())),
            Err(error) => Err(problem(error.to_string())),
        }
    }
}

impl Storage {
    /// Opens the database that `config` names; relative paths start at `base_dir`. Starts the embedded server where
    /// none is named.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn open(
        config: &Config,
        base_dir: &Path,
        application_name: &str,
        guardian: Guardian,
    ) -> Result<Self, NodeError> {
        let options = pool_options(config, application_name)?;
        match Source::of(config)? {
            Source::Given(url, _) => {
                let db = Database::connect(&url, &options).await?;
                Ok(Self {
                    display_url: db.public_url().to_owned(),
                    db,
                    #[cfg(feature = "embedded-postgres")]
                    server: None,
                })
            }
            Source::Embedded => Self::open_embedded(config, base_dir, &options, guardian).await,
        }
    }

    /// Refuses a configuration whose database is an embedded one that was never made, for those who only want to look.
    ///
    /// # Errors
    /// [`NodeError::NoDatabase`], and those of [`Source::of`] and of the embedded server.
    pub async fn refuse_missing(config: &Config, base_dir: &Path) -> Result<(), NodeError> {
        #[cfg(feature = "embedded-postgres")]
        if matches!(Source::of(config)?, Source::Embedded) {
            let options = embedded::Options::new(base_dir.join(&config.embedded.data_dir));
            let folder = options.data_dir.display().to_string();
            let exists = tokio::task::spawn_blocking(move || embedded::Server::exists(&options));
            if !exists.await.map_err(NodeError::blocking)?? {
                return Err(NodeError::NoDatabase { folder });
            }
        }
        #[cfg(not(feature = "embedded-postgres"))]
        let (_, _) = (config, base_dir);
        Ok(())
    }

    /// Opens the embedded server of `config`, also where a database is named.
    ///
    /// # Errors
    /// [`NodeError`].
    #[cfg(feature = "embedded-postgres")]
    pub async fn embedded(
        config: &Config,
        base_dir: &Path,
        application_name: &str,
        guardian: Guardian,
    ) -> Result<Self, NodeError> {
        Self::open_embedded(config, base_dir, &pool_options(config, application_name)?, guardian).await
    }

    #[cfg(feature = "embedded-postgres")]
    async fn open_embedded(
        config: &Config,
        base_dir: &Path,
        options: &PoolOptions,
        guardian: Guardian,
    ) -> Result<Self, NodeError> {
        let mut wanted = embedded::Options::new(base_dir.join(&config.embedded.data_dir));
        wanted.bin_dir.clone_from(&config.embedded.bin_dir);
        wanted.linger = config.embedded.linger.get();
        wanted.guardian = match guardian {
            Guardian::Nobody => Some(Vec::new()),
            Guardian::ThisProgram => None,
        };
        let server = tokio::task::spawn_blocking(move || embedded::Server::acquire(&wanted))
            .await
            .map_err(NodeError::blocking)??;
        let connection = server.connection();
        let db = Database::connect(&connection.url(), options).await?;
        Ok(Self { db, display_url: connection.display_url(), server: Some(Arc::new(server)) })
    }

    #[cfg(not(feature = "embedded-postgres"))]
    async fn open_embedded(
        config: &Config,
        _base_dir: &Path,
        _options: &PoolOptions,
        _guardian: Guardian,
    ) -> Result<Self, NodeError> {
        Err(NodeError::DatabaseUrl {
            reference: config.database.url.to_string(),
            reason: "it is not set, and this build has no embedded server".into(),
        })
    }

    /// The database.
    pub fn db(&self) -> &Database {
        &self.db
    }

    /// Where it is, for people and for `psql`; without the password.
    pub fn display_url(&self) -> &str {
        &self.display_url
    }

    /// Whether the server is the embedded one.
    pub fn is_embedded(&self) -> bool {
        #[cfg(feature = "embedded-postgres")]
        return self.server.is_some();
        #[cfg(not(feature = "embedded-postgres"))]
        return false;
    }

    /// Starts the embedded server again if it is not running; any user of it may, and one does. Nothing to do for a
    /// server that somebody else runs.
    pub(super) async fn heal(&self) {
        #[cfg(feature = "embedded-postgres")]
        if let Some(server) = self.server.clone() {
            match tokio::task::spawn_blocking(move || server.ensure_running()).await {
                Ok(Ok(restarted)) if restarted.is_new() => {
                    tracing::warn!(target: "postgres", "the embedded server was restarted")
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(target: "postgres", %error, "the embedded server could not be restarted")
                }
                Err(error) => tracing::warn!(target: "postgres", %error, "the embedded server could not be looked at"),
            }
        }
    }

    /// Closes the pool and gives up the share of the server; the last one out stops it.
    pub async fn close(self) {
        if tokio::time::timeout(CLOSE_LIMIT, self.db.close()).await.is_err() {
            tracing::warn!(target: "postgres", "connections do not close in time: the database does not answer");
        }
        #[cfg(feature = "embedded-postgres")]
        if let Some(server) = self.server.and_then(Arc::into_inner) {
            match tokio::task::spawn_blocking(move || server.release()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(target: "postgres", %error, "the embedded server was not stopped"),
                Err(error) => tracing::warn!(target: "postgres", %error, "the embedded server was not released"),
            }
        }
    }
}

fn pool_options(config: &Config, application_name: &str) -> Result<PoolOptions, NodeError> {
    Ok(PoolOptions {
        schema: config.database.schema.parse()?,
        application_name: application_name.to_owned(),
        max: config.database.pool_max,
        statement_timeout: config.database.statement_timeout.get(),
        indexes: config.database.indexes,
    })
}
