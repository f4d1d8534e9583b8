//! The decisions of a static supervisor: OTP's `supervisor` without its processes.
//!
//! `step` takes one event and returns effects in order. When the last one is `Start` or `Stop`, the next event must be
//! its answer; events of other kinds that come in between are kept until the undertaking is over. A restart that fails
//! is tried again through `Retry`, so the supervisor serves requests between attempts.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::effect::{failed_repeatedly, is_expected};
use super::intensity::Window;
use super::plan::{self, Mode, Slot, SlotState, Slots, Step};
use super::{
    AutoShutdown, ChildId, ChildRules, ChildState, Effect, ErrorInfo, ExitReason, Incarnation, Intensity, Key,
    OnZombie, Report, Request, RequestError, Restart, Strategy, Update,
};

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// Start all children.
    Boot,
    /// Answer: the child runs.
    Started,
    /// Answer: the child chose not to run.
    Ignored,
    /// Answer: the child could not be started. `gone` is false when something that the start began is still alive.
    StartFailed { reason: String, gone: bool },
    /// Answer: the child stopped, or (`gone` false) could not be killed.
    Stopped { reason: ExitReason, gone: bool },
    /// A child ended by itself. `gone` is false when descendants of it are still alive.
    Exited { key: Key, incarnation: Incarnation, reason: ExitReason, gone: bool },
    /// The wait for this retry is over.
    RetryDue { key: Key, token: u64 },
    /// A zombie is dead.
    Gone { key: Key },
    /// Someone asks for something.
    Request(Request),
    /// Stop everything and end.
    Shutdown(ExitReason),
}

#[derive(Debug)]
pub(crate) struct Machine {
    strategy: Strategy,
    auto_shutdown: AutoShutdown,
    window: Window,
    slots: Slots,
    by_id: HashMap<ChildId, Key>,
    next_key: u64,
    mode: Mode,
    steps: VecDeque<Step>,
    waiting: Option<Step>,
    deferred: VecDeque<Event>,
    out: Vec<Effect>,
}

impl Machine {
    /// A supervisor of these children, each with the last incarnation its path ever had. The specification must have
    /// been validated. Keys are given in list order from 0.
    pub(crate) fn new(
        strategy: Strategy,
        intensity: Intensity,
        auto_shutdown: AutoShutdown,
        children: impl IntoIterator<Item = (ChildRules, Incarnation)>,
    ) -> Self {
        let mut machine = Self {
            strategy,
            auto_shutdown,
            window: Window::new(intensity),
            slots: Slots::new(),
            by_id: HashMap::new(),
            next_key: 0,
            mode: Mode::Idle,
            steps: VecDeque::new(),
            waiting: None,
            deferred: VecDeque::new(),
            out: Vec::new(),
        };
        for (rules, incarnation) in children {
            machine.insert(rules, incarnation);
        }
        machine
    }

    /// Takes one event at `now` and tells what to do.
    pub(crate) fn step(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        self.handle(event, now);
        while self.mode == Mode::Idle
            && let Some(event) = self.deferred.pop_front()
        {
            self.handle(event, now);
        }
        std::mem::take(&mut self.out)
    }

    /// The child that has this id now.
    pub(crate) fn key_of(&self, id: &ChildId) -> Option<Key> {
        self.by_id.get(id).copied()
    }

    /// Children in start order.
    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = Key> {
        self.slots.keys().copied()
    }

    /// What the supervisor does once significant children ended.
    pub(crate) fn auto_shutdown(&self) -> AutoShutdown {
        self.auto_shutdown
    }

    /// Whom an orderly restart of this child would stop, itself included.
    pub(crate) fn affected(&self, key: Key) -> Vec<Key> {
        plan::affected(self.strategy, &self.slots, key)
    }

    /// The key the next new child will have.
    pub(crate) fn next_key(&self) -> Key {
        Key(self.next_key)
    }

    /// How many children run.
    pub(crate) fn active(&self) -> usize {
        self.slots.values().filter(|slot| slot.state == SlotState::Running).count()
    }

