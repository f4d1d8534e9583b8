//! Circuit breaker of one endpoint: closed → open → half-open with one probe → closed. Pure: the clock is an argument.
//!
//! It keeps a queue from spending attempts and money on an endpoint that is known to be in trouble. It is never a
//! failure of the job: while it is open because of load or trouble, calls are told when to come back; while it is open
//! because of a key or money, they get the same class and reason at once. Half-open sends one probe; everybody else
//! waits for its outcome.

use std::time::Duration;

use serde::Serialize;

use super::error::ErrorClass;

/// First hold; LiteLLM's cooldown. Doubles with each opening until a probe succeeds.
pub(crate) const HOLD_MIN: Duration = Duration::from_secs(5);
/// Longest hold without an announcement by the provider.
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(300);
/// Longest hold with one: then it is asked again.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Failures are counted over this long (LiteLLM: the current minute), in slices.
const WINDOW: Duration = Duration::from_secs(60);
const SLICES: usize = 6;
/// Calls in the window below which a share says nothing (LiteLLM: 5).
const CALLS_MIN: u32 = 5;
/// 429s or 529s in a row, without a success between, that open it. One may be about a single large request, since token
/// quotas refill continuously; two are about everybody.
const LIMITED_IN_A_ROW: u32 = 2;
/// When calls that meet a running probe should come back.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// Leave to call, to be given back by [`Breaker::record`] or [`Breaker::abandon`].
#[derive(Debug)]
pub struct Permit {
    generation: u64,
    is_probe: bool,
}

/// How a call went, as far as the endpoint is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The endpoint answered; also when it found the request wrong, the model declined, or the answer is empty.
    Healthy,
    /// The endpoint is in trouble, or we are with it.
    Failed {
        /// Any class but permanent, refused and empty, which count as healthy.
        class: ErrorClass,
        /// Shown to later callers.
        reason: &'a str,
        /// As the provider announced it.
        retry_after: Option<Duration>,
    },
}

/// A call that is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Exhausted or misconfigured as what opened it; overloaded in every other case.
    pub class: ErrorClass,
    /// What opened it.
    pub reason: String,
    /// When the next probe may go.
    pub retry_after: Duration,
}

/// State to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BreakerView {
    /// Calls pass.
    Closed,
    /// Calls are held back.
    Open {
        /// Until the next probe may go.
        retry_in_ms: u64,
        /// What opened it.
        reason: String,
    },
    /// One probe is on its way.
    HalfOpen {
        /// What opened it.
        reason: String,
    },
}

#[derive(Debug, Clone)]
struct Cause {
    class: ErrorClass,
    reason: String,
}

#[derive(Debug)]
enum State {
    Closed,
    Open { until: Duration, cause: Cause },
    HalfOpen { cause: Cause },
}

#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    number: u64,
    calls: u32,
    failures: u32,
}

/// The breaker. Times are durations since any fixed moment, the same for all calls.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    /// Grows with every change of state, so that calls of an earlier state are told apart.
    generation: u64,
    openings: u32,
    limited_in_a_row: u32,
    window: [Slice; SLICES],
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Closed,
            generation: 0,
            openings: 0,
            limited_in_a_row: 0,
            window: [Slice::default(); SLICES],
        }
    }
}

impl Breaker {
    /// Asks for leave to call at `now`.
    ///
    /// # Errors
    /// It is open, or its probe is on its way.
    pub fn admit(&mut self, now: Duration) -> Result<Permit, Rejection> {
        match &self.state {
            State::Closed => Ok(Permit { generation: self.generation, is_probe: false }),
            State::Open { until, cause } if now < *until => {
                let lasting = matches!(cause.class, ErrorClass::Exhausted | ErrorClass::Misconfigured);
                Err(Rejection {
                    class: if lasting { cause.class } else { ErrorClass::Overloaded },
                    reason: cause.reason.clone(),
                    retry_after: *until - now,
                })
            }
            State::Open { cause, .. } => {
                let cause = cause.clone();
                self.change(State::HalfOpen { cause });
                Ok(Permit { generation: self.generation, is_probe: true })
            }
            // Also for a key or money: the probe may be about to find it repaired, so nobody is turned away for good.
            State::HalfOpen { cause } => Err(Rejection {
                class: ErrorClass::Overloaded,
                reason: format!("a probe is on its way after: {}", cause.reason),
                retry_after: PROBE_WAIT,
            }),
        }
    }

