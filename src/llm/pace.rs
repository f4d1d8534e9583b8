//! A call's place in the line of what may be called when, by the governors of its provider and its model.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::ErrorClass;
use super::governor::{self, Governor, Slow};
use super::reply::Failure;

/// Longest wait in place. A job that would wait longer is scheduled again instead, so that it holds no slot.
pub const PACE_PATIENCE: Duration = Duration::from_secs(2);

/// A place that was taken. Dropped before its end, it is given back as that of a call that was not made.
pub(crate) struct Turn<'a> {
    governors: [&'a Mutex<Governor>; 2],
    guess: u64,
    wait: Duration,
    is_open: bool,
}

impl<'a> Turn<'a> {
    /// Takes a place for a call of about `guess` tokens.
    pub(crate) fn take(governors: [&'a Mutex<Governor>; 2], guess: u64, now: Duration) -> Result<Self, Slow> {
        let [mut first, mut second] = governors.map(lock);
        let wait = governor::admit(&mut [&mut first, &mut second], guess, now, PACE_PATIENCE)?;
        Ok(Self { governors, guess, wait, is_open: true })
    }

    /// Waits until it is time.
    pub(crate) async fn wait(&self) {
        if !self.wait.is_zero() {
            tokio::time::sleep(self.wait).await;
        }
    }

    /// The call was answered and used so many tokens.
    pub(crate) fn answered(mut self, used: u64) {
        self.settle(used, true);
    }

    /// The call failed, and the provider may ask for a pause. What the call did not use is given back before, so that
    /// it is no room for others in the pause.
    pub(crate) fn failed(mut self, failure: &Failure, now: Duration) {
        self.settle(failure.spent.as_ref().map_or(0, |spent| spent.usage.total()), failure.sent);
        if let (ErrorClass::Throttled, Some(wait)) = (failure.class, failure.retry_after) {
            self.governors.into_iter().for_each(|governor| lock(governor).slow_down(wait, now));
        }
    }

    fn settle(&mut self, used: u64, sent: bool) {
        if std::mem::take(&mut self.is_open) {
            let [mut first, mut second] = self.governors.map(lock);
            governor::settle(&mut [&mut first, &mut second], self.guess, used, sent);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.settle(0, false);
    }
}

/// A governor is whole between any two of its statements that can panic, so a poisoned lock is as good as another. Both
/// are always locked in the order provider, model.
fn lock(governor: &Mutex<Governor>) -> MutexGuard<'_, Governor> {
    governor.lock().unwrap_or_else(PoisonError::into_inner)
}
