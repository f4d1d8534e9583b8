//! Whether this instance may work: the local half of the heartbeat.
//!
//! Others take over the jobs of an instance whose heartbeat is stale. So an instance that could not write its heartbeat
//! must have stopped its own jobs before that moment: it keeps a lease that is shorter than the time after which it
//! counts as dead, measured on its own monotonic clock from before the last heartbeat that was stored.

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
    until: Arc<Mutex<Option<Instant>>>,
}

impl Lease {
    /// A lease that is not held yet, for an instance that counts as dead after `stale_after`.
    pub fn new(stale_after: Duration) -> Self {
        Self { length: stale_after.mul_f64(LEASE_SHARE), until: Arc::default() }
    }

    /// A heartbeat was stored that was begun at `begun`.
    pub fn renew(&self, begun: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun + self.length);
    }

    /// Whether the instance may claim and run jobs now.
    pub fn is_held(&self) -> bool {
        self.remaining().is_some_and(|left| !left.is_zero())
    }

    /// How long it will be held, 0 when it has run out; `None` before the first heartbeat.
    pub fn remaining(&self) -> Option<Duration> {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_before_others_count_the_instance_as_dead() {
        let stale_after = Duration::from_secs(30);
        let lease = Lease::new(stale_after);
        assert!(!lease.is_held(), "no heartbeat yet");
        lease.renew(Instant::now());
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(lease.is_held());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!lease.is_held());
    }
}
