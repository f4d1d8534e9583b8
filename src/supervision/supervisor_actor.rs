//! The ractor actor of a static supervisor: carries out what the decisions say, one effect after the other.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use ractor::{ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent as Ended};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::child::{ActorRun, ChildSpec, StartCause, StartCtx, Started};
use super::child_ref::{ChildInfo, ChildRef};
use super::children::Children;
use super::core::{
    ChildId, ChildState, Effect, Event, ExitReason, Incarnation, Key, Machine, Request, RequestError, SpecError, Update,
};
use super::error::StartError;
use super::life::{ActorHandle, Body, Life, release};
use super::link::Queued;
use super::probe::Overseer;
use super::supervised::{spawn, start_error};
use super::supervisor_handle::SpecDiff;
use super::{ChildCounts, Probe, SupervisorHandle, SupervisorSpec, System};

/// What a static supervisor is told and asked.
pub(super) enum Command {
    StartChild(ChildSpec, oneshot::Sender<Answer>),
    TerminateChild(ChildId, oneshot::Sender<Answer>),
    RestartChild(ChildId, oneshot::Sender<Answer>),
    DeleteChild(ChildId, oneshot::Sender<Answer>),
    CycleChild(ChildId, oneshot::Sender<Answer>),
    Update(Box<SupervisorSpec>, oneshot::Sender<Result<SpecDiff, SpecError>>),
    /// Reads the children, between two undertakings.
    Look(Box<dyn FnOnce(&Tree) + Send>),
    Stop(ExitReason),
    Retry {
        key: Key,
        token: u64,
    },
    ZombieGone {
        key: Key,
    },
}

/// The answer to a request: the child as it runs now, if it does.
pub(super) type Answer = Result<Option<ChildRef>, Refusal>;

/// Why a request was refused, with the details of a failed start.
pub(super) struct Refusal {
    pub(super) error: RequestError,
    pub(super) start: Option<StartError>,
}

struct SupervisorActor {
    body: Arc<SupervisorBody>,
}

struct SupervisorBody {
    life: Arc<Life>,
    handle: SupervisorHandle,
    cell: OnceLock<ActorCell>,
}

/// The children and what is decided about them.
pub(super) struct Tree {
    myself: ActorRef<Queued<Command>>,
    machine: Machine,
    pub(super) children: Children,
    /// The details of the latest failed start.
    start_error: Option<StartError>,
    /// Who waits for the request in hand.
    asker: Option<oneshot::Sender<Answer>>,
}

/// How driving the decisions ended.
enum Outcome {
    Continue,
    BootFailed(Key),
    Exit(ExitReason),
}

/// As [`start`], for a start function.
pub(super) async fn start_child(ctx: StartCtx, spec: Arc<SupervisorSpec>) -> Result<Started, StartError> {
    let (handle, _task) = start(ctx, spec).await?;
    Ok(Started::Actor(ActorRun { handle, info: None }))
}

/// Starts the supervisor and, within it, all its children.
pub(super) async fn start(
    ctx: StartCtx,
    spec: Arc<SupervisorSpec>,
) -> Result<(ActorHandle, JoinHandle<()>), StartError> {
    spec.validate()?;
    let StartCtx { system, parent, life, .. } = ctx;
    let handle = spec.handle.clone().unwrap_or_default();
    let body = Arc::new(SupervisorBody { life: life.clone(), handle, cell: OnceLock::new() });
    let handler = SupervisorActor { body: body.clone() };
    match Box::pin(spawn(handler, (system, spec), parent)).await {
        Ok((actor, task)) => Ok((ActorHandle { cell: actor.get_cell(), life, body }, task)),
        Err(error) => Err(start_error(error)),
    }
}

impl ractor::Actor for SupervisorActor {
    type Msg = Queued<Command>;
    type State = Tree;
    type Arguments = (System, Arc<SupervisorSpec>);

    async fn pre_start(
        &self,
        myself: ActorRef<Queued<Command>>,
        (system, spec): Self::Arguments,
    ) -> Result<Tree, ActorProcessingErr> {
        let (cell, probe) = (myself.get_cell(), self.body.life.probe.clone());
        self.body.cell.set(cell.clone()).ok();
        probe.attach(self.body.life.attached(cell.clone()), "Supervisor", None);
        let handle = &self.body.handle;
        probe.supervises(Some(spec.strategy), spec.intensity, Overseer::Static(handle.clone()));
        match &spec.partitions {
            Some(partitions) => self.body.life.register(system.registry(), partitions.clone())?,
            None => self.body.life.register(system.registry(), handle.clone())?,
        }
        let mut tree = Tree::new(system, myself, probe, &spec);
        // Before the first child: requests wait in the mailbox until the last one is started, as they do in OTP, where
        // a supervisor has its name from the beginning.
        handle.link.plug(cell);
        match tree.drive(Event::Boot).await {
            Outcome::Continue => Ok(tree),
            Outcome::BootFailed(key) => Err(Box::new(tree.boot_error(key))),
            Outcome::Exit(_) => Err(Box::new(StartError::ShuttingDown)),
        }
    }

