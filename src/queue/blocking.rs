//! How much blocking code the jobs of one queue run at once.
//!
//! Blocking code has threads of its own, so that it holds none that the code of other jobs needs. A queue gets so many
//! of them and no more, because all queues share them. A permit lasts as long as the code, whatever became of its job.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most blocking pieces of code of one queue at a time: the threads that tokio has for them.
pub const BLOCKING_MAX: u32 = 512;

/// Permits for blocking code. Those who wait get them in the order in which they asked.
#[derive(Debug)]
pub(super) struct Blocking {
    permits: Arc<Semaphore>,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    max: u32,
    /// Permits that are still out but were taken away when the maximum was lowered.
    owed: u32,
}

/// The right to run one piece of blocking code.
#[derive(Debug)]
pub(super) struct BlockingPermit {
    permit: Option<OwnedSemaphorePermit>,
    of: Arc<Blocking>,
}

impl Blocking {
    pub(super) fn new(max: u32) -> Self {
        let max = max.clamp(1, BLOCKING_MAX);
        Self { permits: Arc::new(Semaphore::new(max as usize)), counts: Mutex::new(Counts { max, owed: 0 }) }
    }

    /// Changes the maximum, which holds for the next that asks; code that runs goes on.
    pub(super) fn set_max(&self, max: u32) {
        let max = max.clamp(1, BLOCKING_MAX);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let more = max.saturating_sub(counts.max);
        let fewer = counts.max.saturating_sub(max);
        let kept = more.min(counts.owed);
        self.permits.add_permits((more - kept) as usize);
        let taken = u32::try_from(self.permits.forget_permits(fewer as usize)).unwrap_or(fewer);
        *counts = Counts { max, owed: counts.owed - kept + (fewer - taken) };
    }

    /// Waits for a permit; `None` never comes, because nobody closes the semaphore. Cancel safe.
    pub(super) async fn permit(self: &Arc<Self>) -> Option<BlockingPermit> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        Some(BlockingPermit { permit: Some(permit), of: Arc::clone(self) })
    }
}

impl Drop for BlockingPermit {
    fn drop(&mut self) {
        let mut counts = self.of.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(permit) = self.permit.take_if(|_| counts.owed > 0) {
            counts.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn take(blocking: &Arc<Blocking>) -> Option<BlockingPermit> {
        match std::pin::pin!(blocking.permit()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => permit,
            Poll::Pending => None,
        }
    }

    fn take_all(blocking: &Arc<Blocking>) -> Vec<BlockingPermit> {
        std::iter::from_fn(|| take(blocking)).collect()
    }

    #[test]
    fn a_lower_maximum_holds_when_as_many_have_ended_and_a_higher_one_at_once() {
        let blocking = Arc::new(Blocking::new(4));
        let mut out = take_all(&blocking);
        assert_eq!(out.len(), 4);
        blocking.set_max(2);
        for left in [3, 2] {
            out.pop();
            assert_eq!(out.len(), left);
            assert!(take(&blocking).is_none(), "{left} still run");
        }
        out.pop();
        out.push(take(&blocking).unwrap());
        assert!(take(&blocking).is_none());
        blocking.set_max(1);
        blocking.set_max(5);
        out.extend(take_all(&blocking));
        assert_eq!(out.len(), 5);
        out.clear();
        assert_eq!(take_all(&blocking).len(), 5);
        blocking.set_max(0);
        assert_eq!(take_all(&blocking).len(), 1, "never none, or jobs would wait for ever");
    }
}
