//! Which failed calls are followed by one of another model, and what becomes of the job when none answers. Pure.

use std::time::Duration;

use crate::llm::{Advice, ErrorClass, LlmError};
use crate::workflow::result::Attempted;

/// Models that one attempt asks at most, the first and its fallbacks.
pub(super) const HOPS_MAX: u16 = 8;
/// When a job looks again while the only endpoint that could serve it is held back because of money: a person or the
/// next month has to do something, and the job shall not be lost for it.
const SHED_WAIT: Duration = Duration::from_secs(300);

/// Whether another model may do better. What is wrong with the request is wrong everywhere, and a model that declined
/// is not overruled by asking around.
pub(super) const fn falls_back(class: ErrorClass) -> bool {
    match class {
        ErrorClass::Transient
        | ErrorClass::Overloaded
        | ErrorClass::Throttled
        | ErrorClass::Exhausted
        | ErrorClass::Misconfigured => true,
        ErrorClass::Permanent | ErrorClass::Refused => false,
    }
}

/// What a failed call says about its model.
pub(super) const fn outcome(class: ErrorClass) -> Attempted {
    match class {
        ErrorClass::Permanent => Attempted::Invalid,
        ErrorClass::Refused => Attempted::Refused,
        _ => Attempted::Infrastructure,
    }
}

/// What one failure advises. A call that was not even made, because the account is known to have no money, is shed: its
/// job waits, where the one that found out is given up with the reason.
pub(super) fn advice(error: &LlmError, jitter: f64) -> Advice {
    match error.class {
        ErrorClass::Exhausted if !error.sent => Advice::Snooze(SHED_WAIT.mul_f64(1.0 + jitter.clamp(0.0, 1.0))),
        _ => error.advice(jitter),
    }
}

/// The most hopeful of two: to wait, and that as short as possible, else to try again, else to give up.
pub(super) fn better(one: Advice, other: Advice) -> Advice {
    match (one, other) {
        (Advice::Snooze(one), Advice::Snooze(other)) => Advice::Snooze(one.min(other)),
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
        assert_eq!(better(wait(9), wait(3)), wait(3));
        assert_eq!(better(Advice::Cancel, wait(3)), wait(3));
        assert_eq!(better(wait(3), Advice::Retry), wait(3));
        assert_eq!(better(Advice::Retry, Advice::Cancel), Advice::Retry);
        assert_eq!(better(Advice::Cancel, Advice::Cancel), Advice::Cancel);
    }

    #[test]
    fn trouble_of_an_endpoint_leads_to_another_and_nothing_else_does() {
        use ErrorClass::{Exhausted, Misconfigured, Overloaded, Permanent, Refused, Throttled, Transient};
        for class in [Transient, Overloaded, Throttled, Exhausted, Misconfigured] {
            assert!(falls_back(class));
            assert_eq!(outcome(class), Attempted::Infrastructure);
        }
        assert!(!falls_back(Permanent) && !falls_back(Refused));
        assert_eq!((outcome(Permanent), outcome(Refused)), (Attempted::Invalid, Attempted::Refused));
    }
}
