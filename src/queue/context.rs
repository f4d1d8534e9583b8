//! What a worker is given beside its arguments: the job, how it is told to stop, its time, where blocking code runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, Duty};
use super::job::Job;
use super::job_runtime::{JobCodeError, JobRuntime};
use crate::supervision::Probe;

/// Longest text of [`JobContext::progress`] in characters; the rest is cut.
pub const PROGRESS_CHARS_MAX: usize = 120;

/// One attempt as its code sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// The job, at its present attempt.
    pub job: Arc<Job>,
    /// Fires when the job shall stop: it was cancelled, the instance stops, or its time is over. With the last the
    /// future of the code is dropped at once, so that only code beside it sees it, as that of
    /// [`JobContext::run_blocking`].
    pub cancelled: CancellationToken,
    deadline: Option<Instant>,
    runtime: JobRuntime,
    node: Option<OnNode>,
}

/// What only an attempt on a node has.
#[derive(Debug, Clone)]
struct OnNode {
    /// Weak: code that outlives its attempt does not hold up what the attempt came to.
    duty: Weak<Duty>,
    shown: Shown,
}

/// What code shows of itself, also before it has a place in the tree. Clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown(Arc<Mutex<Showing>>);

#[derive(Debug, Default)]
struct Showing {
    probe: Option<Arc<Probe>>,
    progress: Option<String>,
}

impl Shown {
    /// It stands here in the tree from now on.
    pub(super) fn at(&self, probe: &Arc<Probe>) {
        let mut showing = self.lock();
        if let Some(progress) = showing.progress.take() {
            probe.set_label("progress", progress);
        }
        showing.probe = Some(Arc::clone(probe));
    }

    fn progress(&self, text: String) {
        let mut showing = self.lock();
        match &showing.probe {
            Some(probe) => probe.set_label("progress", text),
            None => showing.progress = Some(text),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Showing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobContext {
    pub(super) fn on_node(attempt: &Attempt, deadline: Option<Instant>, shown: Shown) -> Self {
        Self {
            job: Arc::clone(attempt.job()),
            cancelled: attempt.stop().token().clone(),
            deadline,
            runtime: attempt.runtime().clone(),
            node: Some(OnNode { duty: Arc::downgrade(&attempt.duty()), shown }),
        }
    }

    /// The context of an attempt that shows itself in another way.
    pub(crate) fn of_attempt(attempt: &Attempt) -> Self {
        Self::on_node(attempt, None, Shown::default())
    }

    /// The context of a job that runs without a node, as tests run one: nobody stops it, and blocking code has no limit
    /// but that of `runtime`.
    pub(crate) fn alone(job: Arc<Job>, deadline: Option<Instant>, runtime: JobRuntime) -> Self {
        Self { job, cancelled: CancellationToken::new(), deadline, runtime, node: None }
    }

    /// Number of this attempt, from 1.
    pub fn attempt(&self) -> i32 {
        self.job.attempt
    }

    /// Whether a failure of this attempt discards the job.
    pub fn is_last_attempt(&self) -> bool {
        self.job.attempt >= self.job.max_attempts
    }

    /// Data beside the arguments, as it was when the attempt began.
    pub fn meta(&self) -> &Value {
        &self.job.meta
    }

    /// When the attempt's time is over, by tokio's clock; `None` without a limit.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What is left until the deadline; zero when it has passed, `None` without a limit.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Shows how far the job is, as label `progress` in the live tree. It is not stored: what another attempt must know
    /// belongs into a table of yours. At most [`PROGRESS_CHARS_MAX`] characters, cheap enough for every item of a loop.
    pub fn progress(&self, text: &str) {
        if let Some(node) = &self.node {
            node.shown.progress(text.chars().take(PROGRESS_CHARS_MAX).collect());
        }
    }

    /// Runs code that blocks its thread or computes for long, on a thread of its own, and waits for it.
    ///
    /// A queue runs at most `blocking_max` such pieces at once (`[queues.NAME]`, by default its limit); others wait
    /// their turn. Code that blocks cannot be stopped from outside: watch [`JobContext::cancelled`] in it. When the job
    /// is told to end and the code goes on, the job is shown as stuck, its row stays `executing`, so that nobody runs
    /// it a second time, and its slot is held or released as its queue says (`on_stuck`).
    ///
    /// Cancel safety: dropping the returned future takes code that waits for its turn away; code that runs goes on.
    ///
    /// # Errors
    /// [`JobCodeError::Panicked`] with message and location; [`JobCodeError::Gone`] when the attempt is over or its
    /// runtime shuts down. Both become what the attempt comes to by `?`.
    pub async fn run_blocking<T: Send + 'static>(
        &self,
        code: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobCodeError> {
        match &self.node {
            Some(node) => Duty::run_blocking(&node.duty, &self.runtime, code).await,
            None => self.runtime.run_blocking(code).await,
        }
    }
}
