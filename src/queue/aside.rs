//! Results that the database does not take at the moment, apart from the others so that they hold up none: somebody has
//! locked the row, or the write was refused.
//!
//! Each is tried again after waits that grow: whether rows are locked is asked, which waits for nobody; what was
//! refused may cost a statement's whole time, so it is tried rarely in the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::completions::Completion;

/// First wait of a result that is set aside; it doubles.
const WAIT_MIN: Duration = Duration::from_millis(500);
/// Longest wait for a row that is locked, or a table that cannot be written.
const LOCKED_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest wait after a write was refused.
const REFUSED_WAIT_MAX: Duration = Duration::from_secs(300);
/// Results that are tried in one round.
const ROUND_MAX: usize = 500;

/// Why a result is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// Somebody else has locked its row, or nobody can write the table at the moment.
    Locked,
    /// The database refused to write it.
    Refused,
}

impl Hindrance {
    /// What the code of the server's answer says: a lock that is not a row's (class 55), no space or memory (53), a
    /// conflict (40), a missing right or a standby concern all results alike and end at once when they end.
    pub(super) fn of(sqlstate: &str) -> Self {
        let concerns_all = ["55", "53", "40"].iter().any(|class| sqlstate.starts_with(class));
        if concerns_all || matches!(sqlstate, "42501" | "25006") { Self::Locked } else { Self::Refused }
    }
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Aside(Vec<One>);

#[derive(Debug)]
struct One {
    completion: Completion,
    tries: u32,
    due: Instant,
}

impl Aside {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a result, or lets it wait longer where it is in the list.
    pub(super) fn put(&mut self, completion: &Completion, hindrance: Hindrance, now: Instant) {
        if let Some(one) = self.0.iter_mut().find(|one| one.is(completion)) {
            one.tries = one.tries.saturating_add(1);
            one.due = now + wait(one.tries, hindrance);
        } else {
            self.0.push(One { completion: completion.clone(), tries: 0, due: now + wait(0, hindrance) });
        }
    }

    /// Removes a result that is stored.
    pub(super) fn remove(&mut self, completion: &Completion) {
        self.0.retain(|one| !one.is(completion));
    }

    /// Those that are to be tried again; they stay in the list.
    pub(super) fn due(&self, now: Instant) -> Vec<Completion> {
        self.0.iter().filter(|one| one.due <= now).take(ROUND_MAX).map(|one| one.completion.clone()).collect()
    }

    /// When the next is to be tried.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|one| one.due).min()
    }

    /// Makes all of them due.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|one| one.due = now);
    }
}

impl One {
    fn is(&self, completion: &Completion) -> bool {
        self.completion.slot == completion.slot && Arc::ptr_eq(&self.completion.queue, &completion.queue)
    }
}

/// The wait after so many tries apart.
fn wait(tries: u32, hindrance: Hindrance) -> Duration {
    let max = match hindrance {
        Hindrance::Locked => LOCKED_WAIT_MAX,
        Hindrance::Refused => REFUSED_WAIT_MAX,
    };
    WAIT_MIN.saturating_mul(1 << tries.min(16)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_all_results_is_tried_again_soon() {
        for code in ["55P03", "53100", "53200", "40P01", "42501", "25006"] {
            assert_eq!(Hindrance::of(code), Hindrance::Locked, "{code}");
        }
        for code in ["23514", "22P02", "P0001", "57014", "42P01", ""] {
            assert_eq!(Hindrance::of(code), Hindrance::Refused, "{code}");
        }
    }

    #[test]
    fn waits_grow_to_their_limits() {
        let waits = |hindrance| [0, 1, 2, 4, 10, u32::MAX].map(|tries| wait(tries, hindrance).as_millis());
        assert_eq!(waits(Hindrance::Locked), [500, 1_000, 2_000, 5_000, 5_000, 5_000]);
        assert_eq!(waits(Hindrance::Refused), [500, 1_000, 2_000, 8_000, 300_000, 300_000]);
    }
}
