//! The steps of one undertaking of a static supervisor, and what they serve.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ChildRules, ExitReason, Incarnation, Key, Restart, Strategy};

/// One child of a static supervisor.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) rules: ChildRules,
    pub(super) state: SlotState,
    /// The current life, or the last one.
    pub(super) incarnation: Incarnation,
    /// Distinguishes retries; rises with each one that is planned or cancelled.
    pub(super) token: u64,
    /// Failures in a row, for the backoff.
    pub(super) failures: u32,
    pub(super) running_since: Duration,
    /// A zombie that never ran: known only until nothing of it is left.
    pub(super) forget_when_gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotState {
    Down,
    Running,
    /// Waits for a retry; `counted` when the intensity has already seen that attempt.
    Restarting {
        counted: bool,
    },
    /// Killed but not dead; `resume` when it, and what follows it, is to be started once it is gone.
    Zombie {
        resume: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stop(Key),
    Start(Key),
    /// Start it later, by its backoff.
    Delay(Key),
}

/// What the current steps serve.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mode {
    Idle,
    /// First start of all children.
    Boot,
    /// The boot failed at this child; the others are being stopped.
    Unwind(Key),
    /// An automatic restart.
    Restart,
    /// This child, and what the strategy restarts with it, is stopped and started by request.
    Cycle(Key),
    /// A request about this child is being served; `new` when the request brought it.
    Request {
        key: Key,
        new: bool,
    },
    /// The supervisor ends.
    Closing(ExitReason),
    Closed,
}

pub(super) type Slots = BTreeMap<Key, Slot>;

impl Slot {
    pub(super) fn new(rules: ChildRules, incarnation: Incarnation) -> Self {
        let running_since = Duration::ZERO;
        let forget_when_gone = false;
        Self { rules, state: SlotState::Down, incarnation, token: 0, failures: 0, running_since, forget_when_gone }
    }

    fn is_temporary(&self) -> bool {
        self.rules.restart == Restart::Temporary
    }
}

/// Stops of everything, last started first.
pub(super) fn stop_all(slots: &Slots) -> impl Iterator<Item = Step> {
    slots.keys().rev().copied().map(Step::Stop)
}

/// What the strategy demands after `pivot` ended. Temporary bystanders are stopped and not started again.
pub(super) fn restart(strategy: Strategy, slots: &Slots, pivot: Key) -> Vec<Step> {
    match strategy {
        Strategy::OneForOne => vec![Step::Start(pivot)],
        Strategy::RestForOne => {
            let rest = || slots.range(pivot..);
            let stops = rest().rev().filter(|(key, _)| **key != pivot).map(|(key, _)| Step::Stop(*key));
            stops.chain(starts(rest())).collect()
        }
        Strategy::OneForAll => {
            let stops = slots.keys().rev().filter(|key| **key != pivot).map(|key| Step::Stop(*key));
            stops.chain(starts(slots.iter())).collect()
        }
    }
}

/// Whom the strategy restarts together with `pivot`, itself included, in start order.
pub(super) fn affected(strategy: Strategy, slots: &Slots, pivot: Key) -> Vec<Key> {
    match strategy {
        Strategy::OneForOne => vec![pivot],
        Strategy::RestForOne => slots.range(pivot..).map(|(key, _)| *key).collect(),
        Strategy::OneForAll => slots.keys().copied().collect(),
    }
}

/// An orderly restart of `pivot`: all that are affected are stopped in reverse and started in order, temporary
/// bystanders are not.
pub(super) fn cycle(strategy: Strategy, slots: &Slots, pivot: Key) -> Vec<Step> {
    let keys = affected(strategy, slots, pivot);
    let stops = keys.iter().rev().copied().map(Step::Stop);
    let comes_back = |key: &&Key| slots.get(key).is_some_and(|slot| !slot.is_temporary());
    stops.chain(keys.iter().filter(comes_back).copied().map(Step::Start)).collect()
}

/// What is left of a restart that had to wait for `pivot` to die: start it and, in group strategies, what follows.
pub(super) fn resume(strategy: Strategy, slots: &Slots, pivot: Key) -> Vec<Step> {
    match strategy {
        Strategy::OneForOne => vec![Step::Start(pivot)],
        Strategy::RestForOne | Strategy::OneForAll => starts(slots.range(pivot..)).collect(),
    }
}

fn starts<'a>(slots: impl Iterator<Item = (&'a Key, &'a Slot)>) -> impl Iterator<Item = Step> {
    slots.filter(|(_, slot)| !slot.is_temporary()).map(|(key, _)| Step::Start(*key))
}
