//! Requests to a static supervisor while it runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::child::ChildSpec;
use super::child_ref::{ChildCounts, ChildInfo, ChildRef};
use super::core::{AutoShutdown, ChildId, ExitReason, RequestError};
use super::error::{ChildError, StartChildError, StartError};
use super::link::Link;
use super::supervisor_actor::{Command, Refusal, Tree};
use super::{Probe, SupervisorSpec};

/// Reaches a static supervisor; given to [`SupervisorSpec::handle`](super::SupervisorSpec::handle) before it starts,
/// and survives its restarts. Children added by request do not survive them. Cheap to clone.
///
/// A supervisor answers between its own undertakings, so a request may wait for as long as children take to stop, or,
/// while it starts its first children, until the last of them is started; `NoProc` when that fails. Asking the own
/// supervisor from `init` or `stopped` waits forever.
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
    /// Errors: `AlreadyStarted`, `AlreadyPresent`, `Start` (nothing is recorded, but its id is kept
    /// as long as something of it lives and is to be held), `Ignored` (recorded unless
    /// temporary), `InvalidSpec`, `NoProc`, `Busy`.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<ChildRef, StartChildError> {
        // All that can be told here; whether it may be significant is for the running supervisor to say.
        spec.rules().validate(AutoShutdown::AnySignificant)?;
        match self.link.ask(|asker| Command::StartChild(spec, asker)).await? {
            Ok(Some(child)) => Ok(child),
            Ok(None) => Err(StartChildError::Ignored),
            Err(refusal) => Err(match refusal.error {
                RequestError::AlreadyStarted => StartChildError::AlreadyStarted,
                RequestError::Start => match refusal.start.unwrap_or(StartError::ShuttingDown) {
                    StartError::InvalidSpec(error) => StartChildError::InvalidSpec(error),
                    error => StartChildError::Start(error),
                },
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

    /// Stops a child in order, together with those that the strategy restarts with it, and starts them again. Counts as
    /// no failure; a start that fails is tried again by the supervisor's rules, and those attempts count. OTP has no
    /// such request.
    ///
    /// Errors: `NotFound`, `Temporary`, `Start`, `Zombie`, `NoProc`, `Busy`.
    pub async fn cycle_child(&self, id: impl Into<ChildId>) -> Result<Option<ChildRef>, ChildError> {
        let id = id.into();
        self.link.ask(|asker| Command::CycleChild(id, asker)).await?.map_err(ChildError::from)
    }

    /// All children, last started first.
    ///
    /// Errors: `NoProc`, `Busy`.
    pub async fn which_children(&self) -> Result<Vec<ChildInfo>, ChildError> {
        self.look(Tree::which).await
    }

    /// One child.
    ///
    /// Errors: `NotFound`, `NoProc`, `Busy`.
    pub async fn which_child(&self, id: impl Into<ChildId>) -> Result<ChildInfo, ChildError> {
        let id = id.into();
        self.look(move |tree| tree.which_one(&id)).await?.ok_or(ChildError::NotFound)
    }

    /// How a child is started and what happens when it ends.
    ///
    /// Errors: `NotFound`, `NoProc`, `Busy`.
    pub async fn get_childspec(&self, id: impl Into<ChildId>) -> Result<ChildSpec, ChildError> {
        let id = id.into();
        self.look(move |tree| tree.spec(&id)).await?.ok_or(ChildError::NotFound)
    }

    /// How many children there are.
    ///
    /// Errors: `NoProc`, `Busy`.
    pub async fn count_children(&self) -> Result<ChildCounts, ChildError> {
        self.look(Tree::count).await
    }

    /// Takes over a changed specification, OTP's `code_change`: strategy, intensity and auto-shutdown are replaced, and
    /// children are matched by id. Running children stay as they are and take new rules; new ones are known but not
    /// started (see [`restart_child`](Self::restart_child)); those no longer listed are kept. New children go to the
    /// end, whatever their place in the list. The supervisor's own next incarnation begins with the specification that
    /// it was started with, as any other.
    ///
    /// Errors: `InvalidSpec` (nothing is changed), `NoProc`, `Busy`.
    pub async fn update(&self, spec: SupervisorSpec) -> Result<SpecDiff, ChildError> {
        Ok(self.link.ask(|asker| Command::Update(Box::new(spec), asker)).await??)
    }

    /// Ends the supervisor in order for `reason` and waits for it, at most `timeout`; its own supervisor then goes by
    /// its restart type. A child that calls this waits for itself until the time-out.
    ///
    /// Errors: `NoProc`, `Busy`, `Timeout`.
    pub async fn stop(&self, reason: ExitReason, timeout: Option<Duration>) -> Result<(), ChildError> {
        self.link.stop(Command::Stop(reason), timeout).await
    }

    /// Whom an orderly restart of this child stops, itself included.
    pub(super) async fn affected(&self, id: ChildId) -> Result<Vec<Arc<Probe>>, ChildError> {
        self.look(move |tree| tree.affected(&id)).await
    }

    async fn look<R: Send + 'static>(&self, look: impl FnOnce(&Tree) -> R + Send + 'static) -> Result<R, ChildError> {
        let make = |asker: oneshot::Sender<R>| {
            // Whoever asked may have given up.
            Command::Look(Box::new(move |tree| drop(asker.send(look(tree)))))
        };
        Ok(self.link.ask(make).await?)
    }
}

/// What an [`update`](SupervisorHandle::update) changed, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecDiff {
    /// Known before, with other rules now.
    pub changed: Vec<ChildId>,
    /// Known before, with the same rules; how they are started may still have changed.
    pub same: Vec<ChildId>,
    /// New; known but not started.
    pub added: Vec<ChildId>,
    /// No longer listed, but kept.
    pub kept: Vec<ChildId>,
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
            RequestError::Temporary => Self::Temporary,
            RequestError::Start => Self::Start(refusal.start.unwrap_or(StartError::ShuttingDown)),
            RequestError::Running | RequestError::AlreadyStarted | RequestError::AlreadyPresent => Self::Running,
        }
    }
}
