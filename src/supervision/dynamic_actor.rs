//! The ractor actor of a dynamic supervisor.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ractor::{ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent as Ended};
use tokio::sync::oneshot;

use super::child::{ChildSpec, StartCause, StartCtx};
use super::child_ref::{ChildCounts, ChildInfo, ChildRef};
use super::children::{Children, Entry};
use super::core::{
    ChildState, DynamicEvent, DynamicMachine, Effect, ExitReason, Incarnation, Intensity, Key, NumberMap, Shutdown,
};
use super::dynamic::{DynamicHandle, DynamicShared, DynamicSupervisorSpec};
use super::error::{ChildError, StartChildError, StartError};
use super::life::{ActorHandle, Body, Life, release};
use super::link::Queued;
use super::probe::Overseer;
use super::supervised::{spawn, start_error};
use super::{Probe, System};

/// What a dynamic supervisor is told and asked.
pub(super) enum Command {
    StartChild(ChildSpec, oneshot::Sender<Result<ChildRef, StartChildError>>),
    TerminateChild(Key, Arc<Probe>, Asker),
    CycleChild(Key, Arc<Probe>, Asker),
    Update(Intensity, oneshot::Sender<()>),
    /// Reads the children, between two undertakings.
    Look(Box<dyn FnOnce(&Brood) + Send>),
    Stop(ExitReason),
    Retry {
        key: Key,
        token: u64,
    },
    Stopped {
        key: Key,
        reason: ExitReason,
        gone: bool,
    },
    ZombieGone {
        key: Key,
    },
}

type Asker = oneshot::Sender<Result<(), ChildError>>;

struct DynamicActor {
    body: Arc<DynamicBody>,
}

struct DynamicBody {
    life: Arc<Life>,
    shared: Arc<DynamicShared>,
    cell: OnceLock<ActorCell>,
}

/// The children and what is decided about them.
pub(super) struct Brood {
    myself: ActorRef<Queued<Command>>,
    machine: DynamicMachine,
    children: Children,
    /// Who waits for the end of which child.
    askers: NumberMap<Key, Vec<Asker>>,
    /// What is still to be done; empty between two undertakings, and kept because every start fills it.
    effects: VecDeque<Effect>,
    start_error: Option<StartError>,
}

/// Starts the supervisor, without children.
pub(super) async fn start(
    ctx: StartCtx,
    spec: Arc<DynamicSupervisorSpec>,
    shared: Arc<DynamicShared>,
) -> Result<ActorHandle, StartError> {
    spec.validate()?;
    let StartCtx { system, parent, life, .. } = ctx;
    let body = Arc::new(DynamicBody { life: life.clone(), shared, cell: OnceLock::new() });
    let handler = DynamicActor { body: body.clone() };
    match Box::pin(spawn(handler, (system, spec), parent)).await {
        // The task is owned by the supervision tree: it ends with its supervisor.
        Ok((actor, _task)) => Ok(ActorHandle { cell: actor.get_cell(), life, body }),
        Err(error) => Err(start_error(error)),
    }
}

impl ractor::Actor for DynamicActor {
    type Msg = Queued<Command>;
    type State = Brood;
    type Arguments = (System, Arc<DynamicSupervisorSpec>);

    async fn pre_start(
        &self,
        myself: ActorRef<Queued<Command>>,
        (system, spec): Self::Arguments,
    ) -> Result<Brood, ActorProcessingErr> {
        let (cell, probe) = (myself.get_cell(), self.body.life.probe.clone());
        self.body.cell.set(cell.clone()).ok();
        probe.attach(self.body.life.attached(cell.clone()), "DynamicSupervisor", None);
        let handle = DynamicHandle { shared: self.body.shared.clone() };
        probe.supervises(None, spec.intensity, Overseer::Dynamic(handle.clone()));
        self.body.life.register(system.registry(), handle)?;
        drop(probe.take_children());
        let brood = Brood::new(system, myself, probe, &spec);
        self.body.shared.link.plug(cell);
        Ok(brood)
    }

