//! When a call must be over: by the provider's time limit `total`, or before, because whoever asks has no longer.
//!
//! A call that ends by itself leaves what it used up and tells the breaker; one that is dropped with its caller leaves
//! neither. So the caller's own limit is made one of the call's.

use std::future::Future;

use tokio::time::{Instant, timeout_at};

use super::error::ErrorClass;
use super::reply::Failure;
use crate::config::Period;

/// The limit that is the caller's, in the words of an error.
const OF_CALLER: &str = "the time of the attempt";

/// End of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) at: Instant,
    total: Period,
    is_callers: bool,
}

impl End {
    /// Of a call that begins now; `until` is the caller's, where it has one.
    pub(crate) fn of(total: Period, until: Option<Instant>) -> Self {
        let own = Instant::now() + total.get();
        let at = until.map_or(own, |until| until.min(own));
        Self { at, total, is_callers: at < own }
    }

    pub(crate) fn has_passed(&self) -> bool {
        Instant::now() >= self.at
    }

    /// `10m, the time limit total`
    pub(crate) fn limit(&self) -> String {
        if self.is_callers { OF_CALLER.to_owned() } else { format!("{}, the time limit total", self.total) }
    }
}

/// A call that is not begun, because the caller's time is over.
///
/// # Errors
/// It is.
pub(crate) fn in_time(until: Option<Instant>) -> Result<(), Failure> {
    if until.is_some_and(|until| until <= Instant::now()) {
        return Err(Failure { sent: false, ..late() });
    }
    Ok(())
}

/// A call that has no limit of its own.
pub(crate) async fn within<T>(
    until: Option<Instant>,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match until {
        Some(until) => timeout_at(until, call).await.unwrap_or_else(|_| Err(late())),
        None => call.await,
    }
}

fn late() -> Failure {
    Failure::new(ErrorClass::Transient, format!("the answer was not there within {OF_CALLER}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_of_both_limits_ends_a_call() {
        let (now, total) = (Instant::now(), Period::from_secs(60));
        let at = |secs| now + Duration::from_secs(secs);
        for (until, end, limit) in [
            (None, 60, "1m, the time limit total"),
            (Some(at(90)), 60, "1m, the time limit total"),
            (Some(at(9)), 9, OF_CALLER),
        ] {
            let of = End::of(total, until);
            assert_eq!((of.at, of.limit().as_str(), of.has_passed()), (at(end), limit, false));
        }
        assert!(End::of(total, Some(now)).has_passed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_not_begun_when_the_time_is_over_and_not_awaited_for_longer() {
        let now = Instant::now();
        assert!(in_time(None).is_ok() && in_time(Some(now + Duration::from_secs(1))).is_ok());
        let unsent = in_time(Some(now)).unwrap_err();
        assert_eq!((unsent.class, unsent.sent), (ErrorClass::Transient, false));
        let answer = |secs| async move {
            tokio::time::sleep(Duration::from_secs(secs)).await;
            Ok(secs)
        };
        let until = Some(now + Duration::from_secs(5));
        assert_eq!(within(until, answer(4)).await.unwrap(), 4);
        assert_eq!(within(None, answer(400)).await.unwrap(), 400);
        let late = within(Some(Instant::now() + Duration::from_secs(5)), answer(6)).await.unwrap_err();
        assert_eq!((late.class, late.sent), (ErrorClass::Transient, true));
        assert!(late.message.ends_with(OF_CALLER), "{}", late.message);
    }
}
