//! The ractor actor of a dynamic supervisor.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ractor::{ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent as Ended};
use tokio::sync::oneshot;

use super::child::{ChildSpec, StartCause, StartCtx};
use super::child_ref::{ChildCounts, ChildRef};
use super::children::Children;
use super::core::{ChildState, DynamicEvent, DynamicMachine, Effect, ExitReason, Incarnation, Key};
use super::dynamic::{DynamicShared, DynamicSupervisorSpec};
use super::error::{ChildError, StartChildError, StartError};
use super::life::{ActorHandle, Body, Life, release};
use super::supervised::{spawn, start_error};
use super::{Probe, System};

/// What a dynamic supervisor is told and asked.
pub(super) enum Command {
    StartChild(Box<ChildSpec>, oneshot::Sender<Result<ChildRef, StartChildError>>),
    TerminateChild(ChildRef, oneshot::Sender<Result<(), ChildError>>),
    Count(oneshot::Sender<ChildCounts>),
    Retry { key: Key, token: u64 },
    Stopped { key: Key, reason: ExitReason, gone: bool },
    ZombieGone { key: Key },
}

struct DynamicActor {
    body: Arc<DynamicBody>,
}

struct DynamicBody {
    life: Arc<Life>,
    shared: Arc<DynamicShared>,
    cell: OnceLock<ActorCell>,
}

struct Brood {
    myself: ActorRef<Command>,
    machine: DynamicMachine,
    children: Children,
    /// Who waits for the end of which child.
    askers: HashMap<Key, Vec<oneshot::Sender<Result<(), ChildError>>>>,
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
    type Msg = Command;
    type State = Brood;
    type Arguments = (System, Arc<DynamicSupervisorSpec>);

    async fn pre_start(
        &self,
        myself: ActorRef<Command>,
        (system, spec): Self::Arguments,
    ) -> Result<Brood, ActorProcessingErr> {
        let (cell, probe) = (myself.get_cell(), self.body.life.probe.clone());
        self.body.cell.set(cell.clone()).ok();
        probe.attach(self.body.life.attached(cell.clone()), "DynamicSupervisor", None);
        probe.supervises(None, spec.intensity);
        drop(probe.take_children());
        let brood = Brood::new(system, myself, probe, &spec);
        self.body.shared.link.plug(cell);
        Ok(brood)
    }

