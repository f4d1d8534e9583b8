//! The part both supervisors share: carrying out effects on children.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use ractor::{ActorCell, SupervisionEvent as Ended};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::child::{ChildSpec, Info, StartCause, StartCtx, Started};
use super::child_ref::{ChildInfo, ChildRef};
use super::core::{
    ChildKind, ChildState, CrashInfo, ErrorInfo, ExitReason, Incarnation, Key, NumberMap, Report, Restart, Shutdown,
    is_expected,
};
use super::error::StartError;
use super::life::{ActorHandle, Life, descendants_gone, start_undone};
use super::panics::{Caught, catch};
use super::report::{SupervisionEventKind, log};
use super::tree::NodeState;
use super::{Probe, System};

/// A task that ends with its owner.
pub(super) struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Owned {
    #[expect(clippy::disallowed_methods, reason = "aborted when the owner drops this")]
    pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

/// One child as its supervisor keeps it.
pub(super) struct Entry {
    pub(super) spec: ChildSpec,
    pub(super) probe: Arc<Probe>,
    pub(super) handle: Option<ActorHandle>,
    pub(super) info: Option<Info>,
    pub(super) last_exit: Option<ExitReason>,
    /// The pending retry, or the watch over a zombie.
    task: Option<Owned>,
}

/// The children of one supervisor incarnation.
pub(super) struct Children {
    system: System,
    /// The supervisor's own actor and probe.
    cell: ActorCell,
    pub(super) probe: Arc<Probe>,
    /// Boxed, so that a map that grows moves pointers only.
    entries: NumberMap<Key, Box<Entry>>,
    /// Which child an actor is, by ractor's number of it.
    actors: NumberMap<u64, Key>,
    origin: Instant,
}

/// A child that ended by itself.
pub(super) struct Exit {
    pub(super) key: Key,
    pub(super) incarnation: Incarnation,
    pub(super) reason: ExitReason,
    pub(super) gone: bool,
}

impl Children {
    pub(super) fn new(system: System, cell: ActorCell, probe: Arc<Probe>) -> Self {
        let (entries, actors) = (NumberMap::default(), NumberMap::default());
        Self { system, cell, probe, entries, actors, origin: Instant::now() }
    }

    /// Time since this supervisor began, for the decisions.
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.entries.keys().copied()
    }

    pub(super) fn get(&self, key: Key) -> Option<&Entry> {
        self.entries.get(&key).map(Box::as_ref)
    }

    /// Takes a child in, with the probe of its path if there was one before.
    pub(super) fn add(&mut self, key: Key, spec: ChildSpec, known: Option<Arc<Probe>>) {
        let probe = known.unwrap_or_else(|| spec.probe(&self.probe.path));
        self.probe.add_child(key.0, probe.clone());
        let entry = Entry { spec, probe, handle: None, info: None, last_exit: None, task: None };
        self.entries.insert(key, Box::new(entry));
    }

    /// Replaces what is known of a child besides its present life.
    pub(super) fn set_spec(&mut self, key: Key, spec: ChildSpec) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.probe.set_given(spec.given.clone());
            entry.spec = spec;
        }
    }

    /// The running child.
    pub(super) fn child_ref(&self, key: Key) -> Option<ChildRef> {
        let entry = self.get(key)?;
        Some(ChildRef::new(key, entry.handle.clone()?, entry.info.clone()))
    }

    /// The child as it is listed.
    pub(super) fn info(&self, key: Key) -> Option<ChildInfo> {
        let entry = self.get(key)?;
        let probe = &entry.probe;
        let state = probe.state();
        let runs = !matches!(state, NodeState::Stopped | NodeState::Restarting);
        Some(ChildInfo {
            id: probe.id().clone(),
            child: self.child_ref(key).filter(|_| runs),
            state,
            kind: entry.spec.rules().kind,
            actor: probe.actor(),
        })
    }

    /// How many children there are, and how many of them are supervisors.
    pub(super) fn count(&self) -> (usize, usize) {
        let kinds = self.entries.values().map(|entry| entry.spec.rules().kind);
        (self.entries.len(), kinds.filter(|kind| *kind == ChildKind::Supervisor).count())
    }

    pub(super) fn forget(&mut self, key: Key) {
        self.probe.remove_child(key.0);
        if let Some(handle) = self.entries.remove(&key).and_then(|entry| entry.handle) {
            self.actors.remove(&handle.cell.get_id().pid());
        }
    }

    /// Starts one incarnation. `Ok(false)` when the child chose not to run.
    ///
    /// Cancel safety: a start that is dropped takes with it what it had started.
    pub(super) async fn start(
        &mut self,
        key: Key,
        incarnation: Incarnation,
        cause: StartCause,
    ) -> Result<bool, StartError> {
        let Some(entry) = self.entries.get_mut(&key) else { return Ok(false) };
        entry.task = None;
        (entry.handle, entry.info) = (None, None);
        let probe = entry.probe.clone();
        let restart = matches!(cause, StartCause::Restart(_));
        probe.begin(incarnation, restart);
        let life = Life::new(probe.clone(), incarnation);
        let ctx = StartCtx { system: self.system.clone(), parent: Some(self.cell.clone()), life, cause };
        let result = run_start(&entry.spec, ctx, &probe).await;
        if entry.spec.rules().restart == Restart::Temporary {
            entry.spec.start = None;
        }
        let failed = match result {
            Ok(Started::Actor(run)) => {
                let handle = run.handle;
                self.actors.insert(handle.cell.get_id().pid(), key);
                entry.handle = Some(handle);
                entry.info = run.info;
                self.emit(&probe, incarnation, || SupervisionEventKind::Started { restart });
                return Ok(true);
            }
            Ok(Started::Ignore) => None,
            Err(error) => Some(error),
        };
        // Boxed, because it is rare and this future is moved about.
        let gone = Box::pin(start_undone(&probe, incarnation)).await;
        let Some(error) = failed else { return Ok(false) };
        if gone {
            probe.detach(incarnation);
        }
        probe.ended(incarnation, &error.to_exit());
        self.emit(&probe, incarnation, || SupervisionEventKind::StartFailed { reason: error.to_string() });
        Err(error)
    }

    /// Whether nothing is left of a child that did not start.
    pub(super) fn is_gone(&self, key: Key) -> bool {
        self.get(key).is_none_or(|entry| entry.probe.remains().is_empty())
    }

    /// Takes the running actor out so that it can be stopped; its own exit event is stale from now on.
    pub(super) fn take_running(&mut self, key: Key) -> Option<ActorHandle> {
        let handle = self.entries.get(&key)?.handle.clone()?;
        self.actors.remove(&handle.cell.get_id().pid());
        Some(handle)
    }

    /// Stops one child as ordered and tells how it ended, and whether it is gone.
    pub(super) async fn stop(&mut self, key: Key, how: Shutdown) -> (ExitReason, bool) {
        let Some(handle) = self.take_running(key) else { return (ExitReason::Shutdown, true) };
        let (reason, gone) = handle.stop(how).await;
        self.stopped(key, &reason, gone);
        (reason, gone)
    }

    /// Notes the result of an ordered stop.
    pub(super) fn stopped(&mut self, key: Key, reason: &ExitReason, gone: bool) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(handle) = &entry.handle else { return };
        let incarnation = handle.life.incarnation;
        if gone {
            entry.handle = None;
        }
        entry.last_exit = Some(reason.clone());
        entry.probe.ended(incarnation, reason);
        let probe = entry.probe.clone();
        let rules = entry.spec.rules();
        let unexpected = !is_expected(rules.restart, rules.shutdown, reason);
        self.emit(&probe, incarnation, || SupervisionEventKind::Stopped { reason: reason.clone(), unexpected });
    }

    /// Understands an exit event; `None` when it is about an actor that is not (or no longer) a child.
    pub(super) async fn exited(&mut self, event: Ended) -> Option<Exit> {
        let (cell, otherwise) = match event {
            Ended::ActorTerminated(cell, _, reason) => (cell, reason_of(reason)),
            Ended::ActorFailed(cell, error) => (cell, ExitReason::Error(Box::new(ErrorInfo::of(&*error)))),
            _ => return None,
        };
        let Some(key) = self.actors.remove(&cell.get_id().pid()) else {
            tracing::trace!(supervisor = %self.probe.path, "exit of an unknown actor ignored");
            return None;
        };
        let entry = self.entries.get_mut(&key)?;
        let handle = entry.handle.clone()?;
        let reason = handle.buried(otherwise);
        let incarnation = handle.life.incarnation;
        entry.last_exit = Some(reason.clone());
        entry.probe.ended(incarnation, &reason);
        let probe = entry.probe.clone();
        // Awaited here and not beside other work: ends are judged in the order in which they come, as in OTP. If one
        // that came later overtook this one, a single incident could count twice and restart a group twice.
        let gone = descendants_gone(&probe).await;
        if gone && let Some(entry) = self.entries.get_mut(&key) {
            entry.handle = None;
        }
        self.emit(&probe, incarnation, || SupervisionEventKind::Exited { reason: reason.clone() });
        Some(Exit { key, incarnation, reason, gone })
    }

    pub(super) fn mark(&self, key: Key, state: ChildState) {
        if let Some(entry) = self.entries.get(&key) {
            entry.probe.set_state(match state {
                ChildState::Starting => NodeState::Starting,
                ChildState::Running => NodeState::Running,
                ChildState::Stopping => NodeState::Stopping,
                ChildState::Restarting => NodeState::Restarting,
                ChildState::Down => NodeState::Stopped,
                ChildState::Zombie => NodeState::Zombie,
            });
        }
    }

    /// Does `then` after the wait, unless the child is forgotten, started or cancelled before.
    pub(super) fn later(&mut self, key: Key, after: Duration, jitter: bool, then: impl FnOnce() + Send + 'static) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if after.is_zero() {
            return then();
        }
        let after = if jitter { after.mul_f64(rand::random::<f64>()) } else { after };
        entry.probe.set_retry_at(chrono::TimeDelta::from_std(after).ok().map(|after| Utc::now() + after));
        entry.task = Some(Owned::spawn(async move {
            tokio::time::sleep(after).await;
            then();
        }));
    }

    pub(super) fn cancel(&mut self, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.task = None;
        }
    }

    /// Stops a child beside other work; `then` gets the result.
    pub(super) fn stop_beside(
        &mut self,
        key: Key,
        how: Shutdown,
        then: impl FnOnce(ExitReason, bool) + Send + 'static,
    ) {
        let Some(handle) = self.take_running(key) else { return then(ExitReason::Shutdown, true) };
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.task = Some(Owned::spawn(async move {
                let (reason, gone) = handle.stop(how).await;
                then(reason, gone);
            }));
        }
    }

    /// Does `then` once the zombie is gone.
    pub(super) fn watch_zombie(&mut self, key: Key, then: impl FnOnce() + Send + 'static) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let (handle, probe) = (entry.handle.clone(), entry.probe.clone());
        entry.task = Some(Owned::spawn(async move {
            match handle {
                Some(handle) => handle.gone().await,
                // Its start failed.
                None => {
                    for living in probe.remains() {
                        living.life.down().cancelled().await;
                    }
                }
            }
            then();
        }));
    }

    /// Tells the world, in the log and as an event.
    pub(super) fn report(&self, report: &Report) {
        let (key, kind) = match report {
            Report::Progress { key } => (key, None),
            Report::ChildTerminated { key, .. }
            | Report::StartError { key, .. }
            | Report::ShutdownError { key, .. } => (key, None),
            Report::MaxIntensity { key, reason } => {
                (key, Some(SupervisionEventKind::MaxIntensity { reason: reason.clone() }))
            }
            Report::Zombie { key } => (key, Some(SupervisionEventKind::Zombie)),
            Report::ZombieGone { key } => (key, Some(SupervisionEventKind::ZombieGone)),
        };
        let Some(entry) = self.entries.get(key) else { return };
        log(&self.probe.path, &entry.spec, &entry.probe, report);
        if let Some(kind) = kind {
            self.emit(&entry.probe, entry.probe.incarnation(), || kind);
        }
    }

    fn emit(&self, probe: &Probe, incarnation: Incarnation, kind: impl FnOnce() -> SupervisionEventKind) {
        self.system.emit(probe, incarnation, kind);
    }
}

