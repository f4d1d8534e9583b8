//! Running the jobs of a queue until none is left, without a node.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::runtime::Handle;

use super::error::TestingError;
use crate::config::Queue;
use crate::queue::engine::Claim;
use crate::queue::{
    Attempt, Completer, Completions, Engine, Job, JobRuntime, QueueState, State, Workers, start_attempt,
};
use crate::supervision::{DynamicHandle, DynamicSupervisorSpec, Strategy, SupervisorSpec, System};

/// Jobs in one round of [`drain_queue`]; without [`Drain::with_recursion`] there is one round.
pub const DRAIN_ROUND_MAX: u32 = 10_000;

/// Rounds of one [`drain_queue`] with [`Drain::with_recursion`], unless [`Drain::with_rounds`] says otherwise: more are
/// jobs that enqueue or snooze without an end.
pub const DRAIN_ROUNDS_MAX: usize = 10_000;

/// First element of `attempted_by` of drained jobs.
const DRAINED_BY: &str = "drain";

/// How [`drain_queue`] drains. Names and defaults are Oban's.
#[derive(Debug, Clone)]
pub struct Drain {
    queue: String,
    limit: u32,
    rounds: usize,
    safety: bool,
    scheduled: Due,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Due {
    Waits,
    Until(DateTime<Utc>),
    All,
}

impl Drain {
    /// Runs the jobs of `queue` that are available now, once; failures are counted.
    pub fn queue(queue: impl Into<String>) -> Self {
        Self { queue: queue.into(), limit: DRAIN_ROUND_MAX, rounds: 1, safety: true, scheduled: Due::Waits }
    }

    /// At most so many jobs in a round.
    #[must_use]
    pub fn with_limit(mut self, limit: u32) -> Self {
        self.limit = limit.min(DRAIN_ROUND_MAX);
        self
    }

    /// Goes on until none is left: also with those that jobs enqueued, or that failed and are available again.
    #[must_use]
    pub fn with_recursion(mut self) -> Self {
        self.rounds = DRAIN_ROUNDS_MAX;
        self
    }

    /// Goes on as [`Drain::with_recursion`], and when there are still jobs after so many rounds it is an error.
    #[must_use]
    pub fn with_rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds.max(1);
        self
    }

    /// Makes the first failure an error; jobs that did not run by then stay available.
    #[must_use]
    pub fn without_safety(mut self) -> Self {
        self.safety = false;
        self
    }

    /// Runs also what is scheduled or retryable, whenever it is due.
    #[must_use]
    pub fn with_scheduled(mut self) -> Self {
        self.scheduled = Due::All;
        self
    }

    /// Runs also what is scheduled or retryable and due at `moment`, as if it were that time.
    #[must_use]
    pub fn with_scheduled_until(mut self, moment: DateTime<Utc>) -> Self {
        self.scheduled = Due::Until(moment);
        self
    }
}

/// What drained jobs came to, counted by attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DrainCounts {
    /// Completed.
    pub success: usize,
    /// Failed, with attempts left.
    pub failure: usize,
    /// Failed for the last time, or given up by their workers.
    pub discard: usize,
    /// Cancelled by their workers.
    pub cancelled: usize,
    /// Scheduled again.
    pub snoozed: usize,
}

impl DrainCounts {
    fn total(self) -> usize {
        self.success + self.failure + self.discard + self.cancelled + self.snoozed
    }

    fn add(&mut self, other: Self) {
        self.success += other.success;
        self.failure += other.failure;
        self.discard += other.discard;
        self.cancelled += other.cancelled;
        self.snoozed += other.snoozed;
    }
}

