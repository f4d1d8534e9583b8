//! Circuit breakers: when they open, probe and close.

use super::*;
use proptest::prelude::*;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn failed(class: ErrorClass, retry_after: Option<u64>) -> Outcome<'static> {
    let retry_after = match retry_after {
        Some(wait) => Some(secs(wait)),
        None => None,
    };
    Outcome::Failed { class, reason: "why", retry_after }
}

fn call(breaker: &mut Breaker, at: u64, outcome: Outcome<'_>) {
    let permit = breaker.admit(secs(at)).unwrap();
    breaker.record(secs(at), permit, outcome);
}

fn rejected(breaker: &mut Breaker, at: u64) -> (ErrorClass, Duration) {
    let rejection = breaker.admit(secs(at)).unwrap_err();
    (rejection.class, rejection.retry_after)
}

#[test]
fn opens_when_most_of_enough_calls_fail() {
    let mut breaker = Breaker::default();
    for _ in 0..2 {
        call(&mut breaker, 1, Outcome::Healthy);
    }
    for _ in 0..2 {
        call(&mut breaker, 1, failed(ErrorClass::Transient, None));
    }
    assert_eq!(breaker.view(secs(1)), BreakerView::Closed, "two of four");
    call(&mut breaker, 1, failed(ErrorClass::Transient, None));
    assert_eq!(rejected(&mut breaker, 1), (ErrorClass::Overloaded, HOLD_MIN));
    assert_eq!(rejected(&mut breaker, 5), (ErrorClass::Overloaded, secs(1)));
}

#[test]
fn four_failures_are_not_enough_and_old_ones_are_forgotten() {
    let mut breaker = Breaker::default();
    for at in [0, 0, 0, 0, 60, 61, 62, 63] {
        call(&mut breaker, at, failed(ErrorClass::Transient, None));
    }
    assert_eq!(breaker.view(secs(63)), BreakerView::Closed);
    call(&mut breaker, 64, failed(ErrorClass::Transient, None));
    assert!(breaker.admit(secs(64)).is_err());
}

#[test]
fn wrong_requests_and_refusals_are_no_trouble_of_the_endpoint() {
    let mut breaker = Breaker::default();
    for _ in 0..50 {
        call(&mut breaker, 1, failed(ErrorClass::Permanent, None));
        call(&mut breaker, 1, failed(ErrorClass::Refused, None));
    }
    assert_eq!(breaker.view(secs(1)), BreakerView::Closed);
}

#[test]
fn limits_open_it_at_the_second_in_a_row_and_the_announced_wait_wins() {
    let mut breaker = Breaker::default();
    call(&mut breaker, 0, failed(ErrorClass::Throttled, Some(40)));
    call(&mut breaker, 0, Outcome::Healthy);
    call(&mut breaker, 0, failed(ErrorClass::Throttled, Some(40)));
    assert_eq!(breaker.view(secs(0)), BreakerView::Closed);
    call(&mut breaker, 0, failed(ErrorClass::Overloaded, Some(40)));
    assert_eq!(rejected(&mut breaker, 10), (ErrorClass::Overloaded, secs(30)));

    let mut breaker = Breaker::default();
    call(&mut breaker, 0, failed(ErrorClass::Throttled, None));
    call(&mut breaker, 0, failed(ErrorClass::Throttled, Some(1_000_000)));
    assert_eq!(rejected(&mut breaker, 0).1, RETRY_AFTER_MAX);
}

#[test]
fn a_key_or_money_opens_it_at_once_and_keeps_its_class() {
    for class in [ErrorClass::Exhausted, ErrorClass::Misconfigured] {
        let mut breaker = Breaker::default();
        call(&mut breaker, 0, failed(class, None));
        assert_eq!(rejected(&mut breaker, 1), (class, secs(4)));
        assert_eq!(breaker.admit(secs(1)).unwrap_err().reason, "why");
    }
}

