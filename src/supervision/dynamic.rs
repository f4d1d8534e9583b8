//! Dynamic supervisors: children that come and go by request, up to a limit.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Probe;
use super::child::{ActorRun, ChildSpec, Started};
use super::child_ref::{ChildCounts, ChildInfo, ChildRef};
use super::core::{AutoShutdown, CHILDREN_MAX, ChildId, ExitReason, Intensity, Key, SpecError};
use super::dynamic_actor::{self, Brood, Command};
use super::error::{ChildError, StartChildError};
use super::link::Link;
use super::tree::NodeKind;

/// A dynamic supervisor, Elixir's `DynamicSupervisor`: strategy one_for_one, starts empty. Ids of its children are for
/// people and need not differ. Default intensity 3 in 5 s.
#[derive(Clone, Debug)]
pub struct DynamicSupervisorSpec {
    id: ChildId,
    max_children: usize,
    pub(super) intensity: Intensity,
}

/// Reaches a dynamic supervisor; made before it starts, and survives its restarts, as does the limit set through it.
/// Children do not survive them. Cheap to clone.
///
/// Asking the own supervisor from `init` waits forever.
///
/// Cancel safety: dropping a request's future gives up the answer; the request may still be carried out.
#[derive(Clone)]
pub struct DynamicHandle {
    pub(super) shared: Arc<DynamicShared>,
}

pub(super) struct DynamicShared {
    pub(super) link: Link<Command>,
    pub(super) max_children: AtomicUsize,
}

impl DynamicSupervisorSpec {
    /// A dynamic supervisor of at most `max_children` children; 0 refuses all.
    pub fn new(id: impl Into<ChildId>, max_children: usize) -> Self {
        Self { id: id.into(), max_children, intensity: Intensity::default() }
    }

    /// How many restarts are too many. Default 3 in 5 s.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        self.intensity.validate()?;
        if self.max_children > CHILDREN_MAX {
            return Err(SpecError::TooManyChildren(self.max_children));
        }
        Ok(())
    }

    /// As a child of a static supervisor, reached through `handle`: permanent, stopped without a time limit. Sets the
    /// handle's limit.
    pub fn into_child(self, handle: &DynamicHandle) -> ChildSpec {
        let id = self.id.clone();
        let (spec, shared) = (Arc::new(self), handle.shared.clone());
        shared.max_children.store(spec.max_children, Ordering::Relaxed);
        let child = ChildSpec::new(id, move |ctx| {
            let (spec, shared) = (spec.clone(), shared.clone());
            Box::pin(async move {
                let handle = dynamic_actor::start(ctx, spec, shared).await?;
                Ok(Started::Actor(ActorRun { handle, info: None }))
            })
        });
        child.supervising(NodeKind::DynamicSupervisor)
    }
}