    async fn handle(
        &self,
        _: ActorRef<Queued<Command>>,
        Queued { command, _place }: Queued<Command>,
        brood: &mut Brood,
    ) -> Result<(), ActorProcessingErr> {
        let ended = match command {
            Command::StartChild(spec, asker) => {
                let max_children = self.body.shared.max_children.load(Ordering::Relaxed);
                let (started, ended) = brood.start_child(spec, max_children).await;
                // Whoever asked may have given up; the child stays.
                asker.send(started).ok();
                ended
            }
            // Boxed, as is all that is rarer than a start: ractor moves this future about, all of it.
            Command::TerminateChild(key, probe, asker) => {
                Box::pin(brood.request(key, &probe, DynamicEvent::Terminate(key), asker)).await
            }
            Command::CycleChild(key, probe, asker) => {
                Box::pin(brood.request(key, &probe, DynamicEvent::Cycle(key), asker)).await
            }
            Command::Update(intensity, asker) => {
                brood.machine.set_intensity(intensity);
                brood.children.probe.supervises_by(None, intensity);
                asker.send(()).ok();
                None
            }
            Command::Look(look) => {
                look(brood);
                None
            }
            Command::Stop(reason) => Some(reason),
            Command::Retry { key, token } => Box::pin(brood.drive(DynamicEvent::RetryDue { key, token })).await,
            Command::Stopped { key, reason, gone } => Box::pin(brood.stopped(key, reason, gone)).await,
            Command::ZombieGone { key } => Box::pin(brood.drive(DynamicEvent::Gone(key))).await,
        };
        self.conclude(ended, brood);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Queued<Command>>,
        event: Ended,
        brood: &mut Brood,
    ) -> Result<(), ActorProcessingErr> {
        // Of every child ractor also tells that it runs; that must cost nothing.
        if !matches!(event, Ended::ActorStarted(_)) {
            let ended = Box::pin(brood.exited(event)).await;
            self.conclude(ended, brood);
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Queued<Command>>, brood: &mut Brood) -> Result<(), ActorProcessingErr> {
        let reason = self.body.life.requested();
        if let Some(reason) = brood.drive(DynamicEvent::Shutdown(reason.clone())).await {
            self.body.life.set_exit(reason);
        }
        self.body.life.set_exit(reason);
        Ok(())
    }
}

impl DynamicActor {
    fn conclude(&self, ended: Option<ExitReason>, brood: &Brood) {
        if let Some(reason) = ended {
            self.body.life.request_stop(&brood.myself.get_cell(), reason);
        }
    }
}

impl Brood {
    fn new(system: System, myself: ActorRef<Queued<Command>>, probe: Arc<Probe>, spec: &DynamicSupervisorSpec) -> Self {
        let children = Children::new(system, myself.get_cell(), probe);
        let machine = DynamicMachine::new(spec.intensity);
        let (askers, effects) = (NumberMap::default(), VecDeque::new());
        Self { myself, machine, children, askers, effects, start_error: None }
    }

    async fn start_child(
        &mut self,
        spec: ChildSpec,
        max_children: usize,
    ) -> (Result<ChildRef, StartChildError>, Option<ExitReason>) {
        let Some((key, effects)) = self.machine.admit(spec.rules(), max_children) else {
            return (Err(StartChildError::MaxChildren(max_children)), None);
        };
        self.effects.extend(effects);
        self.children.add(key, spec, None);
        self.start_error = None;
        let ended = self.run().await;
        let result = match (self.children.child_ref(key), self.start_error.take()) {
            (Some(child), _) => Ok(child),
            (None, Some(error)) => Err(StartChildError::Start(error)),
            (None, None) => Err(StartChildError::Ignored),
        };
        (result, ended)
    }

    /// Ends or cycles a child; whoever asked is answered when that is done.
    async fn request(&mut self, key: Key, probe: &Arc<Probe>, event: DynamicEvent, asker: Asker) -> Option<ExitReason> {
        let cycle = matches!(event, DynamicEvent::Cycle(_));
        let refusal = match self.entry(key, probe) {
            None => Some(ChildError::NotFound),
            // What a temporary child is started from is dropped with its first start.
            Some(entry) if cycle && entry.spec.start.is_none() => Some(ChildError::Temporary),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            asker.send(Err(refusal)).ok();
            return None;
        }
        self.askers.entry(key).or_default().push(asker);
        let ended = self.drive(event).await;
        match self.machine.is_zombie(key) {
            Some(true) => self.answer(key, &Err(ChildError::Zombie)),
            // It was not running and is forgotten now.
            None => self.answer(key, &Ok(())),
            // It waited for a retry and runs now.
            Some(false) if cycle && !self.machine.is_stopping(key) => self.answer(key, &Ok(())),
            Some(false) => {}
        }
        ended
    }

    /// A child may have ended by itself.
    async fn exited(&mut self, event: Ended) -> Option<ExitReason> {
        let exit = self.children.exited(event).await?;
        let (key, incarnation, reason, gone) = (exit.key, exit.incarnation, exit.reason, exit.gone);
        self.drive(DynamicEvent::Exited { key, incarnation, reason, gone }).await
    }

    async fn stopped(&mut self, key: Key, reason: ExitReason, gone: bool) -> Option<ExitReason> {
        self.children.stopped(key, &reason, gone);
        let askers = self.askers.remove(&key);
        let ended = self.drive(DynamicEvent::Stopped { key, reason, gone }).await;
        tell(askers, &if gone { Ok(()) } else { Err(ChildError::Zombie) });
        ended
    }

