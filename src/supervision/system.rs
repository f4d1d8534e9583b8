//! One node's supervision: the root, its tree and its events. Nothing here is global to the process but one panic hook,
//! which notes where supervised code and job code panic. While the log target `sup.crash` is on it keeps such panics
//! from the hook that was there before: what they come to (a crash report, an error of a job) has text and place.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::child::{ChildSpec, StartCause, StartCtx};
use super::core::{ExitReason, Incarnation, Path};
use super::error::StartError;
use super::life::{ActorHandle, Life, descendants_gone};
use super::lock::lock;
use super::probe::Probe;
use super::registry::Registry;
use super::report::{EVENTS_MAX, EventLevel, SupervisionEvent, SupervisionEventKind};
use super::supervisor_actor;
use super::tree::{NodeState, TreeNode};
use super::{SupervisorSpec, core::ChildId};

/// One node: a root supervisor, the tree below it, and its events. Cheap to clone. Several may live in one process and
/// know nothing of each other.
#[derive(Clone)]
pub struct System {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    root: Mutex<Arc<Probe>>,
    running: Mutex<Option<ActorHandle>>,
    events: broadcast::Sender<SupervisionEvent>,
    warnings: broadcast::Sender<SupervisionEvent>,
    registry: Arc<Registry>,
}

/// The started root. Dropping it kills the tree: nothing is left running without an owner.
#[must_use = "dropping it kills the tree"]
pub struct Running {
    system: System,
    handle: ActorHandle,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    reason: OnceLock<ExitReason>,
}

impl System {
    /// A system that runs nothing yet.
    pub fn new(name: &str) -> Self {
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let (warnings, _) = broadcast::channel(EVENTS_MAX);
        let root = root_probe(&ChildId::from(name));
        let (root, running, registry) = (Mutex::new(root), Mutex::new(None), Arc::default());
        let shared = Shared { name: name.to_owned(), root, running, events, warnings, registry };
        Self { shared: Arc::new(shared) }
    }

    /// Starts the root and everything below it, in order, on the current tokio runtime. Supervisors and actors stay on
    /// that runtime.
    ///
    /// Errors: what the failing child reported, after those started before it were stopped in reverse; `AlreadyRunning`
    /// while an earlier root still runs, or something below it that does not end when it is killed.
    ///
    /// Cancel safety: dropping the future kills what was started.
    pub async fn start(&self, root: SupervisorSpec) -> Result<Running, StartError> {
        let already_running = || StartError::AlreadyRunning(self.shared.name.clone());
        let before = {
            let running = lock(&self.shared.running);
            let known = lock(&self.shared.root);
            let starting = known.state() == NodeState::Starting;
            if starting || running.as_ref().is_some_and(ActorHandle::is_alive) {
                return Err(already_running());
            }
            known.begin(known.incarnation().next(), false);
            known.clone()
        };
        let mut unfinished = Unfinished(Some(before.clone()));
        // Of an earlier root code may be left that never awaits.
        if !Box::pin(descendants_gone(&before)).await {
            return Err(already_running());
        }
        let probe = if before.id == root.id {
            before
        } else {
            let probe = root_probe(&root.id);
            probe.begin(Incarnation(1), false);
            *lock(&self.shared.root) = probe.clone();
            unfinished.0 = Some(probe.clone());
            probe
        };
        let incarnation = probe.incarnation();
        let life = Life::new(probe.clone(), incarnation);
        let ctx = StartCtx { system: self.clone(), parent: None, life: life.clone(), cause: StartCause::Initial };
        let (handle, task) = supervisor_actor::start(ctx, Arc::new(root)).await.inspect_err(|error| {
            probe.ended(incarnation, &error.to_exit());
        })?;
        unfinished.0 = None;
        probe.set_state(NodeState::Running);
        *lock(&self.shared.running) = Some(handle.clone());
        Ok(Running { system: self.clone(), handle, task: tokio::sync::Mutex::new(Some(task)), reason: OnceLock::new() })
    }

    /// The tree now. Asks no actor anything, so it answers while supervisors are busy stopping.
    pub fn snapshot(&self) -> TreeNode {
        let root = lock(&self.shared.root).clone();
        root.snapshot()
    }

    /// The probe of the node at `path`.
    pub fn probe(&self, path: &str) -> Option<Arc<Probe>> {
        let root = lock(&self.shared.root).clone();
        root.find(path)
    }

    /// Kills the actor at `path`, as a crash would: no cleanup runs, and its supervisor does what its rules say. Tells
    /// whether there was one. For tests of what survives; to stop a child in order see [`operate`](Self::operate).
    pub fn kill(&self, path: &str) -> bool {
        let attached = self.probe(path).and_then(|probe| probe.attached());
        attached.inspect(|actor| actor.cell.kill()).is_some()
    }

