//! Whether this instance leads: the local half of the lease in `oban_peers`.
//!
//! A belief, kept by the `peer` and read by the services that only a leader runs. It ends by this process's own clock,
//! measured from before the statement that took the lease, so never after the row has expired. What two leaders in
//! doubt might both do is guarded in the database besides.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::NaiveDateTime;
use tokio::time::Instant;

/// The belief. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Leadership {
    term: Arc<Mutex<Option<Term>>>,
}

#[derive(Debug, Clone, Copy)]
struct Term {
    started_at: NaiveDateTime,
    until: Instant,
}

impl Leadership {
    /// A lease was taken or prolonged by a statement that was begun at `begun`.
    pub fn hold(&self, started_at: NaiveDateTime, begun: Instant, lease: Duration) {
        self.set(Some(Term { started_at, until: begun + lease }));
    }

    /// Nobody knows whether the lease was prolonged. It is not held from now on; its row may still be this instance's.
    pub fn doubt(&self) {
        if let Some(term) = &mut *self.term.lock().unwrap_or_else(PoisonError::into_inner) {
            term.until = term.until.min(Instant::now());
        }
    }

    /// The lease is somebody else's, or was given back.
    pub fn give_up(&self) {
        self.set(None);
    }

    /// Whether this instance leads now.
    pub fn is_held(&self) -> bool {
        self.get().is_some_and(|term| Instant::now() < term.until)
    }

    /// Beginning of the term that was last won and not given up, also when it has run out by now.
    pub fn term(&self) -> Option<NaiveDateTime> {
        self.get().map(|term| term.started_at)
    }

    fn get(&self) -> Option<Term> {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, term: Option<Term>) {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_by_itself_a_lease_after_the_statement_was_begun() {
        let leadership = Leadership::default();
        assert!(!leadership.is_held());
        let begun = Instant::now();
        tokio::time::advance(Duration::from_secs(10)).await;
        leadership.hold(NaiveDateTime::default(), begun, Duration::from_secs(30));
        tokio::time::advance(Duration::from_millis(19_999)).await;
        assert!(leadership.is_held());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!leadership.is_held());
        assert!(leadership.term().is_some(), "its row may still be prolonged");
        leadership.hold(NaiveDateTime::default(), Instant::now(), Duration::from_secs(30));
        leadership.doubt();
        assert!(!leadership.is_held());
        assert!(leadership.term().is_some(), "its row may still be prolonged");
        leadership.give_up();
        assert_eq!(leadership.term(), None);
    }
}
