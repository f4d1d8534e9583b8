//! Errors of the queue layer.

use super::job::Job;
use crate::error::Coded;
use crate::postgres::DbError;

/// What can go wrong with jobs and queues.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// A job breaks a rule.
    #[error("{field} is {value:?}; allowed is {allowed}")]
    Invalid {
        /// Column name.
        field: &'static str,
        /// What was given, cut at 200 characters.
        value: String,
        /// The rule.
        allowed: &'static str,
    },
    /// More jobs in one call than [`super::engine::INSERT_BATCH_MAX`].
    #[error("{count} jobs in one call; allowed are at most {max}")]
    TooMany {
        /// Jobs given.
        count: usize,
        /// Limit.
        max: usize,
    },
    /// Options of a unique job break a rule.
    #[error("unique: invalid option, \"{reason}\"")]
    Unique {
        /// Oban's text.
        reason: String,
    },
    /// Unique jobs on a connection where nothing keeps others from inserting the same.
    #[error("unique jobs cannot be inserted {place}")]
    UniqueUnguarded {
        /// Where, in words.
        place: &'static str,
        /// What to do about it.
        way_out: &'static str,
    },
    /// Arguments that do not fit their worker, or have no JSON form.
    #[error("arguments of worker {worker}: {reason}")]
    Args {
        /// The worker.
        worker: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A job whose row holds what cannot be read.
    #[error("job {id}: {reason}")]
    Unreadable {
        /// The job.
        id: i64,
        /// What cannot be read, and why.
        reason: String,
    },
    /// A job that was performed where it was enqueued, and failed.
    #[error("worker {worker} failed inline: {error}")]
    Inline {
        /// The worker.
        worker: String,
        /// Its error.
        error: String,
    },
    /// A periodic job's expression or zone.
    #[error(transparent)]
    Cron(#[from] crate::cron::CronError),
    /// The database said no, or nothing.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<sqlx::Error> for QueueError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(DbError::from(error))
    }
}

impl QueueError {
    /// What is said of `job` where its row holds what cannot be read.
    pub(super) fn unreadable(job: &Job) -> Option<Self> {
        job.unreadable.clone().map(|reason| Self::Unreadable { id: job.id, reason })
    }

    /// Whether the same call may succeed a moment later, see [`DbError::is_transient`].
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_transient())
    }

    /// Whether the server has answered, so that what it was asked for is known not to have happened.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Db(error) if error.sqlstate().is_some() && !error.is_unavailable())
    }

    /// Whether the database is away, so that the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_unavailable())
    }
}

impl Coded for QueueError {
    fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "E0401",
            Self::TooMany { .. } => "E0402",
            Self::Unique { .. } => "E0403",
            Self::UniqueUnguarded { .. } => "E0404",
            Self::Args { .. } => "E0441",
            Self::Inline { .. } => "E0442",
            Self::Unreadable { .. } => "E0443",
            Self::Cron(error) => error.code(),
            Self::Db(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid { field, .. } => Some(format!("change {field}")),
            Self::TooMany { max, .. } => Some(format!("insert in batches of at most {max}")),
            Self::Unique { .. } => Some("change the options of unique".into()),
            Self::UniqueUnguarded { way_out, .. } => Some((*way_out).into()),
            Self::Args { .. } => Some("compare them with the type `Args` of the worker".into()),
            Self::Unreadable { id, .. } => {
                Some(format!("correct the row with SQL, or delete it with `singularity job delete {id}`"))
            }
            Self::Inline { .. } => None,
            Self::Cron(error) => error.hint(),
            Self::Db(error) => error.hint(),
        }
    }
}
