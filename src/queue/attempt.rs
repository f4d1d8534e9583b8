//! One attempt that this instance owns: the job, its slot, and the duty to say what it came to.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::backoff::backoff;
use super::completions::{Completion, Completions};
use super::engine::GuardedAck;
use super::job::Job;
use super::job_runtime::{JobCodeError, JobRuntime};
use super::outcome::{Outcome, ack};
use super::slots::{QueueState, Slot};
use super::stop::StopSignal;

/// A claimed job. Whoever executes it must [`finish`](Attempt::finish) it; one that is dropped unfinished counts as
/// failed, so that no job stays `executing` because its executor died.
///
/// What it came to is reported only when its code has ended. Code that never awaits cannot be stopped: until it ends by
/// itself its job stays `executing` and is given to nobody else. It keeps its slot too, unless its queue releases it.
#[derive(Debug)]
pub struct Attempt {
    duty: Arc<Duty>,
    runtime: JobRuntime,
}

/// Reports when the last holder is gone: the attempt, its code, and the producer while it hands it over.
#[derive(Debug)]
pub(super) struct Duty {
    job: Arc<Job>,
    queue: Arc<QueueState>,
    slot: Slot,
    stop: StopSignal,
    completions: Completions,
    started: Instant,
    /// Pieces of code that run.
    code: TaskTracker,
    verdict: Mutex<Verdict>,
    backoff: OnceLock<Backoff>,
}

/// What is reported in the end.
#[derive(Debug)]
struct Verdict {
    outcome: Outcome,
    /// Somebody has decided. Before, it is what holds if nobody does.
    is_decided: bool,
}

/// How long a worker lets a failed job wait, where it says so.
#[derive(Clone)]
struct Backoff(Arc<BackoffOf>);

/// Job and error in, wait out.
pub(super) type BackoffOf = dyn Fn(&Job, &str) -> Option<Duration> + Send + Sync;

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backoff")
    }
}

impl Attempt {
    /// Takes slots of `queue` for jobs that were just claimed by it. Dropped as they are, they are handed back.
    pub(crate) fn of_claimed(
        jobs: Vec<Job>,
        queue: &Arc<QueueState>,
        runtime: &JobRuntime,
        completions: &Completions,
    ) -> Vec<Self> {
        let started = Instant::now();
        let slots = queue.occupy(jobs.iter().map(|job| job.id));
        let attempts = jobs.into_iter().zip(slots).map(|(job, (slot, stop))| {
            let code = TaskTracker::new();
            code.close();
            let duty = Duty {
                job: Arc::new(job),
                queue: Arc::clone(queue),
                slot,
                stop,
                completions: completions.clone(),
                started,
                code,
                verdict: Mutex::new(Verdict { outcome: Outcome::HandedBack, is_decided: false }),
                backoff: OnceLock::new(),
            };
            Self { duty: Arc::new(duty), runtime: runtime.clone() }
        });
        attempts.collect()
    }

    /// With its time beginning now, where it waited for its turn after the claim.
    pub(crate) fn beginning_now(mut self) -> Self {
        // Nothing of it has begun, so nobody else has a part in its duty.
        if let Some(duty) = Arc::get_mut(&mut self.duty) {
            duty.started = Instant::now();
        }
        self
    }

    /// The job, at this attempt.
    pub fn job(&self) -> &Arc<Job> {
        &self.duty.job
    }

    /// How it is asked to stop.
    pub fn stop(&self) -> &StopSignal {
        &self.duty.stop
    }

    /// The producer that must still own the row for a write to count.
    pub fn producer(&self) -> uuid::Uuid {
        self.duty.queue.producer()
    }

    /// Time since it was claimed.
    pub fn elapsed(&self) -> Duration {
        self.duty.started.elapsed()
    }

    /// Runs a piece of the job's code on the job runtime and waits for it.
    ///
    /// Cancel safety: dropping the returned future aborts the code at its next await; [`Attempt::code_ended`] tells
    /// when.
    ///
    /// # Errors
    /// [`JobCodeError::Panicked`] with message and location; [`JobCodeError::Gone`] while the runtime shuts down.
    pub async fn run<T: Send + 'static>(
        &self,
        code: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JobCodeError> {
        let (duty, token) = (Arc::clone(&self.duty), self.duty.code.token());
        let running = self.runtime.run(async move {
            let _held = (duty, token);
            code.await
        });
        let ended = running.await;
        if matches!(ended, Err(JobCodeError::Gone)) {
            self.lost_runtime();
        }
        ended
    }

    /// Says that its code has no runtime left.
    pub(super) fn lost_runtime(&self) {
        self.duty.queue.pause_without_runtime();
    }

