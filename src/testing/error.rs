//! What a testing helper says when a test is to fail.

use std::fmt;

use crate::error::Coded;
use crate::queue::QueueError;
use crate::supervision::StartError;

/// Why a helper did not do as the test wanted. `unwrap` shows the text, not the structure.
#[derive(thiserror::Error)]
pub enum TestingError {
    /// A job that cannot be inserted, arguments that do not fit, or the database.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A job of another worker than the one that is to perform it.
    #[error("the job is for worker {job}, not for {worker}")]
    Worker {
        /// The job's.
        job: String,
        /// The one that was to perform it.
        worker: &'static str,
    },
    /// An outcome that would not be stored as it is.
    #[error("worker {worker} came to an outcome that cannot be stored as it is: {reason}")]
    Outcome {
        /// The worker.
        worker: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A job failed where failures are errors.
    #[error("job {id} of worker {worker} failed: {error}")]
    Failed {
        /// The job.
        id: i64,
        /// Its worker.
        worker: String,
        /// The text that was recorded.
        error: String,
    },
    /// Jobs are not as they were said to be.
    #[error("{0}")]
    Assertion(String),
    /// What executes jobs did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl fmt::Debug for TestingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.code())
    }
}

impl Coded for TestingError {
    fn code(&self) -> &'static str {
        match self {
            Self::Queue(error) => error.code(),
            Self::Worker { .. } => "E0451",
            Self::Outcome { .. } => "E0452",
            Self::Failed { .. } => "E0453",
            Self::Assertion(_) => "E0454",
            Self::Start(error) => error.code(),
        }
    }
}
