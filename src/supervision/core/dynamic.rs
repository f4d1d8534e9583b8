//! The decisions of a dynamic supervisor (Elixir's `DynamicSupervisor`): children come and go by request, each for
//! itself, up to a limit.
//!
//! Running, restarting, stopping and held zombie children occupy a place; a restart never needs a free one. Starts are
//! one at a time, stops run side by side. Every operation is O(1), so a hundred thousand children cost no more each.

use std::time::Duration;
use std::vec::Drain;

use super::effect::{failed_repeatedly, is_expected};
use super::intensity::Window;
use super::{
    Backoff, ChildRules, ChildState, Effect, ErrorInfo, ExitReason, Incarnation, Intensity, Key, NumberMap, OnZombie,
    Report, Restart, Shutdown,
};

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DynamicEvent {
    /// Answer: the child runs.
    Started(Key),
    /// Answer: the child chose not to run.
    Ignored(Key),
    /// Answer: the child could not be started. `gone` is false when something that the start began is still alive.
    StartFailed { key: Key, reason: String, gone: bool },
    /// Answer: the child stopped, or (`gone` false) could not be killed.
    Stopped { key: Key, reason: ExitReason, gone: bool },
    /// A child ended by itself. `gone` is false when descendants of it are still alive.
    Exited { key: Key, incarnation: Incarnation, reason: ExitReason, gone: bool },
    /// The wait for this retry is over.
    RetryDue { key: Key, token: u64 },
    /// A zombie is dead.
    Gone(Key),
    /// Stop this child.
    Terminate(Key),
    /// Stop this child in order and start it again; counts as no failure.
    Cycle(Key),
    /// Stop everything and end.
    Shutdown(ExitReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Starting,
    Running,
    Restarting { counted: bool },
    Stopping,
    Zombie { resume: bool },
}

/// What is decided about one child. There may be a hundred thousand, so only what decisions need is kept.
#[derive(Debug)]
struct Slot {
    restart: Restart,
    on_zombie: OnZombie,
    shutdown: Shutdown,
    backoff: Option<Box<Backoff>>,
    state: SlotState,
    incarnation: Incarnation,
    token: u64,
    failures: u32,
    running_since: Duration,
    /// It ran before, so a start now is a restart.
    ran: bool,
    /// It is stopped only to be started again.
    again: bool,
}

#[derive(Debug)]
pub(crate) struct DynamicMachine {
    window: Window,
    slots: NumberMap<Key, Slot>,
    next_key: u64,
    /// How many are being stopped, so that the end is noticed without a scan.
    stopping: usize,
    closing: Option<ExitReason>,
    closed: bool,
    /// What is told next; empty between two events, and kept because every start fills it.
    out: Vec<Effect>,
}

impl DynamicMachine {
    pub(crate) fn new(intensity: Intensity) -> Self {
        let window = Window::new(intensity);
        let slots = NumberMap::default();
        Self { window, slots, next_key: 0, stopping: 0, closing: None, closed: false, out: Vec::new() }
    }

    /// Whether this child is a zombie; `None` when it is not known any more.
    pub(crate) fn is_zombie(&self, key: Key) -> Option<bool> {
        self.slots.get(&key).map(|slot| matches!(slot.state, SlotState::Zombie { .. }))
    }

    /// Whether this child is being stopped.
    pub(crate) fn is_stopping(&self, key: Key) -> bool {
        self.slots.get(&key).is_some_and(|slot| slot.state == SlotState::Stopping)
    }

    /// Whether it is ending: from then on stops must be awaited together and nothing is started.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Counts restarts by other limits from now on; what was counted stays.
    pub(crate) fn set_intensity(&mut self, intensity: Intensity) {
        self.window.set(intensity);
    }

    /// How many children run or are being started.
    pub(crate) fn active(&self) -> usize {
        let active =
            |slot: &&Slot| matches!(slot.state, SlotState::Starting | SlotState::Running | SlotState::Stopping);
        self.slots.values().filter(active).count()
    }

    /// Takes a new child in, unless all `max_children` places are occupied. The effects start it.
    pub(crate) fn admit(&mut self, rules: &ChildRules, max_children: usize) -> Option<(Key, Drain<'_, Effect>)> {
        if self.slots.len() >= max_children || self.is_closing() {
            return None;
        }
        let key = Key(self.next_key);
        self.next_key += 1;
        let slot = Slot {
            restart: rules.restart,
            on_zombie: rules.on_zombie,
            shutdown: rules.shutdown,
            backoff: rules.backoff.map(Box::new),
            state: SlotState::Starting,
            incarnation: Incarnation(0),
            token: 0,
            failures: 0,
            running_since: Duration::ZERO,
            ran: false,
            again: false,
        };
        self.slots.insert(key, slot);
        self.start(key);
        Some((key, self.out.drain(..)))
    }

    /// Takes one event at `now` and tells what to do.
    pub(crate) fn step(&mut self, event: DynamicEvent, now: Duration) -> Drain<'_, Effect> {
        match event {
            DynamicEvent::Started(key) => self.started(key, now),
            DynamicEvent::Ignored(key) => self.forget(key),
            DynamicEvent::StartFailed { key, reason, gone } => self.start_failed(key, reason, gone, now),
            DynamicEvent::Stopped { key, reason, gone } => self.stopped(key, reason, gone),
            DynamicEvent::Exited { key, incarnation, reason, gone } => self.exited(key, incarnation, reason, gone, now),
            DynamicEvent::RetryDue { key, token } => self.retry_due(key, token, now),
            DynamicEvent::Gone(key) => self.zombie_gone(key),
            DynamicEvent::Terminate(key) => self.terminate(key),
            DynamicEvent::Cycle(key) => self.cycle(key),
            DynamicEvent::Shutdown(reason) => self.close(reason),
        }
        self.finish();
        self.out.drain(..)
    }

    fn start(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        slot.state = SlotState::Starting;
        slot.token += 1;
        slot.incarnation = slot.incarnation.next();
        let restart = slot.ran && !std::mem::take(&mut slot.again);
        let incarnation = slot.incarnation;
        self.out.push(Effect::Mark { key, state: ChildState::Starting });
        self.out.push(Effect::Start { key, incarnation, restart });
    }

    fn started(&mut self, key: Key, now: Duration) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        if slot.state != SlotState::Starting {
            return;
        }
        slot.running_since = now;
        let restarted = std::mem::replace(&mut slot.ran, true);
        self.settle(key, SlotState::Running);
        if restarted {
            self.out.push(Effect::Report(Report::Progress { key }));
        }
    }

    fn start_failed(&mut self, key: Key, reason: String, gone: bool, now: Duration) {
        let Some(slot) = self.slots.get(&key) else { return };
        let (ran, on_zombie) = (slot.ran, slot.on_zombie);
        self.out.push(Effect::Report(Report::StartError { key, reason }));
        if !ran {
            // What never ran is not recorded, but keeps its place as long as something of it lives.
            if gone || !self.haunt(key, on_zombie) {
                self.forget(key);
            }
            return;
        }
        if gone || !self.haunt(key, on_zombie) {
            return self.retry(key, false);
        }
        if self.is_closing() {
            return;
        }
        // Counted at once: it is tried again as soon as nothing of it is left.
        self.out.push(Effect::Counted);
        if !self.window.allows(now) {
            return self.melt_down(key, failed_repeatedly(), true);
        }
        self.settle(key, SlotState::Zombie { resume: true });
    }

    fn exited(&mut self, key: Key, incarnation: Incarnation, reason: ExitReason, gone: bool, now: Duration) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        if slot.state != SlotState::Running || slot.incarnation != incarnation {
            return;
        }
        if let Some(backoff) = &slot.backoff {
            let lived = now.saturating_sub(slot.running_since);
            slot.failures = if lived >= backoff.reset_after { 0 } else { slot.failures };
        }
        let (restart, on_zombie) = (slot.restart, slot.on_zombie);
        let comes_back = match restart {
            Restart::Permanent => true,
            Restart::Transient => !reason.is_clean(),
            Restart::Temporary => false,
        };
        if restart == Restart::Permanent || !reason.is_clean() {
            self.out.push(Effect::Report(Report::ChildTerminated { key, reason: reason.clone() }));
        }
        let held = !gone && self.haunt(key, on_zombie);
        if self.is_closing() {
            return;
        }
        if !comes_back {
            if !held {
                self.forget(key);
            }
            return;
        }
        self.out.push(Effect::Counted);
        if !self.window.allows(now) {
            return self.melt_down(key, reason, held);
        }
        if held {
            self.settle(key, SlotState::Zombie { resume: true });
        } else if self.slots.get(&key).is_some_and(|slot| slot.backoff.is_some()) {
            self.retry(key, true);
        } else {
            self.start(key);
        }
    }

    /// Reports a zombie and tells whether it keeps its place.
    fn haunt(&mut self, key: Key, on_zombie: OnZombie) -> bool {
        self.out.push(Effect::Report(Report::Zombie { key }));
        match on_zombie {
            OnZombie::Replace => false,
            OnZombie::Hold => {
                self.settle(key, SlotState::Zombie { resume: false });
                true
            }
            OnZombie::Escalate => {
                self.settle(key, SlotState::Zombie { resume: false });
                self.close(ExitReason::Error(Box::new(ErrorInfo::text("a child was killed but does not end"))));
                true
            }
        }
    }

    fn retry(&mut self, key: Key, counted: bool) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        slot.token += 1;
        slot.failures = slot.failures.saturating_add(1);
        let token = slot.token;
        let (after, jitter) = match &slot.backoff {
            Some(backoff) => (backoff.ceiling(slot.failures), backoff.jitter),
            None => (Duration::ZERO, false),
        };
        self.settle(key, SlotState::Restarting { counted });
        self.out.push(Effect::Retry { key, token, after, jitter });
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
                return self.melt_down(key, failed_repeatedly(), false);
            }
        }
        self.start(key);
    }

    fn zombie_gone(&mut self, key: Key) {
        let Some(slot) = self.slots.get(&key) else { return };
        let SlotState::Zombie { resume } = slot.state else { return };
        self.out.push(Effect::Report(Report::ZombieGone { key }));
        if resume && !self.is_closing() {
            self.start(key);
        } else {
            self.forget(key);
        }
    }

    fn terminate(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        slot.again = false;
        match slot.state {
            SlotState::Running => self.stop(key),
            SlotState::Restarting { .. } => {
                slot.token += 1;
                self.out.push(Effect::CancelRetry { key });
                self.forget(key);
            }
            SlotState::Zombie { .. } => slot.state = SlotState::Zombie { resume: false },
            SlotState::Starting | SlotState::Stopping => {}
        }
    }

    fn cycle(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        match slot.state {
            SlotState::Running => {
                slot.again = true;
                self.stop(key);
            }
            SlotState::Restarting { .. } => {
                slot.again = true;
                self.out.push(Effect::CancelRetry { key });
                self.start(key);
            }
            // One that never ran is not recorded: nobody is to be told of it later.
            SlotState::Zombie { .. } => slot.state = SlotState::Zombie { resume: slot.ran },
            SlotState::Starting | SlotState::Stopping => {}
        }
    }

    fn stop(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        if slot.state != SlotState::Stopping {
            slot.state = SlotState::Stopping;
            self.stopping += 1;
        }
        let (incarnation, shutdown) = (slot.incarnation, slot.shutdown);
        self.out.push(Effect::Mark { key, state: ChildState::Stopping });
        self.out.push(Effect::Stop { key, incarnation, shutdown });
    }

    fn stopped(&mut self, key: Key, reason: ExitReason, gone: bool) {
        let Some(slot) = self.slots.get(&key) else { return };
        if slot.state != SlotState::Stopping {
            return;
        }
        self.stopping -= 1;
        let on_zombie = slot.on_zombie;
        let again = slot.again;
        if gone && !is_expected(slot.restart, slot.shutdown, &reason) {
            self.out.push(Effect::Report(Report::ShutdownError { key, reason }));
        }
        let held = !gone && self.haunt(key, on_zombie);
        match (held, again && !self.is_closing()) {
            (true, true) => self.settle(key, SlotState::Zombie { resume: true }),
            (true, false) => {}
            (false, true) => self.start(key),
            (false, false) => self.forget(key),
        }
    }

    fn melt_down(&mut self, key: Key, reason: ExitReason, held: bool) {
        self.out.push(Effect::Report(Report::MaxIntensity { key, reason }));
        if !held {
            self.forget(key);
        }
        self.close(ExitReason::Shutdown);
    }

    /// Stops all, side by side. Stops already under way are asked for again: whoever waited for them is ending too.
    fn close(&mut self, reason: ExitReason) {
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(reason);
        let mut keys: Vec<Key> = self.slots.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            match self.slots.get(&key).map(|slot| slot.state) {
                Some(SlotState::Running | SlotState::Stopping) => self.stop(key),
                Some(SlotState::Restarting { .. }) => {
                    self.out.push(Effect::CancelRetry { key });
                    self.forget(key);
                }
                Some(SlotState::Starting) => self.forget(key),
                Some(SlotState::Zombie { .. }) | None => {}
            }
        }
    }

    fn finish(&mut self) {
        let Some(reason) = &self.closing else { return };
        if !self.closed && self.stopping == 0 {
            self.out.push(Effect::Exit(reason.clone()));
            self.closed = true;
        }
    }

    fn settle(&mut self, key: Key, state: SlotState) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        slot.state = state;
        let state = match state {
            SlotState::Starting => ChildState::Starting,
            SlotState::Running => ChildState::Running,
            SlotState::Restarting { .. } => ChildState::Restarting,
            SlotState::Stopping => ChildState::Stopping,
            SlotState::Zombie { .. } => ChildState::Zombie,
        };
        self.out.push(Effect::Mark { key, state });
    }

    fn forget(&mut self, key: Key) {
        if self.slots.remove(&key).is_some() {
            self.out.push(Effect::Forget { key });
        }
    }
}
