//! Whether this instance may work: the local half of the heartbeat.
//!
//! Others take over the jobs of an instance whose heartbeat is stale. So an instance that could not write its heartbeat
//! must have stopped its own jobs before that moment: it keeps a lease that is shorter than the time after which it
//! counts as dead, measured on its own clocks from before the last heartbeat that was stored. The monotonic clock
//! stands still while a machine is suspended, and nobody else's does: so the time since boot, which goes on, decides
//! too.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Share of `stale_after` for which a stored heartbeat lets an instance work. The rest is for stopping jobs: 3 s of the
/// smallest `stale_after` that a configuration may set, 10 s.
const LEASE_SHARE: f64 = 0.7;

/// The lease. Cheap to clone; all clones are one lease.
#[derive(Debug, Clone)]
pub struct Lease {
    length: Duration,
    until: Arc<Mutex<Option<Moment>>>,
}

/// A moment by the clocks of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    at: Instant,
    /// Time since boot, with that of suspension; `None` where the system does not tell.
    since_boot: Option<Duration>,
}

impl Moment {
    /// The present.
    pub fn now() -> Self {
        Self { at: Instant::now(), since_boot: since_boot() }
    }

    fn after(self, time: Duration) -> Self {
        Self { at: self.at + time, since_boot: self.since_boot.map(|at| at + time) }
    }

    /// From `now` until this moment, 0 when either clock has passed it.
    fn left(self, now: Self) -> Duration {
        let left = self.at.saturating_duration_since(now.at);
        let awake = self.since_boot.zip(now.since_boot).map(|(until, now)| until.saturating_sub(now));
        awake.map_or(left, |awake| left.min(awake))
    }
}

impl Lease {
    /// A lease that is not held yet, for an instance that counts as dead after `stale_after`.
    pub fn new(stale_after: Duration) -> Self {
        Self { length: stale_after.mul_f64(LEASE_SHARE), until: Arc::default() }
    }

    /// A heartbeat was stored that was begun at `begun`.
    pub fn renew(&self, begun: Moment) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun.after(self.length));
    }

    /// Whether the instance may claim and run jobs now.
    pub fn is_held(&self) -> bool {
        self.remaining().is_some_and(|left| !left.is_zero())
    }

    /// How long it will be held, 0 when it has run out; `None` before the first heartbeat.
    pub fn remaining(&self) -> Option<Duration> {
        self.remaining_at(Moment::now())
    }

    fn remaining_at(&self, now: Moment) -> Option<Duration> {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| until.left(now))
    }
}

#[cfg(target_os = "linux")]
fn since_boot() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?))
}

#[cfg(not(target_os = "linux"))]
fn since_boot() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_before_others_count_the_instance_as_dead() {
        let stale_after = Duration::from_secs(30);
        let lease = Lease::new(stale_after);
        assert!(!lease.is_held(), "no heartbeat yet");
        lease.renew(Moment::now());
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(lease.is_held());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!lease.is_held());
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspended_machine_wakes_without_it() {
        let lease = Lease::new(Duration::from_secs(30));
        let begun = Moment { at: Instant::now(), since_boot: Some(Duration::from_secs(100)) };
        lease.renew(begun);
        // One second of work, and a minute in which only the time since boot went on.
        let now = |awake: u64, suspended: u64| Moment {
            at: begun.at + Duration::from_secs(awake),
            since_boot: Some(Duration::from_secs(100 + awake + suspended)),
        };
        assert_eq!(lease.remaining_at(now(1, 0)), Some(Duration::from_secs(20)));
        assert_eq!(lease.remaining_at(now(1, 15)), Some(Duration::from_secs(5)));
        assert_eq!(lease.remaining_at(now(1, 60)), Some(Duration::ZERO));
        assert_eq!(lease.remaining_at(now(30, 0)), Some(Duration::ZERO));
    }
}
