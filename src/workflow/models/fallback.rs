//! Which failed calls are followed by one of another model, and what becomes of the job when none answers. Pure.

use std::time::Duration;

use crate::llm::{Advice, ErrorClass, LlmError};
use crate::workflow::result::Attempted;

/// Models that one attempt asks at most, the first and its fallbacks.
pub(super) const HOPS_MAX: u16 = 8;
/// When a job looks again that could only be served by an endpoint that is held back because of money or its key, or
/// whose key is not here: a person, the next month or another instance has to do something, and the job shall not be
/// lost for it.
const SHED_WAIT: Duration = Duration::from_secs(300);
/// Longest wait for one model that a job prefers to trying another again that failed for a moment: about the backoff of
/// a job's first attempts.
const WAIT_WORTH_MAX: Duration = Duration::from_secs(60);

/// Whether another model may do better. What is wrong with the request is wrong everywhere, and a model that declined
/// is not overruled by asking around.
pub(super) const fn falls_back(class: ErrorClass) -> bool {
    match class {
        ErrorClass::Transient
        | ErrorClass::Overloaded
        | ErrorClass::Throttled
        | ErrorClass::Exhausted
        | ErrorClass::Misconfigured
        | ErrorClass::Empty => true,
        ErrorClass::Permanent | ErrorClass::Refused => false,
    }
}

/// What a failed call says about its model.
pub(super) const fn outcome(class: ErrorClass) -> Attempted {
    match class {
        ErrorClass::Permanent => Attempted::Invalid,
        ErrorClass::Refused => Attempted::Refused,
        ErrorClass::Empty => Attempted::Failure,
        _ => Attempted::Infrastructure,
    }
}

/// What one failure advises. A call that was not even made, because the account is known to have no money or its key to
/// be rejected, is shed: its job waits, where the one that found out is given up with the reason. So is a call whose
/// key is missing here: otherwise an instance without it would take all jobs from those that have it, and give them up.
pub(in crate::workflow) fn advice(error: &LlmError, jitter: f64) -> Advice {
    match error.class {
        ErrorClass::Exhausted | ErrorClass::Misconfigured if !error.sent => {
            Advice::Snooze(SHED_WAIT.mul_f64(1.0 + jitter.clamp(0.0, 1.0)))
        }
        _ => error.advice(jitter),
    }
}

/// The most hopeful of two: to wait, and that as short as possible, else to try again, else to give up.
///
/// A wait of a moment costs no attempt and is preferred to trying again. A long one, as until a budget's next month, is
/// not: the model that failed for a moment most likely answers before, and the attempts bound how often it is asked.
/// Only where this attempt is the last, long waiting is better than to lose the job.
pub(super) fn better(one: Advice, other: Advice, is_last_attempt: bool) -> Advice {
    match (one, other) {
        (Advice::Snooze(one), Advice::Snooze(other)) => Advice::Snooze(one.min(other)),
        (Advice::Snooze(wait), Advice::Retry) | (Advice::Retry, Advice::Snooze(wait))
            if wait > WAIT_WORTH_MAX && !is_last_attempt =>
        {
            Advice::Retry
        }
        (wait @ Advice::Snooze(_), _) | (_, wait @ Advice::Snooze(_)) => wait,
        (Advice::Retry, _) | (_, Advice::Retry) => Advice::Retry,
        (Advice::Cancel, Advice::Cancel) => Advice::Cancel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_hopeful_advice_counts() {
        let wait = |secs| Advice::Snooze(Duration::from_secs(secs));
        let better = |one, other| {
            let [found, turned] = [better(one, other, false), better(other, one, false)];
            assert_eq!(found, turned);
            found
        };
        assert_eq!(better(wait(9), wait(3)), wait(3));
        assert_eq!(better(Advice::Cancel, wait(3)), wait(3));
        assert_eq!(better(wait(3), Advice::Retry), wait(3));
        assert_eq!(better(Advice::Retry, Advice::Cancel), Advice::Retry);
        assert_eq!(better(Advice::Cancel, Advice::Cancel), Advice::Cancel);
    }

    #[test]
    fn a_long_wait_gives_way_to_another_try_while_there_are_attempts() {
        let month = Advice::Snooze(Duration::from_secs(30 * 86_400));
        let longest = Advice::Snooze(WAIT_WORTH_MAX);
        for (wait, is_last, expected) in
            [(month, false, Advice::Retry), (month, true, month), (longest, false, longest), (longest, true, longest)]
        {
            assert_eq!(better(wait, Advice::Retry, is_last), expected);
            assert_eq!(better(Advice::Retry, wait, is_last), expected);
        }
        assert_eq!(better(month, Advice::Cancel, false), month);
    }

    #[test]
    fn trouble_of_an_endpoint_leads_to_another_and_nothing_else_does() {
        use ErrorClass::{Exhausted, Misconfigured, Overloaded, Permanent, Refused, Throttled, Transient};
        for class in [Transient, Overloaded, Throttled, Exhausted, Misconfigured] {
            assert!(falls_back(class));
            assert_eq!(outcome(class), Attempted::Infrastructure);
        }
        assert!(!falls_back(Permanent) && !falls_back(Refused));
        assert!(falls_back(ErrorClass::Empty));
        assert_eq!(outcome(ErrorClass::Empty), Attempted::Failure);
        assert_eq!((outcome(Permanent), outcome(Refused)), (Attempted::Invalid, Attempted::Refused));
    }
}
