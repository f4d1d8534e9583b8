//! What the decisions ask the adapter to do.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use super::{ExitReason, Incarnation, RequestError, Restart, Shutdown};

/// Names one child for the life of its supervisor; never used again. Keys rise in start order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) u64);

/// A map by [`Key`], or by another number that this process hands out one after the other. Whoever comes from outside
/// chooses no such number, so nothing need be done against chosen ones, and spreading them costs one multiplication.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Spreads numbers that rise one by one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio: neighbours land far from each other, and no two in the same place.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
}

/// Where a child is, as its supervisor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildState {
    /// Being started.
    Starting,
    /// Running.
    Running,
    /// Being stopped by its supervisor.
    Stopping,
    /// Ended; waits for a retry.
    Restarting,
    /// Not running and not going to, unless a group restart or a request starts it.
    Down,
    /// Killed but not dead.
    Zombie,
}

/// One thing to do. Effects are executed in order; after `Start` and `Stop` the machine waits for the answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Start this child; answer with started, ignored or failed. `restart` tells an automatic restart from a first or
    /// manual start.
    Start { key: Key, incarnation: Incarnation, restart: bool },
    /// Stop this child in this way; answer when it is gone, or when killing it did not help.
    Stop { key: Key, incarnation: Incarnation, shutdown: Shutdown },
    /// Come back with the token after the wait; `jitter` draws it evenly from nothing up to `after`.
    Retry { key: Key, token: u64, after: Duration, jitter: bool },
    /// The retry of this child is no longer wanted.
    CancelRetry { key: Key },
    /// The child's state changed.
    Mark { key: Key, state: ChildState },
    /// The child is no longer known; drop what is kept for it.
    Forget { key: Key },
    /// A restart was counted.
    Counted,
    /// Tell the world.
    Report(Report),
    /// All children are started.
    Booted,
    /// This child could not be started; those before it are stopped again.
    BootFailed { key: Key },
    /// Answer the request in hand.
    Reply(Result<Option<Key>, RequestError>),
    /// All children are stopped; end with this reason.
    Exit(ExitReason),
}

/// Report kinds of OTP's supervisor, plus those about zombies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Report {
    /// A child was started at boot or by an automatic restart.
    Progress { key: Key },
    /// A child ended by itself, in a way worth telling.
    ChildTerminated { key: Key, reason: ExitReason },
    /// A child's start failed.
    StartError { key: Key, reason: String },
    /// A child answered an ordered stop with an unexpected reason.
    ShutdownError { key: Key, reason: ExitReason },
    /// Too many restarts; the supervisor ends.
    MaxIntensity { key: Key, reason: ExitReason },
    /// A killed child does not die.
    Zombie { key: Key },
    /// A zombie is gone after all.
    ZombieGone { key: Key },
}

/// How a supervisor ends whose child could not be started again within the restarts that are allowed.
pub(super) fn failed_repeatedly() -> ExitReason {
    ExitReason::StartFailed("its restart failed repeatedly".into())
}

/// Whether a child that was ordered to stop in this way may end for this reason without a report (OTP's `shutdown`).
pub(crate) fn is_expected(restart: Restart, shutdown: Shutdown, reason: &ExitReason) -> bool {
    match reason {
        ExitReason::Shutdown => true,
        ExitReason::Killed => shutdown == Shutdown::BrutalKill,
        ExitReason::Normal | ExitReason::ShutdownWith(_) => restart != Restart::Permanent,
        _ => false,
    }
}
