//! What can go wrong when actors are started, asked and addressed. Names are OTP's where OTP has the case.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::core::{ChildId, CrashInfo, ErrorInfo, ExitReason, Path, SpecError};
use super::operate::Operation;
use crate::error::Coded;

/// Why an actor or a supervisor did not start.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StartError {
    /// The specification is wrong; nothing was started.
    #[error("invalid supervisor specification: {0}")]
    InvalidSpec(#[from] SpecError),
    /// A child did not start; those started before it were stopped again, in reverse order.
    #[error("child \"{id}\" failed to start: {source}")]
    Child {
        /// The child.
        id: ChildId,
        /// Why.
        #[source]
        source: Box<StartError>,
    },
    /// `init` returned an error.
    #[error("{0}")]
    Init(ErrorInfo),
    /// `init`, or the function that starts the child, panicked.
    #[error("panic during start: {}", .0.text)]
    Panic(Box<CrashInfo>),
    /// It took longer than its `start_timeout` and was dropped.
    #[error("did not start within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Its supervisor is ending.
    #[error("its supervisor is shutting down")]
    ShuttingDown,
    /// It was killed before it was ready.
    #[error("killed during start")]
    Killed,
    /// Another running child of this system is registered under the name.
    #[error("the name \"{name}\" is already registered by {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        holder: Path,
    },
    /// The system has [`NAMES_MAX`](super::NAMES_MAX) names already.
    #[error("the name \"{0}\" cannot be registered: the system has {max} names already", max = super::NAMES_MAX)]
    TooManyNames(String),
    /// This system already runs a root supervisor, or code is left of an earlier one that does not end.
    #[error(
        "system \"{0}\" already runs a root supervisor, or something of an earlier one does not end; stop it first"
    )]
    AlreadyRunning(String),
}