async fn run_start(spec: &ChildSpec, ctx: StartCtx, probe: &Probe) -> Result<Started, StartError> {
    let Some(start) = spec.start.clone() else { return Ok(Started::Ignore) };
    let caught = catch(async move { start(ctx).await });
    // The limit is boxed: few have one, and the future of a start is moved about.
    let result = match spec.given.start_timeout {
        Some(limit) => Box::pin(tokio::time::timeout(limit, caught)).await.map_err(|_| StartError::Timeout(limit))?,
        None => caught.await,
    };
    result.unwrap_or_else(|caught| Err(StartError::Panic(Box::new(start_crash(probe, caught)))))
}

/// A panic of the start function itself, outside of any actor.
fn start_crash(probe: &Probe, caught: Caught) -> CrashInfo {
    CrashInfo {
        path: probe.path.to_string(),
        incarnation: probe.incarnation().0,
        doing: "start".to_owned(),
        text: caught.text,
        location: caught.location,
        backtrace: caught.backtrace,
        ancestors: probe.path.ancestors(),
        ..CrashInfo::default()
    }
}

/// ractor's stop text, as a reason; used only when the wrapper had no chance to note its own.
fn reason_of(text: Option<String>) -> ExitReason {
    match text.as_deref() {
        None | Some("Drained") => ExitReason::Normal,
        Some("killed") => ExitReason::Killed,
        Some("actor_task_cancelled") => ExitReason::Aborted,
        Some(_) => ExitReason::ShutdownWith(text.unwrap_or_default()),
    }
}
