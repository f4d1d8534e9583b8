//! Jobs that run where they are enqueued, and are stored nowhere.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use super::perform::{build_job, run};
use crate::queue::engine::Inserted;
use crate::queue::{Enqueue, Job, NewJob, Outcome, QueueError, State, Worker};

/// Jobs that an [`Inline`] remembers; older ones are forgotten.
pub const INLINE_PERFORMED_MAX: usize = 10_000;

/// Takes the place of an [`Engine`](crate::queue::Engine) in code that enqueues through [`Enqueue`]: each job is
/// performed at once, in the caller, and its failure is the error of the insertion. Oban's testing mode `inline`.
///
/// A job that is scheduled for later runs at once too. Nothing is stored, so no job is unique, and a job that snoozes
/// stays snoozed. A panic of the worker goes on into the test.
#[derive(Default)]
pub struct Inline {
    workers: BTreeMap<&'static str, Arc<dyn Performs>>,
    last_id: AtomicI64,
    performed: Mutex<VecDeque<InlineJob>>,
}

/// A job that was performed inline.
#[derive(Debug, Clone, PartialEq)]
pub struct InlineJob {
    /// As it was performed, in the state that it came to.
    pub job: Job,
    /// What it came to.
    pub outcome: Outcome,
}

trait Performs: Send + Sync {
    fn perform(&self, job: Job) -> BoxFuture<'_, Outcome>;
}

impl<W: Worker> Performs for W {
    fn perform(&self, job: Job) -> BoxFuture<'_, Outcome> {
        Box::pin(run(self, job))
    }
}

impl Inline {
    /// Adds a worker, under its name and its aliases.
    #[must_use]
    pub fn with(mut self, worker: impl Worker) -> Self {
        fn names<W: Worker>(_: &W) -> impl Iterator<Item = &'static str> + use<W> {
            W::ALIASES.iter().copied().chain([W::NAME])
        }
        let names = names(&worker);
        let worker: Arc<dyn Performs> = Arc::new(worker);
        self.workers.extend(names.map(|name| (name, Arc::clone(&worker))));
        self
    }

    /// The jobs that were performed, in the order of their ends.
    pub fn performed(&self) -> Vec<InlineJob> {
        self.performed.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn remember(&self, done: InlineJob) {
        let mut performed = self.performed.lock().unwrap_or_else(PoisonError::into_inner);
        if performed.len() == INLINE_PERFORMED_MAX {
            performed.pop_front();
        }
        performed.push_back(done);
    }
}

impl Enqueue for Inline {
    /// Performs it.
    ///
    /// # Errors
    /// [`QueueError::Invalid`], also for a worker that was not added; [`QueueError::Inline`] when it fails.
    async fn enqueue(&self, job: NewJob) -> Result<Inserted, QueueError> {
        let mut job = build_job(job)?;
        let Some(worker) = self.workers.get(job.worker.as_str()) else {
            let allowed = "a worker that was added to Inline";
            return Err(QueueError::Invalid { field: "worker", value: job.worker, allowed });
        };
        job.id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let outcome = worker.perform(job.clone()).await;
        job.state = match &outcome {
            Outcome::Completed | Outcome::Recorded(_) => State::Completed,
            Outcome::Failed { .. } if job.attempt >= job.max_attempts => State::Discarded,
            Outcome::Failed { .. } => State::Retryable,
            Outcome::Snoozed(_) | Outcome::HandedBack => State::Scheduled,
            Outcome::Cancelled(_) => State::Cancelled,
            Outcome::Discarded(_) => State::Discarded,
        };
        let (id, worker) = (job.id, job.worker.clone());
        self.remember(InlineJob { job, outcome: outcome.clone() });
        match outcome {
            Outcome::Failed { error, .. } => Err(QueueError::Inline { worker, error }),
            _ => Ok(Inserted { id, conflict: false, replaced: false }),
        }
    }

    /// Performs one after the other, until one fails.
    async fn enqueue_all(&self, jobs: Vec<NewJob>) -> Result<Vec<Inserted>, QueueError> {
        let mut inserted = Vec::with_capacity(jobs.len());
        for job in jobs {
            inserted.push(self.enqueue(job).await?);
        }
        Ok(inserted)
    }
}

impl std::fmt::Debug for Inline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inline").field("workers", &self.workers.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::error::Coded;
    use crate::queue::{JobContext, JobError, Schedule, WorkerOptions};

    /// Enqueues itself with one less, down to zero.
    struct Countdown(Arc<OnceLock<Arc<Inline>>>);

    impl Worker for Countdown {
        type Args = Value;
        const NAME: &'static str = "countdown";
        const ALIASES: &'static [&'static str] = &["MyApp.Countdown"];
        const OPTIONS: WorkerOptions = WorkerOptions { max_attempts: 1, ..WorkerOptions::DEFAULT };

        async fn perform(&self, args: Value, _: JobContext) -> Result<Outcome, JobError> {
            let Some(from) = args["from"].as_u64() else { return Ok(Outcome::Snoozed(Duration::ZERO)) };
            if from == 13 {
                return Err(JobError::msg("out of luck"));
            }
            if from > 0 {
                let inline = self.0.get().ok_or_else(|| JobError::msg("no queue"))?;
                inline.enqueue(Self::new_job(&json!({"from": from - 1}))?).await?;
            }
            Ok(Outcome::Completed)
        }
    }

    fn inline() -> Arc<Inline> {
        let known = Arc::new(OnceLock::new());
        let inline = Arc::new(Inline::default().with(Countdown(Arc::clone(&known))));
        assert!(known.set(Arc::clone(&inline)).is_ok());
        inline
    }

    fn job(args: Value) -> NewJob {
        Countdown::new_job(&args).unwrap()
    }

    #[tokio::test]
    async fn a_job_is_performed_when_it_is_enqueued_and_so_are_those_that_it_enqueues() {
        let inline = inline();
        let later = job(json!({"from": 2})).schedule(Schedule::In(Duration::from_secs(3_600)));
        let inserted =
            inline.enqueue_all(vec![later, NewJob::new("MyApp.Countdown", json!({"from": 0}))]).await.unwrap();
        assert_eq!(inserted.iter().map(|one| one.id).collect::<Vec<_>>(), [1, 4]);
        let performed: Vec<_> = inline.performed().into_iter().map(|done| (done.job.id, done.job.state)).collect();
        assert_eq!(performed, [3, 2, 1, 4].map(|id| (id, State::Completed)), "in the order of their ends");
    }

    #[tokio::test]
    async fn a_failure_is_the_error_of_the_insertion_and_other_ends_are_not() {
        let inline = inline();
        let error = inline.enqueue(job(json!({"from": 14}))).await.unwrap_err();
        assert_eq!(error.code(), "E0442");
        assert!(error.to_string().contains("worker countdown failed inline: ** (JobError) out of luck"), "{error}");
        assert!(inline.enqueue(job(json!({}))).await.is_ok());
        let states: Vec<_> = inline.performed().into_iter().map(|done| done.job.state).collect();
        assert_eq!(states, [State::Discarded, State::Discarded, State::Scheduled]);
    }

    #[tokio::test]
    async fn bad_jobs_and_unknown_workers_are_refused_as_by_a_database() {
        let inline = inline();
        for bad in [job(json!({})).priority(10), NewJob::new("unknown", json!({}))] {
            assert_eq!(inline.enqueue(bad).await.unwrap_err().code(), "E0401");
        }
        assert!(inline.performed().is_empty());
    }
}