    async fn handle(
        &self,
        _: ActorRef<Command>,
        command: Command,
        brood: &mut Brood,
    ) -> Result<(), ActorProcessingErr> {
        let ended = match command {
            Command::StartChild(spec, asker) => {
                let max_children = self.body.shared.max_children.load(Ordering::Relaxed);
                let (started, ended) = brood.start_child(*spec, max_children).await;
                // Whoever asked may have given up; the child stays.
                asker.send(started).ok();
                ended
            }
            Command::TerminateChild(child, asker) => brood.terminate(&child, asker).await,
            Command::Count(asker) => {
                asker.send(brood.count()).ok();
                None
            }
            Command::Retry { key, token } => brood.drive(DynamicEvent::RetryDue { key, token }).await,
            Command::Stopped { key, reason, gone } => brood.stopped(key, reason, gone).await,
            Command::ZombieGone { key } => brood.drive(DynamicEvent::Gone(key)).await,
        };
        self.conclude(ended, brood);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Command>,
        event: Ended,
        brood: &mut Brood,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(exit) = brood.children.exited(event).await {
            let (key, incarnation, reason, gone) = (exit.key, exit.incarnation, exit.reason, exit.gone);
            let ended = brood.drive(DynamicEvent::Exited { key, incarnation, reason, gone }).await;
            self.conclude(ended, brood);
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Command>, brood: &mut Brood) -> Result<(), ActorProcessingErr> {
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
    fn new(system: System, myself: ActorRef<Command>, probe: Arc<Probe>, spec: &DynamicSupervisorSpec) -> Self {
        let children = Children::new(system, myself.get_cell(), probe);
        let machine = DynamicMachine::new(spec.intensity);
        Self { myself, machine, children, askers: HashMap::new(), start_error: None }
    }

    async fn start_child(
        &mut self,
        spec: ChildSpec,
        max_children: usize,
    ) -> (Result<ChildRef, StartChildError>, Option<ExitReason>) {
        let Some((key, effects)) = self.machine.admit(spec.rules.clone(), max_children) else {
            return (Err(StartChildError::MaxChildren(max_children)), None);
        };
        self.children.add(key, spec, None);
        self.start_error = None;
        let ended = self.run(effects.into()).await;
        let handle = self.children.get(key).and_then(|entry| entry.handle.clone());
        let result = match (handle, self.start_error.take()) {
            (Some(handle), _) => Ok(ChildRef::new(key, handle)),
            (None, Some(error)) => Err(StartChildError::Start(error)),
            (None, None) => Err(StartChildError::Ignored),
        };
        (result, ended)
    }

    async fn terminate(
        &mut self,
        child: &ChildRef,
        asker: oneshot::Sender<Result<(), ChildError>>,
    ) -> Option<ExitReason> {
        let key = child.key;
        // Keys are per incarnation of the supervisor; the probe tells whether it is one of ours.
        let known = self.children.get(key).is_some_and(|entry| Arc::ptr_eq(&entry.probe, child.probe()));
        if !known {
            asker.send(Err(ChildError::NotFound)).ok();
            return None;
        }
        self.askers.entry(key).or_default().push(asker);
        let ended = self.drive(DynamicEvent::Terminate(key)).await;
        match self.machine.is_zombie(key) {
            Some(true) => self.answer(key, &Err(ChildError::Zombie)),
            // It was not running and is forgotten now.
            None => self.answer(key, &Ok(())),
            Some(false) => {}
        }
        ended
    }

    async fn stopped(&mut self, key: Key, reason: ExitReason, gone: bool) -> Option<ExitReason> {
        self.children.stopped(key, &reason, gone);
        self.answer(key, &if gone { Ok(()) } else { Err(ChildError::Zombie) });
        self.drive(DynamicEvent::Stopped { key, reason, gone }).await
    }

    async fn drive(&mut self, event: DynamicEvent) -> Option<ExitReason> {
        let effects = self.machine.step(event, self.children.now());
        self.run(effects.into()).await
    }

    /// Carries out effects and what follows from them. While the supervisor ends, all stops run side by side and are
    /// awaited here; otherwise they run beside and report back by message.
    async fn run(&mut self, mut effects: VecDeque<Effect>) -> Option<ExitReason> {
        let mut ended = None;
        let mut stopping = FuturesUnordered::new();
        loop {
            while let Some(effect) = effects.pop_front() {
                match effect {
                    Effect::Start { key, incarnation, restart } => {
                        let event = self.start(key, incarnation, restart).await;
                        effects.extend(self.machine.step(event, self.children.now()));
                    }
                    Effect::Stop { key, shutdown, .. } if self.machine.is_closing() => {
                        self.children.cancel(key);
                        let handle = self.children.take_running(key);
                        stopping.push(async move {
                            match handle {
                                Some(handle) => (key, handle.stop(shutdown).await),
                                None => (key, (ExitReason::Shutdown, true)),
                            }
                        });
                    }
                    Effect::Exit(reason) => ended = Some(reason),
                    other => self.carry_out(other),
                }
            }
            let Some((key, (reason, gone))) = stopping.next().await else { return ended };
            self.children.stopped(key, &reason, gone);
            self.answer(key, &if gone { Ok(()) } else { Err(ChildError::Zombie) });
            let event = DynamicEvent::Stopped { key, reason, gone };
            effects.extend(self.machine.step(event, self.children.now()));
        }
    }

    async fn start(&mut self, key: Key, incarnation: Incarnation, restart: bool) -> DynamicEvent {
        let last_exit = self.children.get(key).and_then(|entry| entry.last_exit.clone());
        let cause = if restart { StartCause::Restart(last_exit) } else { StartCause::Manual };
        match self.children.start(key, incarnation, cause).await {
            Ok(true) => DynamicEvent::Started(key),
            Ok(false) => DynamicEvent::Ignored(key),
            Err(error) => {
                let text = error.to_string();
                self.start_error = Some(error);
                DynamicEvent::StartFailed(key, text)
            }
        }
    }

    /// Effects that need no answer now.
    fn carry_out(&mut self, effect: Effect) {
        let myself = self.myself.clone();
        // Messages to itself are refused only when this supervisor is gone.
        match effect {
            Effect::Stop { key, shutdown, .. } => self.children.stop_beside(key, shutdown, move |reason, gone| {
                myself.send_message(Command::Stopped { key, reason, gone }).ok();
            }),
            Effect::Retry { key, token, after, jitter } => self.children.later(key, after, jitter, move || {
                myself.send_message(Command::Retry { key, token }).ok();
            }),
            Effect::CancelRetry { key } => self.children.cancel(key),
            Effect::Mark { key, state } => {
                self.children.mark(key, state);
                if state == ChildState::Zombie {
                    self.children.watch_zombie(key, move || {
                        myself.send_message(Command::ZombieGone { key }).ok();
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
        for asker in self.askers.remove(&key).unwrap_or_default() {
            asker.send(answer.clone()).ok();
        }
    }

    fn count(&self) -> ChildCounts {
        let (specs, supervisors) = self.children.count();
        ChildCounts { specs, active: self.machine.active(), supervisors, workers: specs - supervisors }
    }
}

impl Body for DynamicBody {
    fn release(&self) {
        if let Some(cell) = self.cell.get() {
            self.shared.link.unplug(cell);
        }
        self.life.probe.detach(self.life.incarnation);
        self.life.down.cancel();
    }
}

impl Drop for DynamicActor {
    fn drop(&mut self) {
        release(&*self.body);
    }
}