#[test]
fn one_probe_decides_and_the_hold_doubles_until_it_succeeds() {
    let mut breaker = Breaker::default();
    call(&mut breaker, 0, failed(ErrorClass::Misconfigured, None));
    let mut at = 0;
    for hold in [5, 10, 20, 40, 80, 160, 300, 300] {
        assert!(breaker.admit(secs(at + hold - 1)).is_err(), "{hold}");
        at += hold;
        let probe = breaker.admit(secs(at)).unwrap();
        assert_eq!(rejected(&mut breaker, at), (ErrorClass::Overloaded, PROBE_WAIT));
        assert!(matches!(breaker.view(secs(at)), BreakerView::HalfOpen { .. }));
        breaker.record(secs(at), probe, failed(ErrorClass::Misconfigured, None));
    }
    at += 300;
    call(&mut breaker, at, Outcome::Healthy);
    assert_eq!(breaker.view(secs(at)), BreakerView::Closed);
    call(&mut breaker, at, failed(ErrorClass::Misconfigured, None));
    assert!(breaker.admit(secs(at + 5)).is_ok(), "the hold starts anew");
}

#[test]
fn a_dropped_probe_frees_its_place() {
    let mut breaker = Breaker::default();
    call(&mut breaker, 0, failed(ErrorClass::Exhausted, None));
    let probe = breaker.admit(secs(5)).unwrap();
    breaker.abandon(probe);
    let probe = breaker.admit(secs(5)).unwrap();
    assert!(probe.is_probe);
}

#[test]
fn late_outcomes_neither_close_nor_reopen_but_tell_what_is_new() {
    let mut breaker = Breaker::default();
    let early: Vec<Permit> = (0..4).map(|_| breaker.admit(secs(0)).unwrap()).collect();
    call(&mut breaker, 0, failed(ErrorClass::Throttled, Some(5)));
    call(&mut breaker, 0, failed(ErrorClass::Throttled, Some(5)));
    let mut early = early.into_iter();
    breaker.record(secs(1), early.next().unwrap(), Outcome::Healthy);
    assert_eq!(rejected(&mut breaker, 1).1, secs(4));
    breaker.record(secs(1), early.next().unwrap(), failed(ErrorClass::Throttled, Some(20)));
    assert_eq!(rejected(&mut breaker, 1).1, secs(20));
    breaker.record(secs(1), early.next().unwrap(), failed(ErrorClass::Exhausted, None));
    assert_eq!(rejected(&mut breaker, 1), (ErrorClass::Exhausted, secs(20)));
    let probe = breaker.admit(secs(30)).unwrap();
    breaker.record(secs(30), early.next().unwrap(), failed(ErrorClass::Exhausted, None));
    breaker.record(secs(31), probe, Outcome::Healthy);
    assert_eq!(breaker.view(secs(31)), BreakerView::Closed);
}

proptest! {
    /// Whatever happens, somebody is let through after the longest hold, so no endpoint is given up for ever.
    #[test]
    fn never_stays_open_for_ever(steps in prop::collection::vec((0_u8..6, 0_u64..400), 1..80)) {
        let mut breaker = Breaker::default();
        let mut now = 0;
        let mut pending: Vec<Permit> = Vec::new();
        for (step, wait) in steps {
            now += wait;
            let outcome = match step {
                0 => Outcome::Healthy,
                1 => failed(ErrorClass::Transient, None),
                2 => failed(ErrorClass::Throttled, Some(wait)),
                3 => failed(ErrorClass::Exhausted, None),
                4 => {
                    pending.extend(breaker.admit(secs(now)).ok());
                    continue;
                }
                _ => {
                    pending.drain(..).for_each(|permit| breaker.abandon(permit));
                    continue;
                }
            };
            match (pending.pop(), breaker.admit(secs(now))) {
                (Some(permit), other) => {
                    breaker.record(secs(now), permit, outcome);
                    if let Ok(other) = other {
                        breaker.abandon(other);
                    }
                }
                (None, Ok(permit)) => drop(breaker.record(secs(now), permit, outcome)),
                (None, Err(_)) => {}
            }
        }
        pending.drain(..).for_each(|permit| breaker.abandon(permit));
        prop_assert!(breaker.admit(secs(now) + RETRY_AFTER_MAX).is_ok());
    }
}
