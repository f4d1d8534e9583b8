//! Which failed calls are followed by one of another model, and what becomes of the job when none answers. Pure.

use std::time::Duration;

use crate::llm::{Advice, ErrorClass, LlmError};
use crate::workflow::result::Attempted;

/// Models that one attempt asks at most, the first and its fallbacks.
pub(super) const HOPS_MAX: u16 = 8;
/// When a job looks again that could only be served by an endpoint that is held back because of money or its key, or
/// whose key is not here: a person, the next month or another instance has to do something, and the job shall not be
/// lost for it. Earlier, where the endpoint is asked again before: most likely it was one request that met this.
const SHED_WAIT: Duration = Duration::from_secs(300);
/// But not before this: who comes while the endpoint is asked and is the next to ask is given up with the reason.
const SHED_WAIT_MIN: Duration = Duration::from_secs(30);
/// Times that a job waits for the limit of its account to refill. More is a request that never fits into it, which
/// some providers tell from others by no word: from then on it spends its attempts. At ten seconds and more each these
/// are hours, in which also the last of a long backlog has had its turn.
const SNOOZES_MAX: u64 = 1_000;
/// Longest wait for one model that a job prefers to trying another again that failed for a moment: about the backoff of
/// a job's first attempts.
const WAIT_WORTH_MAX: Duration = Duration::from_secs(60);

/// Whether another model may do better. A provider that finds something wrong with the request often means its model
/// alone: the prompt is longer than its context, the output limit larger than its own, `temperature` is not for it.
/// What is found here, before the request is sent, is wrong everywhere; and a model that declined is not overruled by
/// asking around.
pub(super) const fn falls_back(error: &LlmError) -> bool {
    match error.class {
        ErrorClass::Transient
        | ErrorClass::Overloaded
        | ErrorClass::Throttled
        | ErrorClass::Exhausted
        | ErrorClass::Misconfigured
        | ErrorClass::Empty => true,
        ErrorClass::Permanent => error.sent,
        ErrorClass::Refused => false,
    }
}

/// What a failed call says about its model, where no other has answered the request.
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
/// The job has waited so many times before, `snoozes`.
pub(in crate::workflow) fn advice(error: &LlmError, snoozes: u64, jitter: f64) -> Advice {
    match error.class {
        ErrorClass::Throttled if error.sent && snoozes >= SNOOZES_MAX => Advice::Retry,
        ErrorClass::Exhausted | ErrorClass::Misconfigured if !error.sent => {
            let wait = error.retry_after.map_or(SHED_WAIT, |held| held.clamp(SHED_WAIT_MIN, SHED_WAIT));
            Advice::Snooze(wait.mul_f64(1.0 + jitter.clamp(0.0, 1.0)))
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

/// The same for a request that one model has found wrong. Perhaps it is, so nobody waits for long for the others, such
/// as one whose key nobody will ever set: the attempts bound that.
pub(super) fn when_refused(advice: Advice) -> Advice {
    match advice {
        Advice::Snooze(wait) if wait > WAIT_WORTH_MAX => Advice::Retry,
        _ => advice,
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

    fn error(class: ErrorClass, sent: bool) -> LlmError {
        LlmError {
            class,
            message: String::new(),
            status: None,
            provider_code: None,
            retry_after: None,
            partial: None,
            provider: "p".into(),
            model: "m".into(),
            simulated: false,
            sent,
        }
    }

    #[test]
    fn what_is_held_back_for_a_moment_is_not_put_off_for_long() {
        let wait = |secs| Advice::Snooze(Duration::from_secs(secs));
        let held = |secs: Option<u64>, jitter| {
            let retry_after = secs.map(Duration::from_secs);
            advice(&LlmError { retry_after, ..error(ErrorClass::Misconfigured, false) }, 0, jitter)
        };
        assert_eq!([held(Some(5), 0.0), held(Some(5), 1.0)], [wait(30), wait(60)]);
        assert_eq!([held(Some(80), 0.0), held(Some(3_600), 0.0), held(None, 0.0)], [wait(80), wait(300), wait(300)]);
        assert_eq!(advice(&error(ErrorClass::Misconfigured, true), 0, 0.0), Advice::Cancel);
    }

    #[test]
    fn a_job_waits_for_the_limit_of_its_account_often_and_not_for_ever() {
        let throttled = |sent, snoozes| advice(&error(ErrorClass::Throttled, sent), snoozes, 0.0);
        let wait = Advice::Snooze(Duration::from_secs(10));
        assert_eq!([throttled(true, 0), throttled(true, SNOOZES_MAX - 1)], [wait, wait]);
        assert_eq!(throttled(true, SNOOZES_MAX), Advice::Retry);
        // What was held back here was not asked for: it is not known to be in vain.
        assert_eq!(throttled(false, SNOOZES_MAX), wait);
    }

    #[test]
    fn a_request_that_may_be_wrong_does_not_wait_for_ever() {
        let wait = |secs| Advice::Snooze(Duration::from_secs(secs));
        assert_eq!([60, 61, 86_400].map(|secs| when_refused(wait(secs))), [wait(60), Advice::Retry, Advice::Retry]);
        assert_eq!([Advice::Retry, Advice::Cancel].map(when_refused), [Advice::Retry, Advice::Cancel]);
    }

    #[test]
    fn what_may_concern_one_model_alone_leads_to_another_and_nothing_else_does() {
        use ErrorClass::{Empty, Exhausted, Misconfigured, Overloaded, Permanent, Refused, Throttled, Transient};
        let falls_back = |class, sent| falls_back(&error(class, sent));
        for class in [Transient, Overloaded, Throttled, Exhausted, Misconfigured] {
            assert!(falls_back(class, true) && falls_back(class, false));
            assert_eq!(outcome(class), Attempted::Infrastructure);
        }
        assert!(falls_back(Empty, true) && falls_back(Permanent, true));
        assert!(!falls_back(Permanent, false) && !falls_back(Refused, true));
        assert_eq!(outcome(ErrorClass::Empty), Attempted::Failure);
        assert_eq!((outcome(Permanent), outcome(Refused)), (Attempted::Invalid, Attempted::Refused));
    }
}