    /// Gives leave back with the call's outcome. Tells whether it opened the breaker.
    pub fn record(&mut self, now: Duration, permit: Permit, outcome: Outcome<'_>) -> bool {
        let (class, reason, retry_after) = match outcome {
            Outcome::Healthy
            | Outcome::Failed { class: ErrorClass::Permanent | ErrorClass::Refused | ErrorClass::Empty, .. } => {
                self.record_healthy(now, &permit);
                return false;
            }
            Outcome::Failed { class, reason, retry_after } => (class, reason, retry_after),
        };
        let cause = Cause { class, reason: reason.to_owned() };
        if permit.generation != self.generation {
            self.record_late(now, cause, retry_after);
            return false;
        }
        if permit.is_probe {
            self.open(now, cause, retry_after);
            return true;
        }
        let is_limited = matches!(class, ErrorClass::Throttled | ErrorClass::Overloaded);
        self.limited_in_a_row = if is_limited { self.limited_in_a_row + 1 } else { self.limited_in_a_row };
        let is_failure = matches!(class, ErrorClass::Transient | ErrorClass::Overloaded);
        let (calls, failures) = self.count(now, is_failure);
        let opens = match class {
            ErrorClass::Exhausted | ErrorClass::Misconfigured => true,
            _ if self.limited_in_a_row >= LIMITED_IN_A_ROW => true,
            _ => is_failure && calls >= CALLS_MIN && failures * 2 > calls,
        };
        if opens {
            self.open(now, cause, retry_after);
        }
        opens
    }

    /// Gives leave back without an outcome: the call was dropped, or ended in trouble of another kind. A probe's place
    /// is free again at once.
    pub fn abandon(&mut self, permit: Permit) {
        if let State::HalfOpen { cause } = &self.state
            && permit.is_probe
            && permit.generation == self.generation
        {
            let cause = cause.clone();
            self.change(State::Open { until: Duration::ZERO, cause });
        }
    }

    /// State to show at `now`.
    pub fn view(&self, now: Duration) -> BreakerView {
        match &self.state {
            State::Closed => BreakerView::Closed,
            State::Open { until, cause } => BreakerView::Open {
                retry_in_ms: super::reply::millis(until.saturating_sub(now)),
                reason: cause.reason.clone(),
            },
            State::HalfOpen { cause } => BreakerView::HalfOpen { reason: cause.reason.clone() },
        }
    }

    fn record_healthy(&mut self, now: Duration, permit: &Permit) {
        if permit.generation != self.generation {
            return;
        }
        self.limited_in_a_row = 0;
        if permit.is_probe {
            self.openings = 0;
            self.window = [Slice::default(); SLICES];
            self.change(State::Closed);
        } else {
            self.count(now, false);
        }
    }

    /// An outcome of a call that began before it opened adds what is new: a longer wait, or a cause that waiting does
    /// not cure.
    fn record_late(&mut self, now: Duration, late: Cause, retry_after: Option<Duration>) {
        let State::Open { until, cause } = &mut self.state else { return };
        if let Some(wait) = retry_after {
            *until = (*until).max(now + wait.min(RETRY_AFTER_MAX));
        }
        if matches!(late.class, ErrorClass::Exhausted | ErrorClass::Misconfigured) {
            *cause = late;
        }
    }

    fn open(&mut self, now: Duration, cause: Cause, retry_after: Option<Duration>) {
        let doubled = HOLD_MIN.saturating_mul(1_u32.checked_shl(self.openings).unwrap_or(u32::MAX)).min(HOLD_MAX);
        let hold = retry_after.map_or(doubled, |announced| announced.min(RETRY_AFTER_MAX));
        self.openings = self.openings.saturating_add(1);
        self.limited_in_a_row = 0;
        self.change(State::Open { until: now + hold, cause });
    }

    fn change(&mut self, state: State) {
        self.generation += 1;
        self.state = state;
    }

    /// Counts a call; returns calls and failures of the window.
    fn count(&mut self, now: Duration, is_failure: bool) -> (u32, u32) {
        let length = WINDOW.as_millis() / SLICES as u128;
        let number = u64::try_from(now.as_millis() / length).unwrap_or(u64::MAX);
        let index = usize::try_from(number % SLICES as u64).unwrap_or(0);
        let slice = &mut self.window[index];
        if slice.number != number {
            *slice = Slice { number, ..Slice::default() };
        }
        slice.calls = slice.calls.saturating_add(1);
        slice.failures = slice.failures.saturating_add(u32::from(is_failure));
        let recent = self.window.iter().filter(|slice| number - slice.number.min(number) < SLICES as u64);
        recent.fold((0, 0), |(calls, failures), slice| {
            (slice.calls.saturating_add(calls), slice.failures.saturating_add(failures))
        })
    }
}

#[cfg(test)]
mod tests;
