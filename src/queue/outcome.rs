//! What an attempt came to, and what that does to the job's row: a pure table.
//!
//! Mirrors the return values of an Oban worker. The row is written by [`super::engine`]; the guard that keeps a stale
//! runner from writing is there too.

use std::time::Duration;

use serde_json::Value;

use super::recorded::{RECORDED_BYTES_MAX, encoded};
use super::state::State;

/// Longest snooze, 1,000 days: later ones are mistakes.
pub const SNOOZE_MAX: Duration = Duration::from_secs(1_000 * 86_400);
/// Longest error text kept in a row; the rest is cut and said to be cut.
pub const ERROR_BYTES_MAX: usize = 32 * 1024;

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done.
    Completed,
    /// Done, with a result that is kept in the job's `meta` and read with [`super::Job::recorded`]; at most
    /// [`super::RECORDED_BYTES_MAX`] bytes when encoded, and more is a failure.
    Recorded(Value),
    /// Failed: tried again after a wait, or discarded when attempts are used up.
    Failed {
        /// First line is the message; more lines may follow.
        error: String,
        /// Wait before the next attempt; `None` is Oban's backoff.
        retry_in: Option<Duration>,
    },
    /// Not now: scheduled again, no error recorded, the attempt not counted.
    Snoozed(Duration),
    /// Given up on purpose, not retried.
    Cancelled(String),
    /// Given up as failed, whatever attempts remain.
    Discarded(String),
    /// The instance stops before the job is done: available again, the attempt not counted. Of the runtime; a worker
    /// that cannot do a job now snoozes it. One that returns this though nothing stops has it wait as a snooze of
    /// [`HANDED_BACK_WAIT`](super::HANDED_BACK_WAIT).
    HandedBack,
}

/// One guarded write on a job's row.
#[derive(Debug, Clone, PartialEq)]
pub struct Ack {
    /// Row to write.
    pub job_id: i64,
    /// Attempt that must still be the present one.
    pub attempt: i32,
    /// State that the row goes to.
    pub state: State,
    /// For a state that waits: how long from now.
    pub delay: Option<Duration>,
    /// Appended to `errors`.
    pub error: Option<String>,
    /// Encoded result for `meta`.
    pub recorded: Option<String>,
    /// Whether the attempt is given back.
    pub uncount: bool,
    /// Whether `meta.snoozed` is counted up.
    pub snoozed: bool,
}

/// What `outcome` does to the row of a job at `attempt` of `max_attempts`; `backoff` is the wait after a failure that
/// names none.
pub fn ack(outcome: &Outcome, job_id: i64, attempt: i32, max_attempts: i32, backoff: Duration) -> Ack {
    let plain = |state| Ack {
        job_id,
        attempt,
        state,
        delay: None,
        error: None,
        recorded: None,
        uncount: false,
        snoozed: false,
    };
    match outcome {
        Outcome::Completed => plain(State::Completed),
        Outcome::Recorded(value) => {
            let text = encoded(value);
            if text.len() > RECORDED_BYTES_MAX {
                let error = format!(
                    "** (RecordError) the result has {} bytes when encoded; at most {RECORDED_BYTES_MAX} are kept",
                    text.len()
                );
                return ack(&Outcome::Failed { error, retry_in: None }, job_id, attempt, max_attempts, backoff);
            }
            Ack { recorded: Some(text), ..plain(State::Completed) }
        }
        Outcome::Failed { error, .. } if attempt >= max_attempts => {
            Ack { error: Some(bounded(error)), ..plain(State::Discarded) }
        }
        Outcome::Failed { error, retry_in } => Ack {
            error: Some(bounded(error)),
            delay: Some(retry_in.unwrap_or(backoff).min(SNOOZE_MAX)),
            ..plain(State::Retryable)
        },
        Outcome::Snoozed(delay) => {
            Ack { delay: Some((*delay).min(SNOOZE_MAX)), uncount: true, snoozed: true, ..plain(State::Scheduled) }
        }
        Outcome::Cancelled(reason) => Ack { error: Some(bounded(reason)), ..plain(State::Cancelled) },
        Outcome::Discarded(reason) => Ack { error: Some(bounded(reason)), ..plain(State::Discarded) },
        Outcome::HandedBack => Ack { uncount: true, ..plain(State::Available) },
    }
}

/// `text` without NUL characters, which PostgreSQL refuses in JSON, and cut at [`ERROR_BYTES_MAX`].
fn bounded(text: &str) -> String {
    let mut text = text.replace('\0', "\u{fffd}");
    if text.len() > ERROR_BYTES_MAX {
        let mut end = ERROR_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("\n[cut]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(17);

    fn of(outcome: Outcome, attempt: i32) -> Ack {
        ack(&outcome, 1, attempt, 3, WAIT)
    }

    fn failed() -> Outcome {
        Outcome::Failed { error: "boom".into(), retry_in: None }
    }

    #[test]
    fn a_failure_is_retried_until_attempts_are_used_up() {
        let first = of(failed(), 1);
        assert_eq!((first.state, first.delay, first.uncount), (State::Retryable, Some(WAIT), false));
        let last = of(failed(), 3);
        assert_eq!((last.state, last.delay, last.error.as_deref()), (State::Discarded, None, Some("boom")));
    }

    #[test]
    fn a_result_is_kept_and_one_that_is_too_large_is_a_failure() {
        let kept = of(Outcome::Recorded(Value::from(1)), 1);
        assert_eq!((kept.state, kept.recorded.as_deref()), (State::Completed, Some("g2EB")));
        let large = of(Outcome::Recorded(Value::from("x".repeat(RECORDED_BYTES_MAX))), 1);
        assert_eq!((large.state, large.recorded), (State::Retryable, None));
        assert!(large.error.is_some_and(|error| error.contains("at most 1048576")));
    }

    #[test]
    fn a_worker_may_choose_its_own_wait() {
        let outcome = Outcome::Failed { error: "boom".into(), retry_in: Some(Duration::ZERO) };
        assert_eq!(of(outcome, 1).delay, Some(Duration::ZERO));
    }

    #[test]
    fn a_snooze_gives_the_attempt_back_and_records_no_error() {
        let ack = of(Outcome::Snoozed(WAIT), 3);
        assert_eq!(ack.state, State::Scheduled);
        assert!(ack.uncount && ack.snoozed && ack.error.is_none());
    }

    #[test]
    fn giving_up_on_purpose_ignores_the_attempts_that_remain() {
        assert_eq!(of(Outcome::Cancelled("no".into()), 1).state, State::Cancelled);
        assert_eq!(of(Outcome::Discarded("no".into()), 1).state, State::Discarded);
    }

    #[test]
    fn a_handed_back_job_is_available_with_its_attempt_unspent() {
        let ack = of(Outcome::HandedBack, 2);
        assert_eq!((ack.state, ack.uncount, ack.snoozed), (State::Available, true, false));
    }

    #[test]
    fn error_texts_are_bounded_and_storable() {
        let ack = of(Outcome::Discarded("é\0".repeat(ERROR_BYTES_MAX)), 1);
        let error = ack.error.unwrap();
        assert!(error.len() <= ERROR_BYTES_MAX + 6 && !error.contains('\0') && error.ends_with("[cut]"));
    }
}
