//! One attempt that this instance owns: the job, its slot, and the duty to say what it came to.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::backoff;
use super::completer::{Completion, Completions};
use super::engine::GuardedAck;
use super::job::Job;
use super::job_runtime::JobRuntime;
use super::outcome::{Outcome, ack};
use super::slots::QueueState;
use super::stop::StopSignal;

/// A claimed job. Whoever holds it must [`finish`](Attempt::finish) it; one that is dropped unfinished counts as
/// failed, so that no job stays `executing` because its executor died.
#[derive(Debug)]
pub struct Attempt {
    job: Arc<Job>,
    queue: Arc<QueueState>,
    stop: StopSignal,
    runtime: JobRuntime,
    completions: Completions,
    started: Instant,
    finished: bool,
}

impl Attempt {
    /// Takes a slot of `queue` for a job that was just claimed by it.
    pub(super) fn new(job: Job, queue: &Arc<QueueState>, runtime: &JobRuntime, completions: &Completions) -> Self {
        let stop = StopSignal::default();
        queue.occupy(job.id, stop.clone());
        Self {
            job: Arc::new(job),
            queue: Arc::clone(queue),
            stop,
            runtime: runtime.clone(),
            completions: completions.clone(),
            started: Instant::now(),
            finished: false,
        }
    }

    /// The job, at this attempt.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// How it is asked to stop.
    pub fn stop(&self) -> &StopSignal {
        &self.stop
    }

    /// Where its code runs.
    pub fn runtime(&self) -> &JobRuntime {
        &self.runtime
    }

    /// The producer that must still own the row for a write to count.
    pub fn producer(&self) -> uuid::Uuid {
        self.queue.producer()
    }

    /// Time since it was claimed.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Hands what it came to to the completer; the slot is freed when that is stored.
    pub fn finish(mut self, outcome: Outcome) {
        self.complete(outcome);
    }

    fn complete(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let job = &self.job;
        let wait = backoff(job.attempt, job.max_attempts, &mut rand::rng());
        let ack = ack(&outcome, job.id, job.attempt, job.max_attempts, wait);
        self.completions.push(Completion {
            ack: GuardedAck { ack, producer: self.queue.producer() },
            job: Arc::clone(job),
            queue: Arc::clone(&self.queue),
            duration: self.started.elapsed(),
        });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.complete(Outcome::Failed {
            error: "** (ExecutorExit) the executor ended without saying what the attempt came to".into(),
            retry_in: None,
        });
    }
}