    /// The child, if it is one of ours: keys are per incarnation of the supervisor, and its probe tells which.
    fn entry(&self, key: Key, probe: &Arc<Probe>) -> Option<&Entry> {
        self.children.get(key).filter(|entry| Arc::ptr_eq(&entry.probe, probe))
    }

    async fn drive(&mut self, event: DynamicEvent) -> Option<ExitReason> {
        self.step(event);
        self.run().await
    }

    /// Decides what follows from the event.
    fn step(&mut self, event: DynamicEvent) {
        self.effects.extend(self.machine.step(event, self.children.now()));
    }

    /// Carries out effects and what follows from them.
    async fn run(&mut self) -> Option<ExitReason> {
        let mut ended = None;
        while let Some(effect) = self.effects.pop_front() {
            match effect {
                Effect::Start { key, incarnation, restart } => {
                    let event = self.start(key, incarnation, restart).await;
                    self.step(event);
                }
                Effect::Stop { key, shutdown, .. } if self.machine.is_closing() => {
                    ended = Box::pin(self.close(key, shutdown)).await;
                }
                Effect::Exit(reason) => ended = Some(reason),
                other => self.carry_out(other),
            }
        }
        ended
    }

    /// Ends, with this stop as the first: all stops run side by side and are awaited here. Otherwise they run beside
    /// and report back by message.
    async fn close(&mut self, key: Key, shutdown: Shutdown) -> Option<ExitReason> {
        let mut ended = None;
        let mut stopping = FuturesUnordered::new();
        let mut next = Some((key, shutdown));
        loop {
            if let Some((key, shutdown)) = next.take() {
                self.children.cancel(key);
                let handle = self.children.take_running(key);
                stopping.push(async move {
                    match handle {
                        Some(handle) => (key, handle.stop(shutdown).await),
                        None => (key, (ExitReason::Shutdown, true)),
                    }
                });
            }
            match self.effects.pop_front() {
                Some(Effect::Stop { key, shutdown, .. }) => next = Some((key, shutdown)),
                Some(Effect::Exit(reason)) => ended = Some(reason),
                Some(other) => self.carry_out(other),
                None => {
                    let Some((key, (reason, gone))) = stopping.next().await else { return ended };
                    self.children.stopped(key, &reason, gone);
                    self.answer(key, &if gone { Ok(()) } else { Err(ChildError::Zombie) });
                    self.step(DynamicEvent::Stopped { key, reason, gone });
                }
            }
        }
    }

    async fn start(&mut self, key: Key, incarnation: Incarnation, restart: bool) -> DynamicEvent {
        let last_exit = self.children.get(key).and_then(|entry| entry.last_exit.clone());
        let cause = if restart { StartCause::Restart(last_exit) } else { StartCause::Manual };
        match self.children.start(key, incarnation, cause).await {
            Ok(true) => DynamicEvent::Started(key),
            Ok(false) => DynamicEvent::Ignored(key),
            Err(error) => {
                let reason = error.to_string();
                self.start_error = Some(error);
                DynamicEvent::StartFailed { key, reason, gone: self.children.is_gone(key) }
            }
        }
    }

    /// Effects that need no answer now.
    fn carry_out(&mut self, effect: Effect) {
        let myself = self.myself.clone();
        // Messages to itself are refused only when this supervisor is gone.
        match effect {
            Effect::Stop { key, shutdown, .. } => self.children.stop_beside(key, shutdown, move |reason, gone| {
                myself.send_message(Command::Stopped { key, reason, gone }.into()).ok();
            }),
            Effect::Retry { key, token, after, jitter } => self.children.later(key, after, jitter, move || {
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

    fn answer(&mut self, key: Key, answer: &Result<(), ChildError>) {
        tell(self.askers.remove(&key), answer);
    }

    pub(super) fn which(&self) -> Vec<ChildInfo> {
        self.children.keys().filter_map(|key| self.children.info(key)).collect()
    }

    pub(super) fn which_one(&self, child: &ChildRef) -> Option<ChildInfo> {
        self.entry(child.key, child.probe())?;
        self.children.info(child.key)
    }

    pub(super) fn spec(&self, child: &ChildRef) -> Option<ChildSpec> {
        Some(self.entry(child.key, child.probe())?.spec.clone())
    }

    pub(super) fn count(&self) -> ChildCounts {
        let (specs, supervisors) = self.children.count();
        ChildCounts { specs, active: self.machine.active(), supervisors, workers: specs - supervisors }
    }
}

fn tell(askers: Option<Vec<Asker>>, answer: &Result<(), ChildError>) {
    for asker in askers.unwrap_or_default() {
        // Whoever asked may have given up.
        asker.send(answer.clone()).ok();
    }
}

impl Body for DynamicBody {
    fn release(&self) {
        if let Some(cell) = self.cell.get() {
            self.shared.link.unplug(cell);
        }
        self.life.release();
    }
}

impl Drop for DynamicActor {
    fn drop(&mut self) {
        release(&*self.body);
    }
}