    /// What is registered under `name`: an [`Address`](super::Address) for an actor, a
    /// [`SupervisorHandle`](super::SupervisorHandle), [`DynamicHandle`](super::DynamicHandle) or
    /// [`PartitionHandle`](super::PartitionHandle) for a supervisor. `None` when nobody has the name now, or when it
    /// holds another type.
    pub fn lookup<T: Any + Clone + Send + Sync>(&self, name: &str) -> Option<T> {
        self.shared.registry.lookup(name)
    }

    /// All registered names with the paths of those who have them, by name.
    pub fn registered(&self) -> Vec<(String, Path)> {
        self.shared.registry.all()
    }

    /// The names of this system.
    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.shared.registry
    }

    /// What happens to children from now on. A subscriber that lags behind loses the oldest and learns how many.
    pub fn events(&self) -> broadcast::Receiver<SupervisionEvent> {
        self.shared.events.subscribe()
    }

    /// As [`events`](Self::events), but only what matters: level [`EventLevel::Warning`] and up. However many children
    /// come and go, such a subscriber is neither woken by them nor loses anything to them.
    pub fn warnings(&self) -> broadcast::Receiver<SupervisionEvent> {
        self.shared.warnings.subscribe()
    }

    /// The name given at its making.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Tells those who subscribed. Every job starts and ends a child, so what nobody wants is not even built.
    pub(super) fn emit(&self, probe: &Probe, incarnation: Incarnation, kind: impl FnOnce() -> SupervisionEventKind) {
        let (events, warnings) = (&self.shared.events, &self.shared.warnings);
        let wants_all = events.receiver_count() > 0;
        if !wants_all && warnings.receiver_count() == 0 {
            return;
        }
        let kind = kind();
        let warns = kind.level() >= EventLevel::Warning;
        if !wants_all && !warns {
            return;
        }
        let event = SupervisionEvent::now(probe, incarnation, kind);
        // Sending fails only when the last subscriber just left.
        if warns {
            warnings.send(event.clone()).ok();
        }
        events.send(event).ok();
    }
}

impl Running {
    /// Stops everything in reverse order, each child within its own shutdown time, and tells how the root ended.
    ///
    /// Cancel safety: the order to stop stands; only the waiting ends, and dropping `self` then kills the rest.
    pub async fn stop(&self) -> ExitReason {
        self.handle.life.probe.set_state(NodeState::Stopping);
        self.handle.life.request_stop(&self.handle.cell, ExitReason::Shutdown);
        self.wait().await
    }

    /// Kills the root and with it everything below: no cleanup runs. Returns when all are gone, or after
    /// [`KILL_WAIT_MAX`](super::KILL_WAIT_MAX) for those that reach no await point.
    pub async fn kill(&self) {
        self.handle.cell.kill();
        let gone = self.handle.cell.wait(Some(super::KILL_WAIT_MAX)).await.is_ok();
        let gone = descendants_gone(&self.handle.life.probe).await && gone;
        if !gone {
            tracing::error!(
                target: "sup.report", supervisor = "/", errorContext = "zombie", "killed, but not all ended"
            );
        }
        if gone {
            self.wait().await;
        }
    }

    /// Waits until the root has ended, by [`stop`](Self::stop) or by itself, and tells how: `Shutdown` after a
    /// meltdown.
    ///
    /// Cancel safety: nothing is lost; may be called again and by several at once.
    pub async fn wait(&self) -> ExitReason {
        self.handle.cell.wait(None).await.ok();
        let mut task = self.task.lock().await;
        if let Some(reason) = self.reason.get() {
            return reason.clone();
        }
        let cancelled = match task.as_mut() {
            Some(task) => task.await.is_err_and(|error| error.is_cancelled()),
            None => false,
        };
        *task = None;
        let otherwise = if cancelled { ExitReason::Aborted } else { ExitReason::Killed };
        let reason = self.handle.buried(otherwise);
        let probe = &self.handle.life.probe;
        probe.ended(self.handle.life.incarnation, &reason);
        self.reason.get_or_init(|| reason).clone()
    }

    /// The system this is the root of.
    pub fn system(&self) -> &System {
        &self.system
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.cell.kill();
    }
}

/// Marks the root as stopped when its start fails or is dropped.
struct Unfinished(Option<Arc<Probe>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(probe) = self.0.take() {
            probe.detach(probe.incarnation());
        }
    }
}

fn root_probe(id: &ChildId) -> Arc<Probe> {
    Probe::new(Path::root(), ChildSpec::root(id.clone()).given)
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("System").field(&self.shared.name).finish()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Running").field(&self.system.shared.name).finish()
    }
}
