//! Child specifications: how a supervisor starts a child, and what it does when it ends.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::ActorCell;

use super::core::{
    Backoff, ChildId, ChildKind, ChildRules, ExitReason, Incarnation, OnZombie, Path, Restart, Shutdown,
};
use super::error::StartError;
use super::life::{ActorHandle, Life};
use super::tree::NodeKind;
use super::{Actor, ActorError, Address, Probe, SupervisorSpec, System, supervised, supervisor_actor};

/// OTP's default shutdown time of workers.
pub const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(5);

/// Starts one incarnation of a child. Called anew for each: it owns only configuration and must not carry state from
/// one incarnation to the next.
///
/// When it fails, panics, takes longer than the child's start timeout or chooses not to run, an actor that it had
/// started before is killed first.
pub type StartFn = Arc<dyn Fn(StartCtx) -> BoxFuture<'static, Result<Started, StartError>> + Send + Sync>;

/// How to start one child and what to do when it ends. Defaults are OTP's: permanent, 5 s shutdown for workers,
/// infinity for supervisors; no start timeout and no backoff.
#[derive(Clone)]
pub struct ChildSpec {
    pub(super) given: Arc<Given>,
    /// Gone once a temporary child has been started: what it holds is let go (S39, S75).
    pub(super) start: Option<StartFn>,
    on_zombie_set: bool,
}

/// What a spec says besides how to start the child; shared with its probe.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) rules: ChildRules,
    pub(super) node_kind: NodeKind,
    pub(super) start_timeout: Option<Duration>,
    /// How long the code of a task may take.
    pub(super) time_limit: Option<Duration>,
    pub(super) labels: BTreeMap<String, String>,
    /// Name in the registry of its system.
    pub(super) name: Option<Arc<str>>,
    /// Why operators may neither terminate nor suspend it.
    pub(super) protected: Option<Arc<str>>,
    /// Requests of operators are carried out by it, so none may restart it.
    pub(super) carries_requests: bool,
}

/// Why an incarnation is started.
#[derive(Clone, Debug, PartialEq)]
pub enum StartCause {
    /// For the first time under this supervisor.
    Initial,
    /// By the supervisor, after the previous incarnation ended so; `None` when it never ran.
    Restart(Option<ExitReason>),
    /// By request.
    Manual,
}

/// What a start function is given.
pub struct StartCtx {
    pub(super) system: System,
    /// Nothing for a root.
    pub(super) parent: Option<ActorCell>,
    pub(super) life: Arc<Life>,
    pub(super) cause: StartCause,
}

/// What a start function made.
#[derive(Debug)]
pub enum Started {
    /// A running actor, made by [`StartCtx::actor`].
    Actor(ActorRun),
    /// The child chose not to run now, OTP's `ignore`: a temporary or dynamic child is forgotten, any other stays
    /// known.
    Ignore,
}

/// A running actor that its supervisor takes over.
pub struct ActorRun {
    pub(super) handle: ActorHandle,
    pub(super) info: Option<Info>,
}

/// What a start function tells those who asked for the child, OTP's `{ok, Pid, Info}`.
pub(super) type Info = Arc<dyn Any + Send + Sync>;

impl ChildSpec {
    /// A child that `start` starts.
    pub fn new<F>(id: impl Into<ChildId>, start: F) -> Self
    where
        F: Fn(StartCtx) -> BoxFuture<'static, Result<Started, StartError>> + Send + Sync + 'static,
    {
        Self {
            given: Arc::new(Given {
                rules: ChildRules {
                    id: id.into(),
                    restart: Restart::Permanent,
                    shutdown: Shutdown::Timeout(SHUTDOWN_DEFAULT),
                    kind: ChildKind::Worker,
                    significant: false,
                    backoff: None,
                    on_zombie: OnZombie::Hold,
                },
                node_kind: NodeKind::Worker,
                start_timeout: None,
                time_limit: None,
                labels: BTreeMap::new(),
                name: None,
                protected: None,
                carries_requests: false,
            }),
            start: Some(Arc::new(start)),
            on_zombie_set: false,
        }
    }

    /// A supervisor whose specification `init` makes at each of its starts, OTP's `init/1`: `None` when it chooses not
    /// to run. Kind supervisor, shutdown infinity; the id inside the made specification is not used.
    pub fn supervisor(
        id: impl Into<ChildId>,
        init: impl Fn() -> Result<Option<SupervisorSpec>, ActorError> + Send + Sync + 'static,
    ) -> Self {
        let init = Arc::new(init);
        let child = Self::new(id, move |ctx| {
            let init = init.clone();
            Box::pin(async move {
                match init().map_err(|error| StartError::Init(error.info()))? {
                    Some(spec) => supervisor_actor::start_child(ctx, Arc::new(spec)).await,
                    None => Ok(Started::Ignore),
                }
            })
        });
        child.supervising(NodeKind::Supervisor)
    }

    /// An actor that listens on `address`; `args` is called for every incarnation.
    pub fn actor<A: Actor>(
        id: impl Into<ChildId>,
        address: &Address<A::Msg>,
        args: impl Fn() -> A::Args + Send + Sync + 'static,
    ) -> Self {
        let address = address.clone();
        Self::new(id, move |ctx| Box::pin(ctx.actor::<A>(&address, args())))
    }