    async fn handle(
        &self,
        _: ActorRef<Queued<Command>>,
        Queued { command, _place }: Queued<Command>,
        tree: &mut Tree,
    ) -> Result<(), ActorProcessingErr> {
        let event = match command {
            Command::StartChild(spec, asker) => match spec.rules().validate(tree.machine.auto_shutdown()) {
                Ok(()) => tree.new_child(spec, asker),
                Err(error) => {
                    asker.send(Err(Refusal { error: RequestError::Start, start: Some(error.into()) })).ok();
                    return Ok(());
                }
            },
            Command::TerminateChild(id, asker) => tree.asked(Request::Terminate(id), asker),
            Command::RestartChild(id, asker) => tree.asked(Request::Restart(id), asker),
            Command::DeleteChild(id, asker) => tree.asked(Request::Delete(id), asker),
            Command::CycleChild(id, asker) => tree.asked(Request::Cycle(id), asker),
            Command::Update(spec, asker) => match tree.update(*spec) {
                Ok((diff, event)) => {
                    asker.send(Ok(diff)).ok();
                    event
                }
                Err(error) => {
                    asker.send(Err(error)).ok();
                    return Ok(());
                }
            },
            Command::Look(look) => {
                look(tree);
                return Ok(());
            }
            Command::Stop(reason) => {
                self.body.life.request_stop(&tree.myself.get_cell(), reason);
                return Ok(());
            }
            Command::Retry { key, token } => Event::RetryDue { key, token },
            Command::ZombieGone { key } => Event::Gone { key },
        };
        let outcome = tree.drive(event).await;
        self.conclude(outcome, tree);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Queued<Command>>,
        event: Ended,
        tree: &mut Tree,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(exit) = tree.children.exited(event).await {
            let (key, incarnation, reason, gone) = (exit.key, exit.incarnation, exit.reason, exit.gone);
            let outcome = tree.drive(Event::Exited { key, incarnation, reason, gone }).await;
            self.conclude(outcome, tree);
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Queued<Command>>, tree: &mut Tree) -> Result<(), ActorProcessingErr> {
        let reason = self.body.life.requested();
        if let Outcome::Exit(reason) = tree.drive(Event::Shutdown(reason.clone())).await {
            self.body.life.set_exit(reason);
        }
        self.body.life.set_exit(reason);
        Ok(())
    }
}

impl SupervisorActor {
    fn conclude(&self, outcome: Outcome, tree: &Tree) {
        if let Outcome::Exit(reason) = outcome {
            self.body.life.request_stop(&tree.myself.get_cell(), reason);
        }
    }
}

impl Tree {
    fn new(system: System, myself: ActorRef<Queued<Command>>, probe: Arc<Probe>, spec: &SupervisorSpec) -> Self {
        // Static children keep the probe of their path, and with it history and incarnation numbers.
        let mut known: HashMap<ChildId, Arc<Probe>> =
            probe.take_children().into_iter().map(|child| (child.id.clone(), child)).collect();
        let last = |id: &ChildId| known.get(id).map_or(Incarnation(0), |probe| probe.incarnation());
        let rules: Vec<_> = spec.children.iter().map(|child| (child.rules().clone(), last(child.id()))).collect();
        let machine = Machine::new(spec.strategy, spec.intensity, spec.auto_shutdown, rules);
        let mut children = Children::new(system, myself.get_cell(), probe);
        for child in &spec.children {
            if let Some(key) = machine.key_of(child.id()) {
                children.add(key, child.clone(), known.remove(child.id()));
            }
        }
        Self { myself, machine, children, start_error: None, asker: None }
    }

    async fn drive(&mut self, event: Event) -> Outcome {
        let mut outcome = Outcome::Continue;
        let mut next = Some(event);
        while let Some(event) = next.take() {
            for effect in self.machine.step(event, self.children.now()) {
                match effect {
                    Effect::Start { key, incarnation, restart } => {
                        next = Some(self.start(key, incarnation, restart).await);
                    }
                    Effect::Stop { key, shutdown, .. } => {
                        let (reason, gone) = self.children.stop(key, shutdown).await;
                        next = Some(Event::Stopped { reason, gone });
                    }
                    Effect::BootFailed { key } => outcome = Outcome::BootFailed(key),
                    Effect::Exit(reason) => outcome = Outcome::Exit(reason),
                    Effect::Reply(result) => self.answer(result),
                    other => self.carry_out(other),
                }
            }
        }
        outcome
    }

    async fn start(&mut self, key: Key, incarnation: Incarnation, restart: bool) -> Event {
        let last_exit = self.children.get(key).and_then(|entry| entry.last_exit.clone());
        let cause = match (restart, self.asker.is_some()) {
            (true, _) => StartCause::Restart(last_exit),
            (false, true) => StartCause::Manual,
            (false, false) => StartCause::Initial,
        };
        match self.children.start(key, incarnation, cause).await {
            Ok(true) => Event::Started,
            Ok(false) => Event::Ignored,
            Err(error) => {
                let reason = error.to_string();
                self.start_error = Some(error);
                Event::StartFailed { reason, gone: self.children.is_gone(key) }
            }
        }
    }

