//! What can go wrong when actors are started, asked and addressed. Names are OTP's where OTP has the case.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::core::{ChildId, CrashInfo, ErrorInfo, ExitReason, SpecError};
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
    /// This system already runs a root supervisor.
    #[error("system \"{0}\" already runs a root supervisor; stop it first")]
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
    /// The start failed; nothing was recorded.
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
    /// The child was killed but does not end, because its code never reaches an await point.
    #[error("the child was killed but does not end")]
    Zombie,
    /// The start failed; the child stays down.
    #[error("the child did not start: {0}")]
    Start(#[from] StartError),
    /// The value is out of range.
    #[error("max_children {0} is too large; at most {max} are allowed", max = super::CHILDREN_MAX)]
    MaxChildrenLimit(usize),
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
            Self::Start(error) => error.code(),
            Self::MaxChildrenLimit(_) => "E0918",
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
