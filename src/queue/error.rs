//! Errors of the queue layer.

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
            Self::Db(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid { field, .. } => Some(format!("change {field}")),
            Self::TooMany { max, .. } => Some(format!("insert in batches of at most {max}")),
            Self::Db(error) => error.hint(),
        }
    }
}