    fn handle(&mut self, event: Event, now: Duration) {
        match event {
            Event::Started | Event::Ignored | Event::StartFailed { .. } | Event::Stopped { .. } => {
                self.answered(event, now)
            }
            // An end that was ordered comes before everything else still planned.
            Event::Shutdown(reason) if self.waiting.is_none() => self.close(reason),
            _ if self.mode == Mode::Closed => return,
            _ if self.mode != Mode::Idle => return self.deferred.push_back(event),
            Event::Boot => {
                self.steps = self.slots.keys().copied().map(Step::Start).collect();
                self.mode = Mode::Boot;
            }
            Event::Exited { key, incarnation, reason, gone } => self.exited(key, incarnation, reason, gone, now),
            Event::RetryDue { key, token } => self.retry_due(key, token, now),
            Event::Gone { key } => self.zombie_gone(key),
            Event::Request(request) => self.request(request),
            Event::Shutdown(reason) => self.close(reason),
        }
        self.advance();
    }

    /// Runs steps until one needs an answer or none is left.
    fn advance(&mut self) {
        while self.waiting.is_none() {
            match self.steps.pop_front() {
                Some(Step::Stop(key)) => self.stop(key),
                Some(Step::Start(key)) => self.start(key),
                Some(Step::Delay(key)) => self.retry(key, true),
                None => return self.finish(),
            }
        }
    }

    fn stop(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        match slot.state {
            SlotState::Running => {
                self.out.push(Effect::Mark { key, state: ChildState::Stopping });
                let shutdown = slot.rules.shutdown;
                self.out.push(Effect::Stop { key, incarnation: slot.incarnation, shutdown });
                self.waiting = Some(Step::Stop(key));
            }
            SlotState::Restarting { .. } => {
                slot.token += 1;
                self.out.push(Effect::CancelRetry { key });
                self.settle(key, SlotState::Down);
            }
            SlotState::Zombie { .. } => slot.state = SlotState::Zombie { resume: false },
            SlotState::Down => {}
        }
    }

    fn start(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        match slot.state {
            SlotState::Running => {}
            // It is not recorded, so nobody waits for it.
            SlotState::Zombie { .. } if slot.forget_when_gone => {}
            SlotState::Zombie { .. } => {
                // Two incarnations must never work at once: the rest of the restart waits.
                slot.state = SlotState::Zombie { resume: true };
                self.steps.clear();
            }
            SlotState::Down | SlotState::Restarting { .. } => {
                slot.token += 1;
                slot.incarnation = slot.incarnation.next();
                let (incarnation, restart) = (slot.incarnation, self.mode == Mode::Restart);
                self.out.push(Effect::Mark { key, state: ChildState::Starting });
                self.out.push(Effect::Start { key, incarnation, restart });
                self.waiting = Some(Step::Start(key));
            }
        }
    }

    fn answered(&mut self, event: Event, now: Duration) {
        match (self.waiting.take(), event) {
            (Some(Step::Start(key)), Event::Started) => self.started(key, now),
            (Some(Step::Start(key)), Event::Ignored) => {
                if self.restart_of(key) == Some(Restart::Temporary) {
                    self.forget(key);
                } else {
                    self.settle(key, SlotState::Down);
                }
            }
            (Some(Step::Start(key)), Event::StartFailed { reason, gone }) => self.start_failed(key, reason, gone, now),
            (Some(Step::Stop(key)), Event::Stopped { reason, gone }) => self.stopped(key, reason, gone),
            // Not an answer to what was asked: the adapter broke its word; wait on.
            (waiting, _) => self.waiting = waiting,
        }
    }

