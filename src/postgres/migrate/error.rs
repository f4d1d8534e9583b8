//! Why a schema was not brought up to date.

use super::{OBAN_VERSION, VERSION};
use crate::error::Coded;
use crate::postgres::{DbError, pgmq};

/// An error of migrations, or of the installation of pgmq.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// Oban's comment names a version above ours, or `∞`, which means "managed by somebody else".
    #[error(
        "oban_jobs in schema \"{schema}\" is at version {found}, and this program knows versions up to {OBAN_VERSION}"
    )]
    NewerOban {
        /// Schema of the table.
        schema: String,
        /// The comment.
        found: String,
    },
    /// Oban's comment is no version.
    #[error("the comment on oban_jobs in schema \"{schema}\" is \"{found}\", which is no version number")]
    UnreadableOban {
        /// Schema of the table.
        schema: String,
        /// The comment, cut to 100 characters.
        found: String,
    },
    /// The table lacks columns that Oban has had since its version 9.
    #[error("oban_jobs in schema \"{schema}\" is older than version 9: it has no {}", missing.join(", "))]
    TooOldOban {
        /// Schema of the table.
        schema: String,
        /// Names of the columns.
        missing: Vec<String>,
    },
    /// A newer release of this program was here.
    #[error("schema \"{schema}\" is at migration {found}, and this program knows migrations up to {VERSION}")]
    NewerSchema {
        /// Schema of the tables.
        schema: String,
        /// Highest recorded migration.
        found: i32,
    },
    /// The tables are those of an older release, or none.
    #[error("{}", pending(schema, *missing))]
    Pending {
        /// Schema of the tables.
        schema: String,
        /// Migrations that were not applied.
        missing: usize,
    },
    /// One migration failed; what it did was undone, and those before it stay.
    #[error("migration {version} ({name}) failed: {error}")]
    Failed {
        /// Its number.
        version: i32,
        /// Its name.
        name: &'static str,
        /// Why.
        error: DbError,
    },
    /// pgmq is there as an extension and too old.
    #[error("extension pgmq is at version {version}, and 1.11 or newer is needed")]
    OldPgmqExtension {
        /// Version as PostgreSQL tells it.
        version: String,
    },
    /// pgmq was installed from plain SQL by somebody else and has no topics.
    #[error("schema pgmq was installed from SQL that is older than 1.11 and has no record of its version")]
    OldPgmqSql,
    /// pgmq could not be installed; nothing of it stays.
    #[error("pgmq could not be installed: {reason}")]
    PgmqInstall {
        /// What the server or the installer said.
        reason: String,
        /// True when the user of the URL lacks a privilege.
        forbidden: bool,
    },
    /// A step of a switch of index profiles; those before it stay.
    #[error("index {name} was not built or dropped: {error}")]
    Index {
        /// The index.
        name: &'static str,
        /// Why.
        error: DbError,
    },
    /// Somebody else switches index profiles at this moment.
    #[error("the indexes of oban_jobs in schema \"{schema}\" are being switched by somebody else")]
    IndexBusy {
        /// Schema of the table.
        schema: String,
    },
    /// The database, before or between migrations.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl MigrateError {
    /// True when waiting may help.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(error) | Self::Failed { error, .. } | Self::Index { error, .. } => error.is_unavailable(),
            _ => false,
        }
    }
}

fn pending(schema: &str, missing: usize) -> String {
    if missing == super::MIGRATIONS.len() {
        format!("schema \"{schema}\" of this database has no tables of this program")
    } else {
        format!("the tables in schema \"{schema}\" are of an older release: {missing} migrations are pending")
    }
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Coded for MigrateError {
    fn code(&self) -> &'static str {
        match self {
            Self::NewerOban { .. } => "E0301",
            Self::UnreadableOban { .. } => "E0302",
            Self::TooOldOban { .. } => "E0303",
            Self::NewerSchema { .. } => "E0304",
            Self::Failed { .. } => "E0305",
            Self::OldPgmqExtension { .. } => "E0306",
            Self::OldPgmqSql => "E0307",
            Self::PgmqInstall { .. } => "E0308",
            Self::Index { .. } => "E0309",
            Self::IndexBusy { .. } => "E0310",
            Self::Pending { .. } => "E0311",
            Self::Database(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NewerOban { .. } => "use a release of this program that knows it, or another schema".into(),
            Self::UnreadableOban { schema, .. } => format!(
                "if the table is Oban's, write its true version with COMMENT ON TABLE \"{schema}\".oban_jobs IS '…'; else use \
                 another schema"
            ),
            Self::TooOldOban { .. } => {
                "run Oban's own migrations up to version 14 first, or use another schema".to_owned()
            }
            Self::NewerSchema { .. } => "start the newer release, or use another schema".into(),
            Self::Failed { error, .. } => {
                return error
                    .hint()
                    .or_else(|| Some("see the server's log; the failed migration left nothing behind".into()));
            }
            Self::OldPgmqExtension { .. } => "run ALTER EXTENSION pgmq UPDATE".into(),
            Self::OldPgmqSql => {
                "upgrade it the way it was installed, or drop schema pgmq if its queues are not needed".into()
            }
            Self::PgmqInstall { forbidden: true, .. } => {
                let [schema, tables] = pgmq::grants("the user");
                format!(
                    "grant the user CREATE on the database, or let an administrator run `singularity migrate up` once, and then \
                     {schema}; {tables}"
                )
            }
            Self::PgmqInstall { .. } => "see the server's log; nothing was changed".into(),
            Self::Index { .. } => {
                "end transactions that have been open for long, then run the same command again; it goes on where \
                                   it stopped"
                    .into()
            }
            Self::Pending { .. } => {
                "run `singularity migrate up`, or start a node of this release there; if that is the \
                                     wrong database, see DATABASE_URL and [database]"
                    .into()
            }
            Self::IndexBusy { .. } => "wait for it, and look at `singularity migrate status`".into(),
            Self::Database(error) => return error.hint(),
        })
    }
}
