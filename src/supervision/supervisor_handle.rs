//! Requests to a static supervisor while it runs.

use std::fmt;
use std::sync::Arc;

use super::child::ChildSpec;
use super::child_ref::{ChildCounts, ChildRef};
use super::core::{AutoShutdown, ChildId, RequestError};
use super::error::{ChildError, StartChildError, StartError};
use super::link::Link;
use super::supervisor_actor::{Command, Refusal};

/// Reaches a static supervisor; given to [`SupervisorSpec::handle`](super::SupervisorSpec::handle) before it starts,
/// and survives its restarts. Children added by request do not survive them. Cheap to clone.
///
/// A supervisor answers between its own undertakings, so a request may wait for as long as children take to stop.
/// Asking the own supervisor from `init` or `stopped` waits forever.
///
/// Cancel safety: dropping a request's future gives up the answer; the request may still be carried out.
#[derive(Clone)]
pub struct SupervisorHandle {
    pub(super) link: Arc<Link<Command>>,
}

impl SupervisorHandle {
    /// A handle that reaches nobody yet.
    pub fn new() -> Self {
        Self { link: Arc::new(Link::new()) }
    }

    /// Adds a child at the end and starts it.
    ///
    /// Errors: `AlreadyStarted`, `AlreadyPresent`, `Start` (nothing is recorded), `Ignored` (recorded unless
    /// temporary), `InvalidSpec`, `NoProc`, `Busy`.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<ChildRef, StartChildError> {
        spec.rules.validate(AutoShutdown::AnySignificant)?;
        match self.link.ask(|asker| Command::StartChild(Box::new(spec), asker)).await? {
            Ok(Some(child)) => Ok(child),
            Ok(None) => Err(StartChildError::Ignored),
            Err(refusal) => Err(match refusal.error {
                RequestError::AlreadyStarted => StartChildError::AlreadyStarted,
                RequestError::Start => StartChildError::Start(refusal.start.unwrap_or(StartError::ShuttingDown)),
                _ => StartChildError::AlreadyPresent,
            }),
        }
    }

    /// Stops a child, or cancels its pending restart; its spec stays, unless it is temporary. Fine for a child that is
    /// not running.
    ///
    /// Errors: `NotFound`, `Zombie`, `NoProc`, `Busy`.
    pub async fn terminate_child(&self, id: impl Into<ChildId>) -> Result<(), ChildError> {
        let id = id.into();
        let answer = self.link.ask(|asker| Command::TerminateChild(id, asker)).await?;
        answer.map(drop).map_err(ChildError::from)
    }

    /// Starts a child that is down. `None` when it chose not to run.
    ///
    /// Errors: `NotFound`, `Running`, `Restarting`, `Start` (it stays down), `Zombie`, `NoProc`, `Busy`.
    pub async fn restart_child(&self, id: impl Into<ChildId>) -> Result<Option<ChildRef>, ChildError> {
        let id = id.into();
        self.link.ask(|asker| Command::RestartChild(id, asker)).await?.map_err(ChildError::from)
    }

    /// Forgets a child that is down.
    ///
    /// Errors: `NotFound`, `Running`, `Restarting`, `Zombie`, `NoProc`, `Busy`.
    pub async fn delete_child(&self, id: impl Into<ChildId>) -> Result<(), ChildError> {
        let id = id.into();
        let answer = self.link.ask(|asker| Command::DeleteChild(id, asker)).await?;
        answer.map(drop).map_err(ChildError::from)
    }

    /// How many children there are.
    ///
    /// Errors: `NoProc`, `Busy`.
    pub async fn count(&self) -> Result<ChildCounts, ChildError> {
        Ok(self.link.ask(Command::Count).await?)
    }
}

impl Default for SupervisorHandle {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SupervisorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SupervisorHandle")
    }
}

impl From<Refusal> for ChildError {
    fn from(refusal: Refusal) -> Self {
        match refusal.error {
            RequestError::NotFound => Self::NotFound,
            RequestError::Restarting => Self::Restarting,
            RequestError::Zombie => Self::Zombie,
            RequestError::Start => Self::Start(refusal.start.unwrap_or(StartError::ShuttingDown)),
            RequestError::Running | RequestError::AlreadyStarted | RequestError::AlreadyPresent => Self::Running,
        }
    }
}