    fn started(&mut self, key: Key, now: Duration) {
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.running_since = now;
        }
        self.settle(key, SlotState::Running);
        if matches!(self.mode, Mode::Boot | Mode::Restart) {
            self.out.push(Effect::Report(Report::Progress { key }));
        }
    }

    fn start_failed(&mut self, key: Key, reason: String, gone: bool, now: Duration) {
        self.out.push(Effect::Report(Report::StartError { key, reason }));
        let on_zombie = self.slots.get(&key).map_or(OnZombie::Replace, |slot| slot.rules.on_zombie);
        if !gone {
            self.out.push(Effect::Report(Report::Zombie { key }));
        }
        let held = !gone && on_zombie != OnZombie::Replace;
        self.settle(key, if held { SlotState::Zombie { resume: false } } else { SlotState::Down });
        match self.mode {
            Mode::Boot => {
                self.steps = plan::stop_all(&self.slots).collect();
                self.mode = Mode::Unwind(key);
            }
            Mode::Restart | Mode::Cycle(_) => {
                if self.mode != Mode::Restart {
                    self.out.push(Effect::Reply(Err(RequestError::Start)));
                }
                self.steps.clear();
                self.mode = Mode::Restart;
                match on_zombie {
                    OnZombie::Escalate if held => self.escalate(key),
                    _ if held => self.retry_when_gone(key, now),
                    _ => self.retry(key, false),
                }
            }
            Mode::Request { new, .. } => {
                self.out.push(Effect::Reply(Err(RequestError::Start)));
                self.mode = Mode::Idle;
                match self.slots.get_mut(&key) {
                    _ if held && on_zombie == OnZombie::Escalate => self.escalate(key),
                    // A child that never ran is not recorded, but as long as something of it lives.
                    Some(slot) if new && held => slot.forget_when_gone = true,
                    _ if new => self.forget(key),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn stopped(&mut self, key: Key, reason: ExitReason, gone: bool) {
        let Some(slot) = self.slots.get(&key) else { return };
        let rules = &slot.rules;
        let temporary = rules.restart == Restart::Temporary;
        let on_zombie = rules.on_zombie;
        if !gone {
            self.out.push(Effect::Report(Report::Zombie { key }));
        } else if !is_expected(rules.restart, rules.shutdown, &reason) {
            self.out.push(Effect::Report(Report::ShutdownError { key, reason }));
        }
        if !gone && on_zombie != OnZombie::Replace {
            self.settle(key, SlotState::Zombie { resume: false });
            if on_zombie == OnZombie::Escalate {
                self.escalate(key);
            }
        } else if temporary {
            self.forget(key);
        } else {
            self.settle(key, SlotState::Down);
        }
    }

    fn exited(&mut self, key: Key, incarnation: Incarnation, reason: ExitReason, gone: bool, now: Duration) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        if slot.state != SlotState::Running || slot.incarnation != incarnation {
            return;
        }
        if let Some(backoff) = slot.rules.backoff {
            let lived = now.saturating_sub(slot.running_since);
            slot.failures = if lived >= backoff.reset_after { 0 } else { slot.failures };
        }
        let (restart, significant, on_zombie) = (slot.rules.restart, slot.rules.significant, slot.rules.on_zombie);
        let comes_back = match restart {
            Restart::Permanent => true,
            Restart::Transient => !reason.is_clean(),
            Restart::Temporary => false,
        };
        if restart == Restart::Permanent || !reason.is_clean() {
            self.out.push(Effect::Report(Report::ChildTerminated { key, reason: reason.clone() }));
        }
        let mut held = false;
        if !gone {
            self.out.push(Effect::Report(Report::Zombie { key }));
            match on_zombie {
                OnZombie::Replace => {}
                OnZombie::Hold => held = true,
                OnZombie::Escalate => {
                    self.settle(key, SlotState::Zombie { resume: false });
                    return self.escalate(key);
                }
            }
        }
        match (held, restart) {
            (true, _) => self.settle(key, SlotState::Zombie { resume: false }),
            (false, Restart::Temporary) => self.forget(key),
            (false, _) => self.settle(key, SlotState::Down),
        }
        if comes_back {
            self.restart(key, &reason, now);
        } else if significant {
            self.significant_ended();
        }
    }

    /// Counts one incident and restarts by the strategy, at once or after the child's backoff.
    fn restart(&mut self, key: Key, reason: &ExitReason, now: Duration) {
        self.out.push(Effect::Counted);
        if !self.window.allows(now) {
            return self.melt_down(key, reason.clone());
        }
        let Some(slot) = self.slots.get(&key) else { return };
        let delayed = slot.rules.backoff.is_some() && slot.state == SlotState::Down;
        self.run(key);
        if delayed {
            // Whoever depends on the child is stopped now; the starts wait.
            self.steps.retain(|step| matches!(step, Step::Stop(_)));
            self.steps.push_back(Step::Delay(key));
        }
    }

    fn run(&mut self, pivot: Key) {
        self.steps = plan::restart(self.strategy, &self.slots, pivot).into();
        self.mode = Mode::Restart;
    }

    fn retry(&mut self, key: Key, counted: bool) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        slot.token += 1;
        slot.failures = slot.failures.saturating_add(1);
        let token = slot.token;
        let (after, jitter) = match slot.rules.backoff {
            Some(backoff) => (backoff.ceiling(slot.failures), backoff.jitter),
            None => (Duration::ZERO, false),
        };
        self.settle(key, SlotState::Restarting { counted });
        self.out.push(Effect::Retry { key, token, after, jitter });
    }

    /// Counts a restart that failed at once: it is tried again as soon as nothing of it is left.
    fn retry_when_gone(&mut self, key: Key, now: Duration) {
        self.out.push(Effect::Counted);
        if !self.window.allows(now) {
            return self.melt_down(key, failed_repeatedly());
        }
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.state = SlotState::Zombie { resume: true };
        }
    }

    fn retry_due(&mut self, key: Key, token: u64, now: Duration) {
        let Some(slot) = self.slots.get(&key) else { return };
        let SlotState::Restarting { counted } = slot.state else { return };
        if slot.token != token {
            return;
        }
        if !counted {
            self.out.push(Effect::Counted);
            if !self.window.allows(now) {
                return self.melt_down(key, failed_repeatedly());
            }
        }
        self.run(key);
    }

    fn zombie_gone(&mut self, key: Key) {
        let Some(slot) = self.slots.get(&key) else { return };
        let SlotState::Zombie { resume } = slot.state else { return };
        let forgotten = slot.rules.restart == Restart::Temporary || slot.forget_when_gone;
        self.out.push(Effect::Report(Report::ZombieGone { key }));
        if forgotten {
            return self.forget(key);
        }
        self.settle(key, SlotState::Down);
        if resume {
            self.steps = plan::resume(self.strategy, &self.slots, key).into();
            self.mode = Mode::Restart;
        }
    }

    fn significant_ended(&mut self) {
        let another_runs = || {
            self.slots.values().any(|slot| {
                let comes_back =
                    matches!(slot.state, SlotState::Restarting { .. } | SlotState::Zombie { resume: true });
                slot.rules.significant && (comes_back || slot.state == SlotState::Running)
            })
        };
        let ends = match self.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => !another_runs(),
        };
        if ends {
            self.close(ExitReason::Shutdown);
        }
    }

    fn melt_down(&mut self, key: Key, reason: ExitReason) {
        self.out.push(Effect::Report(Report::MaxIntensity { key, reason }));
        self.close(ExitReason::Shutdown);
    }

    fn escalate(&mut self, key: Key) {
        let id = self.slots.get(&key).map(|slot| slot.rules.id.to_string()).unwrap_or_default();
        let text = format!("child \"{id}\" was killed but does not end");
        self.close(ExitReason::Error(Box::new(ErrorInfo::text(text))));
    }

    fn close(&mut self, reason: ExitReason) {
        match self.mode {
            // The first reason stands: a supervisor that melts down while it is being stopped still melts down, and of
            // a boot that failed its cause is told. Everything is being stopped in either case.
            Mode::Closing(_) | Mode::Closed | Mode::Unwind(_) => return,
            // Only a zombie ends a supervisor in the middle of what somebody asked for.
            Mode::Request { .. } | Mode::Cycle(_) => self.out.push(Effect::Reply(Err(RequestError::Zombie))),
            Mode::Idle | Mode::Boot | Mode::Restart => {}
        }
        self.steps = plan::stop_all(&self.slots).collect();
        self.mode = Mode::Closing(reason);
    }

    fn request(&mut self, request: Request) {
        match self.try_request(request) {
            Ok(None) => {}
            Ok(Some(key)) => self.out.push(Effect::Reply(Ok(Some(key)))),
            Err(error) => self.out.push(Effect::Reply(Err(error))),
        }
    }

    /// Answers at once with `Some` or an error, or begins the work (`None`) and answers when it is done.
    fn try_request(&mut self, request: Request) -> Result<Option<Key>, RequestError> {
        match request {
            Request::Start(rules, incarnation) => {
                match self.find(&rules.id).map(|(_, slot)| slot.state) {
                    Some(SlotState::Running) => return Err(RequestError::AlreadyStarted),
                    Some(_) => return Err(RequestError::AlreadyPresent),
                    None => {}
                }
                let key = self.insert(rules, incarnation);
                self.begin(Step::Start(key), Mode::Request { key, new: true })
            }
            Request::Terminate(id) => {
                let (key, _) = self.find(&id).ok_or(RequestError::NotFound)?;
                self.begin(Step::Stop(key), Mode::Request { key, new: false })
            }
            Request::Restart(id) => {
                let key = self.find_down(&id)?;
                self.begin(Step::Start(key), Mode::Request { key, new: false })
            }
            Request::Delete(id) => {
                let key = self.find_down(&id)?;
                self.forget(key);
                return Ok(Some(key));
            }
            Request::Cycle(id) => {
                let (key, slot) = self.find(&id).ok_or(RequestError::NotFound)?;
                match (slot.state, slot.rules.restart) {
                    (SlotState::Zombie { .. }, _) => return Err(RequestError::Zombie),
                    (_, Restart::Temporary) => return Err(RequestError::Temporary),
                    _ => {}
                }
                self.steps = plan::cycle(self.strategy, &self.slots, key).into();
                self.mode = Mode::Cycle(key);
            }
            Request::Update(update) => {
                self.update(*update);
                self.out.push(Effect::Reply(Ok(None)));
            }
        }
        Ok(None)
    }

    fn update(&mut self, update: Update) {
        self.strategy = update.strategy;
        self.auto_shutdown = update.auto_shutdown;
        self.window.set(update.intensity);
        for (rules, incarnation) in update.children {
            match self.key_of(&rules.id).and_then(|key| self.slots.get_mut(&key)) {
                Some(slot) => {
                    slot.rules = rules;
                    slot.forget_when_gone = false;
                }
                None => {
                    let key = self.insert(rules, incarnation);
                    self.settle(key, SlotState::Down);
                }
            }
        }
    }

    fn begin(&mut self, step: Step, mode: Mode) {
        self.steps.push_back(step);
        self.mode = mode;
    }

    fn find(&self, id: &ChildId) -> Option<(Key, &Slot)> {
        let key = self.key_of(id)?;
        self.slots.get(&key).map(|slot| (key, slot))
    }

    fn find_down(&self, id: &ChildId) -> Result<Key, RequestError> {
        let (key, slot) = self.find(id).ok_or(RequestError::NotFound)?;
        match slot.state {
            SlotState::Down => Ok(key),
            SlotState::Running => Err(RequestError::Running),
            SlotState::Restarting { .. } => Err(RequestError::Restarting),
            SlotState::Zombie { .. } => Err(RequestError::Zombie),
        }
    }

    /// All steps are done.
    fn finish(&mut self) {
        match std::mem::replace(&mut self.mode, Mode::Idle) {
            Mode::Idle | Mode::Restart => {}
            Mode::Boot => self.out.push(Effect::Booted),
            Mode::Unwind(key) => {
                self.out.push(Effect::BootFailed { key });
                self.mode = Mode::Closed;
            }
            Mode::Request { key, .. } => {
                let is_zombie = matches!(self.slots.get(&key), Some(Slot { state: SlotState::Zombie { .. }, .. }));
                self.reply_unless_zombie(key, is_zombie);
            }
            // Behind one of them that is to be started once its old incarnation is gone all others wait too.
            Mode::Cycle(key) => {
                let waits =
                    |key| matches!(self.slots.get(key), Some(slot) if slot.state == SlotState::Zombie { resume: true });
                self.reply_unless_zombie(key, self.affected(key).iter().any(waits));
            }
            Mode::Closing(reason) => {
                self.out.push(Effect::Exit(reason));
                self.mode = Mode::Closed;
            }
            Mode::Closed => self.mode = Mode::Closed,
        }
    }

    fn reply_unless_zombie(&mut self, key: Key, zombie: bool) {
        self.out.push(Effect::Reply(if zombie { Err(RequestError::Zombie) } else { Ok(Some(key)) }));
    }

    fn settle(&mut self, key: Key, state: SlotState) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        slot.state = state;
        let state = match state {
            SlotState::Down => ChildState::Down,
            SlotState::Running => ChildState::Running,
            SlotState::Restarting { .. } => ChildState::Restarting,
            SlotState::Zombie { .. } => ChildState::Zombie,
        };
        self.out.push(Effect::Mark { key, state });
    }

    fn restart_of(&self, key: Key) -> Option<Restart> {
        self.slots.get(&key).map(|slot| slot.rules.restart)
    }

    fn insert(&mut self, rules: ChildRules, incarnation: Incarnation) -> Key {
        let key = Key(self.next_key);
        self.next_key += 1;
        self.by_id.insert(rules.id.clone(), key);
        self.slots.insert(key, Slot::new(rules, incarnation));
        key
    }

    fn forget(&mut self, key: Key) {
        if let Some(slot) = self.slots.remove(&key) {
            self.by_id.remove(&slot.rules.id);
            self.out.push(Effect::Forget { key });
        }
    }
}