    /// Runs a piece of the job's code that blocks its thread, on a thread of its own. See
    /// [`super::JobContext::run_blocking`].
    ///
    /// # Errors
    /// As [`Attempt::run`].
    pub async fn run_blocking<T: Send + 'static>(
        &self,
        code: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobCodeError> {
        Duty::run_blocking(&Arc::downgrade(&self.duty), &self.runtime, code).await
    }

    /// Resolves when none of the job's code runs. Cancel safe.
    pub async fn code_ended(&self) {
        self.duty.code.wait().await;
    }

    /// Says that its code was told to end and does not. Returns whether its slot is given to others therefore.
    pub(super) fn stuck(&self) -> bool {
        self.duty.queue.release_stuck(self.duty.slot)
    }

    /// Says what it came to. The completer gets it when the code has ended; the slot is freed when that is stored.
    pub fn finish(self, outcome: Outcome) {
        self.duty.decide(outcome);
    }

    /// Lets the worker say how long the job waits when it fails without saying so.
    pub(super) fn back_off_by(&self, backoff: Arc<BackoffOf>) {
        // Refused only when it was said before.
        drop(self.duty.backoff.set(Backoff(backoff)));
    }

    /// When a limit of its time is over, which begins with its claim. One that is further away than any clock goes is
    /// none.
    pub(super) fn deadline(&self, timeout: Option<Duration>) -> Option<Instant> {
        timeout.and_then(|timeout| self.duty.started.checked_add(timeout))
    }

    /// Its duty, and where its code runs.
    pub(super) fn into_parts(self) -> (Arc<Duty>, JobRuntime) {
        (self.duty, self.runtime)
    }

    /// The attempt of this duty.
    pub(super) fn from_parts(duty: Arc<Duty>, runtime: JobRuntime) -> Self {
        Self { duty, runtime }
    }

    pub(super) fn runtime(&self) -> &JobRuntime {
        &self.runtime
    }

    pub(super) fn duty(&self) -> Arc<Duty> {
        Arc::clone(&self.duty)
    }
}

impl Duty {
    /// Runs blocking code of an attempt whose duty may be done already, when the queue has a permit for it. Code that
    /// runs holds the permit and the duty until it ends, whoever waits for it.
    pub(super) async fn run_blocking<T: Send + 'static>(
        duty: &Weak<Self>,
        runtime: &JobRuntime,
        code: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobCodeError> {
        // Not held while it waits: only code that runs may hold up what the attempt came to.
        let blocking = Arc::clone(duty.upgrade().ok_or(JobCodeError::Gone)?.queue.blocking());
        let permit = blocking.permit().await.ok_or(JobCodeError::Gone)?;
        let duty = duty.upgrade().ok_or(JobCodeError::Gone)?;
        let held = (permit, duty.code.token(), duty);
        runtime
            .run_blocking(move || {
                let _held = held;
                code()
            })
            .await
    }

    /// What is reported in the end. The first decision stands.
    pub(super) fn decide(&self, outcome: Outcome) {
        self.set(outcome, true);
    }

    /// As long as nothing is decided, an executor that is gone has failed.
    pub(super) fn expect_executor(&self) {
        let error = "** (ExecutorExit) the executor ended without saying what the attempt came to".into();
        self.set(Outcome::Failed { error, retry_in: None }, false);
    }

    fn set(&self, outcome: Outcome, is_decided: bool) {
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if !verdict.is_decided {
            *verdict = Verdict { outcome, is_decided };
        }
    }

    pub(super) fn job(&self) -> &Job {
        &self.job
    }

    pub(super) fn stop(&self) -> &StopSignal {
        &self.stop
    }

    /// Time since the job was claimed.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Held by a piece of code for as long as it runs.
    pub(super) fn code_token(&self) -> TaskTrackerToken {
        self.code.token()
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        let job = &self.job;
        let outcome = &self.verdict.get_mut().unwrap_or_else(PoisonError::into_inner).outcome;
        let wait = match outcome {
            Outcome::Failed { error, retry_in: None } => {
                // Code of the worker's, and this may run while a task unwinds: a panic in it must not become an abort.
                let chosen = self.backoff.get().and_then(|Backoff(of)| {
                    std::panic::catch_unwind(AssertUnwindSafe(|| of(job, error))).unwrap_or(None)
                });
                chosen.unwrap_or_else(|| backoff(job.attempt, job.max_attempts, &mut rand::rng()))
            }
            _ => Duration::ZERO,
        };
        let ack = ack(outcome, job.id, job.attempt, job.max_attempts, wait);
        self.queue.finished(self.slot);
        self.completions.push(Completion {
            ack: GuardedAck { ack, producer: self.queue.producer(), attempted_at: job.attempted_at },
            job: Arc::clone(job),
            queue: Arc::clone(&self.queue),
            slot: self.slot,
            duration: self.started.elapsed(),
            in_doubt: false,
        });
    }
}