impl DynamicHandle {
    /// A handle that reaches nobody yet.
    pub fn new() -> Self {
        let shared = DynamicShared { link: Link::new(), max_children: AtomicUsize::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Starts a child; returns once its `init` did. Starts are one at a time.
    ///
    /// Errors: `MaxChildren`, `Start` and `Ignored` (nothing is recorded, but the place of one
    /// that is held as a zombie is kept until that is gone), `InvalidSpec`, `NoProc`, `Busy`.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<ChildRef, StartChildError> {
        // Significant children are refused: nothing here ends by itself.
        spec.rules().validate(AutoShutdown::Never)?;
        self.shared.link.ask(|asker| Command::StartChild(spec.dynamic(), asker)).await?
    }

    /// Stops a child, or cancels its pending restart, and forgets it. Returns once it is gone; other requests are
    /// served meanwhile, unlike in OTP.
    ///
    /// Errors: `NotFound` (also the second time), `Zombie`, `NoProc`, `Busy`.
    pub async fn terminate_child(&self, child: &ChildRef) -> Result<(), ChildError> {
        self.terminate(child.key, child.probe().clone()).await
    }

    pub(super) async fn terminate(&self, key: Key, probe: Arc<Probe>) -> Result<(), ChildError> {
        self.shared.link.ask(|asker| Command::TerminateChild(key, probe, asker)).await?
    }

    /// Stops a child in order and starts it again in its place. Counts as no failure; a start that fails is tried again
    /// by the supervisor's rules, and those attempts count. Returns once it is stopped and the start was tried.
    ///
    /// Errors: `NotFound`, `Temporary`, `Zombie`, `NoProc`, `Busy`.
    pub async fn cycle_child(&self, child: &ChildRef) -> Result<(), ChildError> {
        self.cycle(child.key, child.probe().clone()).await
    }

    pub(super) async fn cycle(&self, key: Key, probe: Arc<Probe>) -> Result<(), ChildError> {
        self.shared.link.ask(|asker| Command::CycleChild(key, probe, asker)).await?
    }

    /// All children, in no order.
    ///
    /// Errors: `NoProc`, `Busy`.
    pub async fn which_children(&self) -> Result<Vec<ChildInfo>, ChildError> {
        self.look(Brood::which).await
    }

    /// One child.
    ///
    /// Errors: `NotFound`, `NoProc`, `Busy`.
    pub async fn which_child(&self, child: &ChildRef) -> Result<ChildInfo, ChildError> {
        let child = child.clone();
        self.look(move |brood| brood.which_one(&child)).await?.ok_or(ChildError::NotFound)
    }

    /// How a child is started and what happens when it ends.
    ///
    /// Errors: `NotFound`, `NoProc`, `Busy`.
    pub async fn get_childspec(&self, child: &ChildRef) -> Result<ChildSpec, ChildError> {
        let child = child.clone();
        self.look(move |brood| brood.spec(&child)).await?.ok_or(ChildError::NotFound)
    }

    /// Takes over a changed specification: the limit, for good, and the intensity, until the supervisor's next
    /// incarnation. Children stay as they are.
    ///
    /// Errors: `InvalidSpec` (nothing is changed), `NoProc`, `Busy`.
    pub async fn update(&self, spec: DynamicSupervisorSpec) -> Result<(), ChildError> {
        spec.validate()?;
        self.shared.link.ask(|asker| Command::Update(spec.intensity, asker)).await?;
        self.shared.max_children.store(spec.max_children, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the supervisor in order for `reason` and waits for it, at most `timeout`; its own supervisor then goes by
    /// its restart type.
    ///
    /// Errors: `NoProc`, `Busy`, `Timeout`.
    pub async fn stop(&self, reason: ExitReason, timeout: Option<Duration>) -> Result<(), ChildError> {
        self.shared.link.stop(Command::Stop(reason), timeout).await
    }

    async fn look<R: Send + 'static>(&self, look: impl FnOnce(&Brood) -> R + Send + 'static) -> Result<R, ChildError> {
        let make = |asker: oneshot::Sender<R>| {
            // Whoever asked may have given up.
            Command::Look(Box::new(move |brood| drop(asker.send(look(brood)))))
        };
        Ok(self.shared.link.ask(make).await?)
    }

    /// Changes the limit, at once and for later incarnations. Running children above a lowered limit stay.
    ///
    /// Errors: `MaxChildrenLimit`.
    pub async fn set_max_children(&self, max_children: usize) -> Result<(), ChildError> {
        if max_children > CHILDREN_MAX {
            return Err(ChildError::MaxChildrenLimit(max_children));
        }
        self.shared.max_children.store(max_children, Ordering::Relaxed);
        Ok(())
    }

    /// Whether requests are taken now: false while no incarnation runs, and while one is stopping.
    pub fn is_up(&self) -> bool {
        self.shared.link.is_up()
    }

    /// The limit.
    pub fn max_children(&self) -> usize {
        self.shared.max_children.load(Ordering::Relaxed)
    }

    /// How many children there are.
    ///
    /// Errors: `NoProc`, `Busy`.
    pub async fn count_children(&self) -> Result<ChildCounts, ChildError> {
        self.look(Brood::count).await
    }
}

impl Default for DynamicHandle {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DynamicHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicHandle").field("max_children", &self.max_children()).finish_non_exhaustive()
    }
}