/// Why [`DynamicHandle::start_child`](super::DynamicHandle::start_child) did not start a child.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StartChildError {
    /// All places are occupied; restarting children count.
    #[error("all {0} places for children are occupied")]
    MaxChildren(usize),
    /// The supervisor does not run now.
    #[error("the supervisor is not running")]
    NoProc,
    /// More than [`REQUESTS_MAX`](super::REQUESTS_MAX) requests already wait.
    #[error("too many requests wait for the supervisor")]
    Busy,
    /// A running child has this id (static supervisors only).
    #[error("a child with this id is already running")]
    AlreadyStarted,
    /// A child with this id is known but not running (static supervisors only).
    #[error("a child with this id is already present, though not running")]
    AlreadyPresent,
    /// The child chose not to run ([`Started::Ignore`](super::Started::Ignore)); a dynamic supervisor forgets it.
    #[error("the child chose not to run")]
    Ignored,
    /// The start failed; nothing was recorded. Where something of it still lives and the child is to be held, its id
    /// and place are kept until that is gone.
    #[error("the child did not start: {0}")]
    Start(#[from] StartError),
    /// The specification is wrong.
    #[error("invalid child specification: {0}")]
    InvalidSpec(#[from] SpecError),
}

/// Why a request about a child was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChildError {
    /// No such child.
    #[error("no such child")]
    NotFound,
    /// The supervisor does not run now.
    #[error("the supervisor is not running")]
    NoProc,
    /// More than [`REQUESTS_MAX`](super::REQUESTS_MAX) requests already wait.
    #[error("too many requests wait for the supervisor")]
    Busy,
    /// The child is running.
    #[error("the child is running")]
    Running,
    /// The child is waiting to be restarted.
    #[error("the child is being restarted")]
    Restarting,
    /// A temporary child cannot be started a second time.
    #[error("the child is temporary; it cannot be started a second time")]
    Temporary,
    /// The supervisor did not end in time; it still may.
    #[error("the supervisor did not end in time")]
    Timeout,
    /// The changed specification is wrong; nothing was changed.
    #[error("invalid supervisor specification: {0}")]
    InvalidSpec(#[from] SpecError),
    /// The child was killed but does not end, because its code never reaches an await point; or one does that is
    /// restarted with it. A restart goes on by itself when it is gone.
    #[error("the child, or one that is restarted with it, was killed but does not end")]
    Zombie,
    /// The start failed. After `restart_child` the child stays down; after `cycle_child` the start is tried again by
    /// the supervisor's rules, and those attempts count.
    #[error("the child did not start: {0}")]
    Start(#[from] StartError),
    /// A partition supervisor has at most as many partitions as at its start.
    #[error("{wanted} partitions are too many; the supervisor was started with {initial}")]
    Partitions {
        /// What was asked for.
        wanted: usize,
        /// How many there were at the start.
        initial: usize,
    },
    /// The value is out of range.
    #[error("max_children {0} is too large; at most {max} are allowed", max = super::CHILDREN_MAX)]
    MaxChildrenLimit(usize),
}

/// Why an operator's order was refused or failed; see [`System::operate`](super::System::operate).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OperateError {
    /// No such node in the tree.
    #[error("there is no actor at {0}")]
    NotFound(String),
    /// Several children of a dynamic supervisor have this id.
    #[error("{1} actors are at {0}; an order must name one")]
    Ambiguous(String, usize),
    /// The root can only be stopped with its program.
    #[error("cannot {0} the root of the tree")]
    Root(Operation),
    /// The child, or one below it, is protected.
    #[error("cannot {operation} {path}: {reason}")]
    Protected {
        /// What was ordered.
        operation: Operation,
        /// Which child is protected.
        path: Path,
        /// Why.
        reason: String,
    },
    /// The restart would end the actor that carries it out.
    #[error("cannot restart {path}: that restarts {carrier} too, which carries out this request")]
    CarriesRequests {
        /// What was to be restarted.
        path: String,
        /// Who carries out requests.
        carrier: Path,
    },
    /// Supervisors take no messages of ours.
    #[error("{0} is a supervisor; only workers can be suspended and resumed")]
    Supervisor(String),
    /// The child does not run.
    #[error("the actor at {0} does not run now")]
    Down(String),
    /// The actor was busy for too long; it obeys when it is done with what it does.
    #[error("the actor at {0} did not obey in time; it does once it has handled what waits")]
    TimedOut(String),
    /// The supervisor refused, or could not do it.
    #[error("{0}")]
    Child(#[from] ChildError),
    /// There is no such operation.
    #[error("unknown operation \"{0}\"; known are restart, terminate, suspend and resume")]
    UnknownOperation(String),
}

/// Why a message was not delivered; gives it back.
pub enum CastError<M> {
    /// As many messages wait as the address allows.
    Full(M),
    /// No incarnation of the actor runs now.
    Down(M),
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// As many messages wait as the address allows; the request was not sent.
    #[error("the actor's mailbox is full")]
    Full,
    /// No incarnation of the actor runs now; the request was not sent.
    #[error("the actor is not running")]
    Down,
    /// The actor ended, or dropped the request, without an answer.
    #[error("the actor dropped the request without an answer")]
    Dropped,
    /// No answer in time. The request may still be handled.
    #[error("the actor did not answer in time")]
    Timeout,
}

impl<M> CastError<M> {
    /// The message that was not delivered.
    pub fn into_inner(self) -> M {
        match self {
            Self::Full(message) | Self::Down(message) => message,
        }
    }
}

impl<M> From<CastError<M>> for CallError {
    fn from(error: CastError<M>) -> Self {
        match error {
            CastError::Full(_) => Self::Full,
            CastError::Down(_) => Self::Down,
        }
    }
}

impl<M> fmt::Debug for CastError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Down(_) => "Down(..)",
        })
    }
}

impl<M> fmt::Display for CastError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the actor's mailbox is full",
            Self::Down(_) => "the actor is not running",
        })
    }
}

