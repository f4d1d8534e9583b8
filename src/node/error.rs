//! Why a node does not start.

use crate::config::ConfigErrors;
use crate::error::Coded;
use crate::instance::InstanceError;
use crate::postgres::DbError;
#[cfg(feature = "embedded-postgres")]
use crate::postgres::embedded::EmbeddedError;
use crate::postgres::migrate::MigrateError;
use crate::queue::QueueError;
use crate::supervision::StartError;

/// Why a node does not start, or a command does not reach its database.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A field of the configuration that the program has set.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// `[database] url` leads nowhere.
    #[error("[database] url = \"{reference}\" cannot be used: {reason}")]
    DatabaseUrl {
        /// The reference, which is no secret.
        reference: String,
        /// Why.
        reason: String,
    },
    /// No database is named, and the embedded one was never made.
    #[error("there is no database here: DATABASE_URL is not set, and nothing was ever started in {folder}")]
    NoDatabase {
        /// Where the embedded server would be.
        folder: String,
    },
    /// The embedded server.
    #[cfg(feature = "embedded-postgres")]
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The tables.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// This process as an instance.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// Periodic jobs; not with a configuration that was loaded.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Providers and models.
    #[error("models cannot be set up: {0}")]
    Models(String),
    /// The supervision tree did not start.
    #[error("the supervision tree did not start: {0}")]
    Start(#[from] StartError),
    /// The threads of job code.
    #[error("threads of the job runtime cannot be started: {0}")]
    JobThreads(#[source] std::io::Error),
    /// A thread for blocking work ended early.
    #[error("blocking work was interrupted: {0}")]
    Interrupted(String),
}

impl NodeError {
    #[cfg(feature = "embedded-postgres")]
    pub(super) fn blocking(error: tokio::task::JoinError) -> Self {
        Self::Interrupted(error.to_string())
    }

    fn coded(&self) -> Option<&dyn Coded> {
        match self {
            #[cfg(feature = "embedded-postgres")]
            Self::Embedded(error) => Some(error),
            Self::Config(error) => Some(error),
            Self::Db(error) => Some(error),
            Self::Migrate(error) => Some(error),
            Self::Instance(error) => Some(error),
            Self::Queue(error) => Some(error),
            Self::DatabaseUrl { .. }
            | Self::NoDatabase { .. }
            | Self::Models(_)
            | Self::Start(_)
            | Self::JobThreads(_)
            | Self::Interrupted(_) => None,
        }
    }
}

impl Coded for NodeError {
    fn code(&self) -> &'static str {
        match (self.coded(), self) {
            (Some(error), _) => error.code(),
            (None, Self::DatabaseUrl { .. }) => "E0710",
            (None, Self::Models(_)) => "E0711",
            (None, Self::Start(_)) => "E0712",
            (None, Self::NoDatabase { .. }) => "E0714",
            (None, Self::JobThreads(_)) => "E0723",
            (None, _) => "E0713",
        }
    }

    fn hint(&self) -> Option<String> {
        match (self.coded(), self) {
            (Some(error), _) => error.hint(),
            (None, Self::DatabaseUrl { .. }) => {
                Some("set it, or leave [database] url and DATABASE_URL out to use the embedded server".into())
            }
            (None, Self::NoDatabase { .. }) => Some(
                "set DATABASE_URL, go to the folder of the node, or make one here with `singularity start` or \
                 `singularity migrate up`"
                    .into(),
            ),
            (None, Self::Models(_)) => Some("see `singularity config check`".into()),
            (None, _) => None,
        }
    }
}
