//! A simulator around the dynamic machine. It answers starts at once, as the adapter does, and stops when told to. It
//! asserts on every effect what no sequence may break.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::supervision::core::*;

/// One child as the outside sees it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The last incarnation that was started.
    pub(crate) incarnation: Incarnation,
    /// It runs and was not told to stop.
    pub(crate) runs: bool,
    /// A stop is under way.
    pub(crate) stopping: bool,
    /// Killed but not dead.
    pub(crate) zombie: bool,
    /// The retry it waits for.
    pub(crate) retry: Option<u64>,
    /// Whoever waits for its end.
    askers: usize,
}

pub(crate) struct DynamicSim {
    pub(crate) machine: DynamicMachine,
    pub(crate) now: Duration,
    /// So many starts fail, then so many are ignored.
    pub(crate) failing: usize,
    /// They leave something behind.
    pub(crate) lingers: bool,
    /// One did.
    pub(crate) lingered: bool,
    pub(crate) ignoring: usize,
    /// What happens to killed children that do not die.
    on_zombie: OnZombie,
    pub(crate) children: BTreeMap<Key, Seen>,
    /// When restarts were counted.
    pub(crate) counted: Vec<Duration>,
    pub(crate) asked: usize,
    pub(crate) answered: usize,
    pub(crate) exit: Option<ExitReason>,
}

impl DynamicSim {
    pub(crate) fn new(intensity: Intensity, on_zombie: OnZombie) -> Self {
        Self {
            machine: DynamicMachine::new(intensity),
            now: Duration::ZERO,
            failing: 0,
            lingers: false,
            lingered: false,
            ignoring: 0,
            on_zombie,
            children: BTreeMap::new(),
            counted: Vec::new(),
            asked: 0,
            answered: 0,
            exit: None,
        }
    }

    /// Asks for a child; `None` when all places are occupied.
    pub(crate) fn admit(&mut self, restart: Restart, max_children: usize) -> Option<Key> {
        let rules = ChildRules { on_zombie: self.on_zombie, ..super::sim::rules("x", restart) };
        let (key, effects) = self.machine.admit(&rules, max_children)?;
        let effects = effects.collect();
        assert!(self.children.insert(key, Seen::default()).is_none(), "a key is used twice");
        self.run(effects);
        Some(key)
    }

    pub(crate) fn event(&mut self, event: DynamicEvent) {
        let effects = self.machine.step(event, self.now).collect();
        self.run(effects);
    }

    fn run(&mut self, mut todo: VecDeque<Effect>) {
        while let Some(effect) = todo.pop_front() {
            assert!(self.exit.is_none(), "nothing happens after the end: {effect:?}");
            match effect {
                Effect::Start { key, incarnation, .. } => {
                    let event = self.start(key, incarnation);
                    todo.extend(self.machine.step(event, self.now));
                }
                Effect::Stop { key, incarnation, .. } => {
                    let closing = self.machine.is_closing();
                    let seen = self.seen(key);
                    assert!(seen.runs || (closing && seen.stopping), "what does not run is not stopped");
                    assert_eq!(seen.incarnation, incarnation);
                    (seen.runs, seen.stopping) = (false, true);
                }
                Effect::Retry { key, token, .. } => self.seen(key).retry = Some(token),
                Effect::CancelRetry { key } => self.seen(key).retry = None,
                Effect::Forget { key } => {
                    let seen = self.children.remove(&key).expect("only what is known is forgotten");
                    assert!(!seen.runs && !seen.stopping, "nobody is forgotten alive: {seen:?}");
                    self.answered += seen.askers;
                }
                Effect::Counted => self.counted.push(self.now),
                Effect::Exit(reason) => {
                    let alive = |seen: &Seen| seen.runs || seen.stopping || seen.retry.is_some();
                    assert!(!self.children.values().any(alive), "everything is stopped first: {:?}", self.children);
                    self.exit = Some(reason);
                }
                _ => {}
            }
        }
    }

    fn seen(&mut self, key: Key) -> &mut Seen {
        self.children.get_mut(&key).expect("effects are about known children")
    }

    fn start(&mut self, key: Key, incarnation: Incarnation) -> DynamicEvent {
        let replaces = self.on_zombie == OnZombie::Replace;
        let closing = self.machine.is_closing();
        let seen = self.seen(key);
        assert!(!closing, "nothing is started while it ends");
        assert!(!seen.runs && !seen.stopping, "two incarnations at once: {seen:?}");
        assert!(!seen.zombie || replaces, "a held zombie is not replaced: {seen:?}");
        assert!(incarnation > seen.incarnation, "incarnations only rise");
        (seen.incarnation, seen.retry) = (incarnation, None);
        if self.failing > 0 {
            self.failing -= 1;
            let gone = !self.lingers;
            self.lingered |= !gone;
            self.seen(key).zombie = !gone && !replaces;
            return DynamicEvent::StartFailed { key, reason: "no".into(), gone };
        }
        if self.ignoring > 0 {
            self.ignoring -= 1;
            return DynamicEvent::Ignored(key);
        }
        self.seen(key).runs = true;
        DynamicEvent::Started(key)
    }

    /// A running child ends by itself.
    pub(crate) fn ends(&mut self, key: Key, reason: ExitReason, gone: bool) {
        let held = self.on_zombie != OnZombie::Replace;
        let seen = self.seen(key);
        assert!(std::mem::take(&mut seen.runs));
        seen.zombie = !gone && held;
        let incarnation = seen.incarnation;
        self.event(DynamicEvent::Exited { key, incarnation, reason, gone });
    }

    /// Asks for the end of a child, or for its end and start. Whoever asks is answered now, or waits for a stop.
    pub(crate) fn ask(&mut self, key: Key, cycle: bool) {
        self.asked += 1;
        self.event(if cycle { DynamicEvent::Cycle(key) } else { DynamicEvent::Terminate(key) });
        match self.machine.is_zombie(key) {
            None | Some(true) => self.answered += 1,
            Some(false) if cycle && !self.machine.is_stopping(key) => self.answered += 1,
            Some(false) => {
                let seen = self.seen(key);
                assert!(seen.stopping, "whoever asked would wait forever: {seen:?}");
                seen.askers += 1;
            }
        }
    }

    /// A stop is done, or did not help.
    pub(crate) fn stopped(&mut self, key: Key, gone: bool) {
        let held = self.on_zombie != OnZombie::Replace;
        let seen = self.seen(key);
        assert!(std::mem::take(&mut seen.stopping));
        seen.zombie = !gone && held;
        self.answered += std::mem::take(&mut self.seen(key).askers);
        let reason = if gone { ExitReason::Shutdown } else { ExitReason::Killed };
        self.event(DynamicEvent::Stopped { key, reason, gone });
    }

    /// A zombie is dead.
    pub(crate) fn zombie_gone(&mut self, key: Key) {
        self.seen(key).zombie = false;
        self.event(DynamicEvent::Gone(key));
    }

    /// The wait of a child is over.
    pub(crate) fn retry(&mut self, key: Key) {
        let token = self.seen(key).retry.take().expect("it waits");
        self.event(DynamicEvent::RetryDue { key, token });
    }

    /// The `index`th child of those that are so, counted around.
    pub(crate) fn nth(&self, index: usize, is_so: impl Fn(&Seen) -> bool) -> Option<Key> {
        let keys: Vec<Key> = self.children.iter().filter(|(_, seen)| is_so(seen)).map(|(key, _)| *key).collect();
        keys.get(index % keys.len().max(1)).copied()
    }
}
