//! Child specifications: how a supervisor starts a child, and what it does when it ends.

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
use super::{Actor, Address, Probe, System, supervised};

/// OTP's default shutdown time of workers.
pub const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(5);

/// Starts one incarnation of a child. Called anew for each: it owns only configuration and must not carry state from
/// one incarnation to the next.
pub type StartFn = Arc<dyn Fn(StartCtx) -> BoxFuture<'static, Result<Started, StartError>> + Send + Sync>;

/// How to start one child and what to do when it ends. Defaults are OTP's: permanent, 5 s shutdown for workers,
/// infinity for supervisors; no start timeout and no backoff.
#[derive(Clone)]
pub struct ChildSpec {
    pub(super) rules: ChildRules,
    /// Gone once a temporary child has been started: what it holds is let go (S39, S75).
    pub(super) start: Option<StartFn>,
    pub(super) start_timeout: Option<Duration>,
    pub(super) labels: Arc<BTreeMap<String, String>>,
    pub(super) node_kind: NodeKind,
    on_zombie_set: bool,
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
#[derive(Debug)]
pub struct ActorRun {
    pub(super) handle: ActorHandle,
}

impl ChildSpec {
    /// A child that `start` starts.
    pub fn new<F>(id: impl Into<ChildId>, start: F) -> Self
    where
        F: Fn(StartCtx) -> BoxFuture<'static, Result<Started, StartError>> + Send + Sync + 'static,
    {
        Self {
            rules: ChildRules {
                id: id.into(),
                restart: Restart::Permanent,
                shutdown: Shutdown::Timeout(SHUTDOWN_DEFAULT),
                kind: ChildKind::Worker,
                significant: false,
                backoff: None,
                on_zombie: OnZombie::Hold,
            },
            start: Some(Arc::new(start)),
            start_timeout: None,
            labels: Arc::default(),
            node_kind: NodeKind::Worker,
            on_zombie_set: false,
        }
    }

    /// An actor that listens on `address`; `args` is called for every incarnation.
    pub fn actor<A: Actor>(
        id: impl Into<ChildId>,
        address: &Address<A::Msg>,
        args: impl Fn() -> A::Args + Send + Sync + 'static,
    ) -> Self {
        let address = address.clone();
        let args = Arc::new(args);
        Self::new(id, move |ctx| {
            let (address, args) = (address.clone(), args.clone());
            Box::pin(async move { ctx.actor::<A>(&address, args()).await })
        })
    }

    /// When it is started again. Default permanent.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.rules.restart = restart;
        self
    }

    /// How it is stopped. Default 5 s for workers, infinity for supervisors.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.rules.shutdown = shutdown;
        self
    }

    /// How long a start may take before it is dropped and counts as failed. Default: no limit.
    #[must_use]
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.start_timeout = Some(limit);
        self
    }

    /// Wait between restarts. Default: none, as in OTP.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.rules.backoff = Some(backoff);
        self
    }

    /// Whether its end may end its supervisor; see [`AutoShutdown`](super::AutoShutdown). Default false.
    #[must_use]
    pub fn significant(mut self, significant: bool) -> Self {
        self.rules.significant = significant;
        self
    }

    /// What happens when it is killed but does not end. Default: hold under static supervisors, replace under dynamic
    /// ones.
    #[must_use]
    pub fn on_zombie(mut self, policy: OnZombie) -> Self {
        self.rules.on_zombie = policy;
        self.on_zombie_set = true;
        self
    }

    /// Shows `key: value` at this child in the tree.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.labels).insert(key.into(), value.into());
        self
    }

    /// Its id.
    pub fn id(&self) -> &ChildId {
        &self.rules.id
    }

    /// Makes it a supervisor: kind, and shutdown without limit.
    pub(super) fn supervisor(mut self, kind: NodeKind) -> Self {
        self.rules.kind = ChildKind::Supervisor;
        self.rules.shutdown = Shutdown::Infinity;
        self.node_kind = kind;
        self
    }

    /// The spec as a dynamic supervisor takes it.
    pub(super) fn dynamic(mut self) -> Self {
        if !self.on_zombie_set {
            self.rules.on_zombie = OnZombie::Replace;
        }
        self
    }

    pub(super) fn probe(&self, parent: &Path) -> Arc<Probe> {
        let rules = &self.rules;
        Probe::new(rules.id.clone(), parent.join(&rules.id), self.node_kind, rules.restart, self.labels.clone())
    }
}

impl StartCtx {
    /// Starts an actor that listens on `address`; returns once its `init` did.
    pub async fn actor<A: Actor>(self, address: &Address<A::Msg>, args: A::Args) -> Result<Started, StartError> {
        let handle = supervised::start::<A>(self, address.clone(), args).await?;
        Ok(Started::Actor(ActorRun { handle }))
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
        f.debug_struct("ChildSpec").field("rules", &self.rules).field("labels", &self.labels).finish_non_exhaustive()
    }
}

impl fmt::Debug for StartCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartCtx").field("path", self.path()).field("cause", &self.cause).finish_non_exhaustive()
    }
}
