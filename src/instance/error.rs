//! Errors of the instance layer.

use crate::error::Coded;
use crate::postgres::DbError;

/// What can go wrong with an instance's identity and presence.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Not usable as a name.
    #[error("instance id {0:?} is not allowed; it has 1 to 63 visible ASCII characters without spaces")]
    BadId(String),
    /// Another live process has this name.
    #[error("instance id {instance_id:?} is in use by process {pid} on {hostname}, last heartbeat {age_ms} ms ago")]
    InUse {
        /// The name.
        instance_id: String,
        /// Its host.
        hostname: String,
        /// Its process.
        pid: String,
        /// Age of its heartbeat.
        age_ms: i64,
    },
    /// Nobody of this name, or it is not online.
    #[error("instance {instance_id:?} is {status}")]
    NotOnline {
        /// The name.
        instance_id: String,
        /// Its status, or `unknown`.
        status: String,
    },
    /// The instance did not answer.
    #[error("instance {instance_id:?} did not answer within {limit_ms} ms")]
    NoAnswer {
        /// The name.
        instance_id: String,
        /// How long it was waited for.
        limit_ms: u128,
    },
    /// The instance took the request and did not answer yet.
    #[error("instance {instance_id:?} has not finished after {limit_ms} ms; it goes on")]
    Unfinished {
        /// The name.
        instance_id: String,
        /// How long it was waited for.
        limit_ms: u128,
    },
    /// The database said no, or nothing.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<sqlx::Error> for InstanceError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(DbError::from(error))
    }
}

impl InstanceError {
    /// Code of [`Self::NoAnswer`], and of answers that tell nothing.
    pub const NO_ANSWER: &str = "E0704";

    /// Whether the database is away, so that the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Db(error) if error.is_unavailable())
    }
}

impl Coded for InstanceError {
    fn code(&self) -> &'static str {
        match self {
            Self::BadId(_) => "E0701",
            Self::InUse { .. } => "E0702",
            Self::NotOnline { .. } => "E0703",
            Self::NoAnswer { .. } => Self::NO_ANSWER,
            Self::Unfinished { .. } => "E0705",
            Self::Db(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::BadId(_) => Some("choose another id with --instance-id or INSTANCE_ID".into()),
            Self::InUse { .. } => {
                Some("stop that process, or choose another id with --instance-id or INSTANCE_ID".into())
            }
            Self::NotOnline { .. } => Some("see `singularity instance list`".into()),
            Self::NoAnswer { .. } => Some("see `singularity instance list` for its last heartbeat, and its log".into()),
            Self::Unfinished { .. } => Some("see `singularity tree` for what it does now, and `tree events`".into()),
            Self::Db(error) => error.hint(),
        }
    }
}
