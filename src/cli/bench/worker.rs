//! The worker of measurements: does nothing, or sleeps, and counts.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;

use crate::queue::{Job, JobContext, JobError, Outcome, Worker};

/// Longest sleep of a job, an hour: longer ones are mistakes.
const SLEEP_MS_MAX: u64 = 3_600_000;

/// What each job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Work {
    /// Nothing.
    Noop,
    /// Sleeps.
    Sleep(Duration),
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "noop" {
            return Ok(Self::Noop);
        }
        let millis = text.strip_prefix("sleep:").and_then(|millis| millis.parse().ok());
        match millis.filter(|millis| *millis <= SLEEP_MS_MAX) {
            Some(millis) => Ok(Self::Sleep(Duration::from_millis(millis))),
            None => Err(format!("write noop, or sleep:MS with at most {SLEEP_MS_MAX} ms, for example sleep:20")),
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noop => f.write_str("noop"),
            Self::Sleep(time) => write!(f, "sleep:{}", time.as_millis()),
        }
    }
}

/// What the jobs of a measurement did. Clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    performed: AtomicU64,
    tells_starts: AtomicBool,
    started: watch::Sender<Option<Instant>>,
    /// When each job began, from a moment on, and how long it had waited for its claim.
    waits: Mutex<Option<Waits>>,
}

#[derive(Debug)]
struct Waits {
    origin: Instant,
    all: Vec<(Duration, Duration)>,
}

/// Waits that are kept at most.
const WAITS_MAX: usize = 10_000_000;

impl Meter {
    /// Jobs that were performed.
    pub(super) fn performed(&self) -> u64 {
        self.0.performed.load(Ordering::Acquire)
    }

    /// Keeps from now on how long jobs wait, and when after `origin`.
    pub(super) fn keep_waits(&self, origin: Instant) {
        *self.waits_kept() = Some(Waits { origin, all: Vec::new() });
    }

    /// What was kept.
    pub(super) fn waits(&self) -> Vec<(Duration, Duration)> {
        self.waits_kept().take().map(|waits| waits.all).unwrap_or_default()
    }

    fn waits_kept(&self) -> MutexGuard<'_, Option<Waits>> {
        self.0.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_wait(&self, job: &Job) {
        if let Some(waits) = &mut *self.waits_kept()
            && waits.all.len() < WAITS_MAX
        {
            let waited = job.attempted_at.unwrap_or(job.scheduled_at) - job.scheduled_at;
            waits.all.push((waits.origin.elapsed(), waited.to_std().unwrap_or_default()));
        }
    }

    /// Tells from now on when a job starts, which costs too much where many do.
    pub(super) fn starts(&self) -> watch::Receiver<Option<Instant>> {
        self.0.tells_starts.store(true, Ordering::Release);
        self.0.started.subscribe()
    }
}

/// Performs jobs of [`Work`].
#[derive(Debug)]
pub(super) struct BenchWorker {
    pub(super) work: Work,
    pub(super) meter: Meter,
}

/// Its name.
pub(super) const WORKER: &str = "bench";

impl Worker for BenchWorker {
    type Args = Value;
    const NAME: &'static str = WORKER;

    async fn perform(&self, _args: Value, context: JobContext) -> Result<Outcome, JobError> {
        self.meter.note_wait(&context.job);
        let counts = &*self.meter.0;
        if counts.tells_starts.load(Ordering::Acquire) {
            counts.started.send_replace(Some(Instant::now()));
        }
        if let Work::Sleep(time) = self.work {
            tokio::time::sleep(time).await;
        }
        counts.performed.fetch_add(1, Ordering::AcqRel);
        Ok(Outcome::Completed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_noop_or_a_sleep() {
        assert_eq!("noop".parse(), Ok(Work::Noop));
        assert_eq!("sleep:20".parse(), Ok(Work::Sleep(Duration::from_millis(20))));
        for text in ["", "sleep", "sleep:", "sleep:1s", "sleep:-1", "sleep:99999999999"] {
            assert!(text.parse::<Work>().is_err(), "{text}");
        }
        assert_eq!(Work::Sleep(Duration::from_millis(20)).to_string(), "sleep:20");
    }
}