    /// Effects that need no answer.
    fn carry_out(&mut self, effect: Effect) {
        let myself = self.myself.clone();
        match effect {
            Effect::Retry { key, token, after, jitter } => self.children.later(key, after, jitter, move || {
                // Refused only when this supervisor is gone.
                myself.send_message(Command::Retry { key, token }.into()).ok();
            }),
            Effect::CancelRetry { key } => self.children.cancel(key),
            Effect::Mark { key, state } => {
                self.children.mark(key, state);
                if state == ChildState::Zombie {
                    self.children.watch_zombie(key, move || {
                        myself.send_message(Command::ZombieGone { key }.into()).ok();
                    });
                }
            }
            Effect::Forget { key } => self.children.forget(key),
            Effect::Counted => self.children.probe.count_restart(),
            Effect::Report(report) => self.children.report(&report),
            _ => {}
        }
    }

    fn asked(&mut self, request: Request, asker: oneshot::Sender<Answer>) -> Event {
        self.asker = Some(asker);
        self.start_error = None;
        Event::Request(request)
    }

    /// Takes over a changed specification; nothing is started or stopped.
    fn update(&mut self, spec: SupervisorSpec) -> Result<(SpecDiff, Event), SpecError> {
        spec.validate()?;
        let mut diff = SpecDiff::default();
        let mut children = Vec::with_capacity(spec.children.len());
        let mut next_key = self.machine.next_key();
        for child in spec.children {
            let id = child.id().clone();
            children.push((child.rules().clone(), Incarnation(0)));
            match self.machine.key_of(&id) {
                Some(key) => {
                    let changed = self.children.get(key).is_none_or(|entry| entry.spec.rules() != child.rules());
                    self.children.set_spec(key, child);
                    if changed { &mut diff.changed } else { &mut diff.same }.push(id);
                }
                None => {
                    self.children.add(next_key, child, None);
                    next_key = Key(next_key.0 + 1);
                    diff.added.push(id);
                }
            }
        }
        let listed: HashSet<&ChildId> = children.iter().map(|(rules, _)| &rules.id).collect();
        let kept = self.machine.keys().filter_map(|key| self.children.get(key)).map(|entry| entry.spec.id());
        diff.kept = kept.filter(|id| !listed.contains(id)).cloned().collect();
        let (strategy, intensity, auto_shutdown) = (spec.strategy, spec.intensity, spec.auto_shutdown);
        self.children.probe.supervises_by(Some(strategy), intensity);
        let update = Update { strategy, intensity, auto_shutdown, children };
        Ok((diff, Event::Request(Request::Update(Box::new(update)))))
    }

    /// Takes a child in that is asked for, unless its id is taken.
    fn new_child(&mut self, spec: ChildSpec, asker: oneshot::Sender<Answer>) -> Event {
        let rules = spec.rules().clone();
        let event = self.asked(Request::Start(rules, Incarnation(0)), asker);
        if self.machine.key_of(spec.id()).is_none() {
            self.children.add(self.machine.next_key(), spec, None);
        }
        event
    }

    fn answer(&mut self, result: Result<Option<Key>, RequestError>) {
        let Some(asker) = self.asker.take() else { return };
        let answer = match result {
            Ok(key) => Ok(key.and_then(|key| self.children.child_ref(key))),
            Err(error) => Err(Refusal { error, start: self.start_error.take() }),
        };
        // Whoever asked may have given up.
        asker.send(answer).ok();
    }

    /// All children, last started first, as OTP lists them.
    pub(super) fn which(&self) -> Vec<ChildInfo> {
        self.machine.keys().rev().filter_map(|key| self.children.info(key)).collect()
    }

    pub(super) fn which_one(&self, id: &ChildId) -> Option<ChildInfo> {
        self.children.info(self.machine.key_of(id)?)
    }

    pub(super) fn spec(&self, id: &ChildId) -> Option<ChildSpec> {
        Some(self.children.get(self.machine.key_of(id)?)?.spec.clone())
    }

    /// Whom an orderly restart of this child stops, itself included.
    pub(super) fn affected(&self, id: &ChildId) -> Vec<Arc<Probe>> {
        let keys = self.machine.key_of(id).map(|key| self.machine.affected(key)).unwrap_or_default();
        keys.iter().filter_map(|key| self.children.get(*key)).map(|entry| entry.probe.clone()).collect()
    }

    pub(super) fn count(&self) -> ChildCounts {
        let (specs, supervisors) = self.children.count();
        ChildCounts { specs, active: self.machine.active(), supervisors, workers: specs - supervisors }
    }

    fn boot_error(&mut self, key: Key) -> StartError {
        let source = self.start_error.take().unwrap_or(StartError::ShuttingDown);
        match self.children.get(key) {
            Some(entry) => StartError::Child { id: entry.spec.id().clone(), source: Box::new(source) },
            None => source,
        }
    }
}

impl Body for SupervisorBody {
    fn release(&self) {
        if let Some(cell) = self.cell.get() {
            self.handle.link.unplug(cell);
        }
        self.life.release();
    }
}

impl Drop for SupervisorActor {
    fn drop(&mut self) {
        release(&*self.body);
    }
}