impl<M> std::error::Error for CastError<M> {}

impl StartError {
    /// The same as the reason of a life that never began.
    pub fn to_exit(&self) -> ExitReason {
        match self {
            Self::Panic(crash) => ExitReason::Panic(crash.clone()),
            other => ExitReason::StartFailed(other.to_string()),
        }
    }
}

// Codes that several of these errors share, because they mean the same.
const INVALID_SPEC: &str = "E0901";
const NO_PROC: &str = "E0911";
const BUSY: &str = "E0912";
const RUNS_ALREADY: &str = "E0913";
const FULL: &str = "E0920";
const DOWN: &str = "E0921";

impl Coded for StartError {
    fn code(&self) -> &'static str {
        match self {
            Self::InvalidSpec(_) => INVALID_SPEC,
            Self::Child { source, .. } => source.code(),
            // The code of what really went wrong, when that had one.
            Self::Init(ErrorInfo { code: Some(Cow::Borrowed(code)), .. }) => code,
            Self::Init(_) => "E0902",
            Self::Panic(_) => "E0903",
            Self::Timeout(_) => "E0904",
            Self::ShuttingDown => "E0905",
            Self::Killed => "E0906",
            Self::AlreadyRunning(_) => "E0907",
            Self::NameTaken { .. } => "E0908",
            Self::TooManyNames(_) => "E0909",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Child { source, .. } => source.hint(),
            Self::Init(error) => error.hint.clone(),
            Self::Timeout(_) => Some("raise start_timeout, or do slow work after init".into()),
            _ => None,
        }
    }
}

impl Coded for StartChildError {
    fn code(&self) -> &'static str {
        match self {
            Self::MaxChildren(_) => "E0910",
            Self::NoProc => NO_PROC,
            Self::Busy => BUSY,
            Self::AlreadyStarted => RUNS_ALREADY,
            Self::AlreadyPresent => "E0914",
            Self::Ignored => "E0919",
            Self::Start(error) => error.code(),
            Self::InvalidSpec(_) => INVALID_SPEC,
        }
    }
}

impl Coded for ChildError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "E0915",
            Self::NoProc => NO_PROC,
            Self::Busy => BUSY,
            Self::Running => RUNS_ALREADY,
            Self::Restarting => "E0916",
            Self::Zombie => "E0917",
            Self::Temporary => "E0924",
            Self::Timeout => "E0925",
            Self::Partitions { .. } => "E0926",
            Self::InvalidSpec(_) => INVALID_SPEC,
            Self::Start(error) => error.code(),
            Self::MaxChildrenLimit(_) => "E0918",
        }
    }
}

impl Coded for OperateError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "E0930",
            Self::Ambiguous(..) => "E0931",
            Self::Root(_) => "E0932",
            Self::Protected { .. } => "E0933",
            Self::CarriesRequests { .. } => "E0934",
            Self::Supervisor(_) => "E0935",
            Self::Down(_) => "E0936",
            Self::TimedOut(_) => "E0937",
            Self::Child(error) => error.code(),
            Self::UnknownOperation(_) => "E0938",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound(_) | Self::Ambiguous(..) => Some("see the tree for the paths of its actors".into()),
            Self::Root(_) => Some("stop the program and start it again".into()),
            Self::Supervisor(_) => Some("name one of its workers".into()),
            Self::CarriesRequests { .. } => Some("restart a smaller part of the tree, or the program".into()),
            _ => None,
        }
    }
}

impl Coded for CallError {
    fn code(&self) -> &'static str {
        match self {
            Self::Full => FULL,
            Self::Down => DOWN,
            Self::Dropped => "E0922",
            Self::Timeout => "E0923",
        }
    }
}

impl<M> Coded for CastError<M> {
    fn code(&self) -> &'static str {
        match self {
            Self::Full(_) => FULL,
            Self::Down(_) => DOWN,
        }
    }
}