/// Runs jobs of one queue one after the other, in the order of the queue, and waits for each: supervised, stored and
/// timed as on a node, with the jobs' code on the runtime of the caller. Jobs of workers that `workers` does not know
/// stay where they are.
///
/// Cancel safety: when the future is dropped the job under way is killed; jobs of its round stay `executing`.
///
/// # Errors
/// [`TestingError::Queue`]; [`TestingError::Failed`] with [`Drain::without_safety`]; [`TestingError::Assertion`] when
/// jobs are left after all rounds.
pub async fn drain_queue(engine: &Engine, workers: &Workers, drain: &Drain) -> Result<DrainCounts, TestingError> {
    let (completions, executors) = (Completions::default(), DynamicHandle::new());
    let root = SupervisorSpec::new("drain", Strategy::OneForOne)
        .child(Completer::child(engine.clone(), completions.clone()))
        .child(DynamicSupervisorSpec::new("executors", DRAIN_ROUND_MAX as usize).into_child(&executors));
    let running = System::new("drain").start(root).await?;
    let queue = Arc::new(QueueState::new(&drain.queue, Queue { limit: DRAIN_ROUND_MAX, ..Queue::default() }));
    let drainer = Drainer { engine, workers, drain, queue, completions, executors };
    let drained = drainer.rounds().await;
    // In order: what was not run is handed back, and that is stored, before it is over.
    running.stop().await;
    drained
}

struct Drainer<'a> {
    engine: &'a Engine,
    workers: &'a Workers,
    drain: &'a Drain,
    queue: Arc<QueueState>,
    completions: Completions,
    executors: DynamicHandle,
}

impl Drainer<'_> {
    async fn rounds(&self) -> Result<DrainCounts, TestingError> {
        let mut counts = DrainCounts::default();
        for _ in 0..self.drain.rounds {
            let round = self.round().await?;
            counts.add(round);
            if self.drain.rounds == 1 || round.total() == 0 {
                return Ok(counts);
            }
        }
        let (queue, rounds) = (&self.drain.queue, self.drain.rounds);
        Err(TestingError::Assertion(format!("queue {queue} still has jobs after {rounds} rounds: {counts:?}")))
    }

    async fn round(&self) -> Result<DrainCounts, TestingError> {
        match self.drain.scheduled {
            Due::Waits => {}
            Due::Until(moment) => drop(self.engine.make_available(&self.drain.queue, Some(moment)).await?),
            Due::All => drop(self.engine.make_available(&self.drain.queue, None).await?),
        }
        let names = self.workers.names();
        let claim = Claim {
            queue: &self.drain.queue,
            instance_id: DRAINED_BY,
            producer: self.queue.producer(),
            workers: &names,
            demand: self.drain.limit,
        };
        // All of the round first: those that are not run are handed back when they are dropped.
        let runtime = JobRuntime::new(Handle::current());
        let jobs = self.engine.claim(&claim).await?;
        let attempts = Attempt::of_claimed(jobs, &self.queue, &runtime, &self.completions);
        let mut counts = DrainCounts::default();
        for attempt in attempts {
            let id = attempt.job().id;
            let before = self.queue.running();
            start_attempt(&self.executors, self.workers, attempt.beginning_now()).await;
            // The sender lives as long as the queue that is borrowed here.
            drop(self.queue.watch().wait_for(|running| *running < before).await);
            if let Some(job) = self.engine.get(id).await? {
                counts.add(self.counted(&job)?);
            }
        }
        Ok(counts)
    }

    fn counted(&self, job: &Job) -> Result<DrainCounts, TestingError> {
        let failed = job.state == State::Retryable || job.state == State::Discarded;
        if failed && !self.drain.safety {
            let error = job.errors.last().and_then(|error| error["error"].as_str()).unwrap_or_default();
            return Err(TestingError::Failed { id: job.id, worker: job.worker.clone(), error: error.into() });
        }
        let mut counts = DrainCounts::default();
        match job.state {
            State::Completed => counts.success = 1,
            State::Retryable => counts.failure = 1,
            State::Discarded => counts.discard = 1,
            State::Cancelled => counts.cancelled = 1,
            State::Scheduled => counts.snoozed = 1,
            // Somebody else has it by now.
            State::Available | State::Executing | State::Suspended => {}
        }
        Ok(counts)
    }
}
