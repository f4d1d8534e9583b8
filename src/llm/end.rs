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