    /// When it is started again. Default permanent.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.given_mut().rules.restart = restart;
        self
    }

    /// How it is stopped. Default 5 s for workers, infinity for supervisors.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.given_mut().rules.shutdown = shutdown;
        self
    }

    /// How long a start may take before it is dropped and counts as failed. Default: no limit. While an `init` does not
    /// await, neither this limit nor a kill acts, and its supervisor, in whose task it runs, does nothing else.
    #[must_use]
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.given_mut().start_timeout = Some(limit);
        self
    }

    /// Wait between restarts. Default: none, as in OTP.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.given_mut().rules.backoff = Some(backoff);
        self
    }

    /// Whether its end may end its supervisor; see [`AutoShutdown`](super::AutoShutdown). Default false.
    #[must_use]
    pub fn significant(mut self, significant: bool) -> Self {
        self.given_mut().rules.significant = significant;
        self
    }

    /// What happens when it is killed but does not end. Default: hold under static supervisors, replace under dynamic
    /// ones.
    #[must_use]
    pub fn on_zombie(mut self, policy: OnZombie) -> Self {
        self.given_mut().rules.on_zombie = policy;
        self.on_zombie_set = true;
        self
    }

    /// Shows `key: value` at this child in the tree.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.given_mut().labels.insert(key.into(), value.into());
        self
    }

    /// Registers what reaches it under `name` within its system for as long as it runs: its [`Address`], or the handle
    /// of a supervisor. See [`System::lookup`]. A start fails while another child has the name.
    #[must_use]
    pub fn registered(mut self, name: impl Into<Arc<str>>) -> Self {
        self.given_mut().name = Some(name.into());
        self
    }

    /// Refuses it, and every supervisor above it, to operators who want to terminate or suspend it; `reason` is what
    /// they are told. See [`System::operate`]. Default: allowed.
    #[must_use]
    pub fn protected(mut self, reason: impl Into<Arc<str>>) -> Self {
        self.given_mut().protected = Some(reason.into());
        self
    }

    /// Says that requests of operators are carried out by this child, so that none of them may restart it.
    #[must_use]
    pub fn carries_requests(mut self) -> Self {
        self.given_mut().carries_requests = true;
        self
    }

    /// The same child under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<ChildId>) -> Self {
        self.given_mut().rules.id = id.into();
        self
    }

    /// Its id.
    pub fn id(&self) -> &ChildId {
        &self.given.rules.id
    }

    /// What its supervisor goes by, defaults filled in; OTP's `get_childspec`.
    pub fn rules(&self) -> &ChildRules {
        &self.given.rules
    }

    pub(super) fn given_mut(&mut self) -> &mut Given {
        Arc::make_mut(&mut self.given)
    }

    /// What a root goes by: nobody restarts it, and its start is not asked for through a supervisor.
    pub(super) fn root(id: ChildId) -> Self {
        let child = Self::new(id, |_| Box::pin(async { Ok(Started::Ignore) }));
        child.restart(Restart::Temporary).supervising(NodeKind::Supervisor)
    }

    /// Makes it a supervisor: kind, and shutdown without limit.
    pub(super) fn supervising(mut self, kind: NodeKind) -> Self {
        let given = self.given_mut();
        given.rules.kind = ChildKind::Supervisor;
        given.rules.shutdown = Shutdown::Infinity;
        given.node_kind = kind;
        self
    }

    /// The spec as a dynamic supervisor takes it.
    pub(super) fn dynamic(mut self) -> Self {
        if !self.on_zombie_set && self.given.rules.on_zombie != OnZombie::Replace {
            self.given_mut().rules.on_zombie = OnZombie::Replace;
        }
        self
    }

    pub(super) fn probe(&self, parent: &Path) -> Arc<Probe> {
        Probe::new(parent.join(self.id()), self.given.clone())
    }
}

impl StartCtx {
    /// Starts an actor that listens on `address`; returns once its `init` did.
    pub fn actor<A: Actor>(
        self,
        address: &Address<A::Msg>,
        args: A::Args,
    ) -> impl Future<Output = Result<Started, StartError>> + Send + use<A> {
        supervised::start::<A>(self, address.clone(), args)
    }

    /// The child's place in the tree.
    pub fn path(&self) -> &Path {
        &self.life.probe.path
    }

    /// Which life this is.
    pub fn incarnation(&self) -> Incarnation {
        self.life.incarnation
    }

    /// Why it is started.
    pub fn cause(&self) -> &StartCause {
        &self.cause
    }

    /// Its probe, for labels.
    pub fn probe(&self) -> &Arc<Probe> {
        &self.life.probe
    }

    /// The system it belongs to.
    pub fn system(&self) -> &System {
        &self.system
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec").field("given", &self.given).finish_non_exhaustive()
    }
}

impl Started {
    /// Adds what those who asked for the child learn; see [`ChildRef::info`](super::ChildRef::info).
    #[must_use]
    pub fn with_info(self, info: impl Any + Send + Sync) -> Self {
        match self {
            Self::Actor(run) => Self::Actor(ActorRun { info: Some(Arc::new(info)), ..run }),
            Self::Ignore => Self::Ignore,
        }
    }
}

impl fmt::Debug for ActorRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorRun").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl fmt::Debug for StartCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartCtx").field("path", self.path()).field("cause", &self.cause).finish_non_exhaustive()
    }
}
