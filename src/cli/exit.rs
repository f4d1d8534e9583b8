//! Exit codes, and the one form in which a command fails.

use std::fmt;

use crate::config::ConfigErrors;
use crate::error::Coded;
use crate::instance::InstanceError;
use crate::node::NodeError;
use crate::postgres::DbError;
use crate::postgres::migrate::MigrateError;
use crate::queue::QueueError;

/// What the process exits with when a command did not succeed; 0 is success. Documented in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// The operation failed, for example a job that was waited for was discarded.
    Failed = 1,
    /// Wrong arguments.
    Usage = 2,
    /// No such job, instance or queue.
    NotFound = 3,
    /// Refused in the present state.
    Conflict = 4,
    /// Took too long.
    TimedOut = 5,
    /// The database, or another service, is not available.
    Unavailable = 69,
    /// The root supervisor gave up.
    GaveUp = 70,
    /// The configuration is wrong.
    Config = 78,
    /// Interrupted.
    Interrupted = 130,
}

/// Text for `--help`.
pub(super) const EXIT_CODES: &str = "Exit codes:
  0    done
  1    the operation failed, or a job that was waited for did
  2    wrong arguments or input
  3    not found
  4    refused in the present state
  5    timed out
  69   the database is not available
  70   the supervision tree gave up
  78   the configuration is wrong
  130  interrupted";

/// A command that did not succeed: how the process exits, and what is said on stderr.
#[derive(Debug)]
pub(super) struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// `error[E0401]: text`, or nothing when everything was said already.
    pub message: Option<String>,
    /// One line after "try: ".
    pub hint: Option<String>,
}

impl Failure {
    /// Everything was said already.
    pub(super) fn silent(exit: Exit) -> Self {
        Self { exit, message: None, hint: None }
    }

    /// A failure with a text of the command's own.
    pub(super) fn new(exit: Exit, code: &str, text: impl fmt::Display) -> Self {
        Self { exit, message: Some(format!("error[{code}]: {text}")), hint: None }
    }

    /// The code and the text of the message, where there is one.
    pub(super) fn parts(&self) -> (Option<&str>, &str) {
        let message = self.message.as_deref().unwrap_or_default();
        let coded = message.strip_prefix("error[").and_then(|rest| rest.split_once("]: "));
        coded.map_or((None, message), |(code, text)| (Some(code), text))
    }

    /// Adds what to try.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Several failures as one, with exit code and hint of the first.
    pub(super) fn all(failures: Vec<Self>) -> Option<Self> {
        failures.into_iter().reduce(|mut all, next| {
            let messages = [all.message.take(), next.message].into_iter().flatten().collect::<Vec<_>>();
            all.message = Some(messages.join("\n"));
            all
        })
    }

    /// A failure from any error of the crate.
    pub(super) fn coded(exit: Exit, error: &(impl Coded + ?Sized)) -> Self {
        Self { exit, message: Some(format!("error[{}]: {error}", error.code())), hint: error.hint() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or_default())?;
        self.hint.iter().try_for_each(|hint| write!(f, "\ntry: {hint}"))
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        // Already one block a problem, each with its code and suggestion.
        Self { exit: Exit::Config, message: Some(errors.to_string()), hint: None }
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        let exit = match &error {
            QueueError::Invalid { .. }
            | QueueError::TooMany { .. }
            | QueueError::Unique { .. }
            | QueueError::Args { .. } => Exit::Usage,
            QueueError::UniqueUnguarded { .. } | QueueError::Inline { .. } | QueueError::Unreadable { .. } => {
                Exit::Failed
            }
            QueueError::Cron(_) => Exit::Config,
            QueueError::Db(error) => of_database(error),
        };
        Self::coded(exit, &error)
    }
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self::coded(of_database(&error), &error)
    }
}

impl From<InstanceError> for Failure {
    fn from(error: InstanceError) -> Self {
        Self::coded(of_instance(&error), &error)
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let exit = match &error {
            NodeError::Db(error) => of_database(error),
            NodeError::Instance(error) => of_instance(error),
            #[cfg(feature = "embedded-postgres")]
            NodeError::Embedded(_) => Exit::Unavailable,
            NodeError::Config(_) | NodeError::DatabaseUrl { .. } | NodeError::Models(_) | NodeError::Queue(_) => {
                Exit::Config
            }
            NodeError::Migrate(MigrateError::Pending { .. }) => Exit::Conflict,
            NodeError::NoDatabase { .. } => Exit::Unavailable,
            NodeError::Migrate(_) | NodeError::JobThreads(_) => Exit::Failed,
            NodeError::Start(_) | NodeError::Interrupted(_) => Exit::GaveUp,
        };
        Self::coded(exit, &error)
    }
}

fn of_database(error: &DbError) -> Exit {
    match error {
        DbError::InvalidUrl { .. } | DbError::InvalidSchema { .. } => Exit::Config,
        DbError::Unavailable { .. } | DbError::Refused { .. } | DbError::UnsupportedServer { .. } => Exit::Unavailable,
        DbError::Statement { .. } | DbError::Closed | DbError::Stopped { .. } | DbError::Payload { .. } => Exit::Failed,
    }
}

fn of_instance(error: &InstanceError) -> Exit {
    match error {
        InstanceError::BadId(_) => Exit::Usage,
        InstanceError::InUse { .. } | InstanceError::NotOnline { .. } => Exit::Conflict,
        InstanceError::NoAnswer { .. } | InstanceError::Unfinished { .. } => Exit::TimedOut,
        InstanceError::Db(error) => of_database(error),
    }
}
