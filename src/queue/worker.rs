//! Workers: the code that performs jobs, and the registry that knows them by name.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::attempt::Attempt;
use super::executor::{Executor, Run, RunContext};
use super::job::Job;
use super::job_runtime::JobCodeError;
use super::outcome::Outcome;
use crate::supervision::ChildSpec;

/// Performs one kind of job.
///
/// Execution is at least once: an instance that dies in the middle leaves a job that another one performs again, so
/// effects outside the database need a key of their own.
pub trait Worker: Send + Sync + 'static {
    /// Name in the `worker` column.
    fn name(&self) -> &str;

    /// Limit of one attempt; none unless overridden. Running over it is a failure.
    fn timeout(&self, _job: &Job) -> Option<Duration> {
        None
    }

    /// Wait before the next attempt after one that failed and named none; `None`, the default, is Oban's formula. Asked
    /// after errors, panics and time-outs alike, with the text that is recorded.
    fn backoff(&self, _job: &Job, _error: &str) -> Option<Duration> {
        None
    }

    /// Performs one attempt on the job runtime. Returning early is never needed: when the job is cancelled or the
    /// instance stops, the context's token fires first, and a moment later the future is dropped at its next await.
    fn perform(&self, context: JobContext) -> impl Future<Output = Outcome> + Send;
}

/// What a worker is given.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// The job, at its present attempt.
    pub job: Arc<Job>,
    /// Fires when the job shall stop.
    pub cancelled: tokio_util::sync::CancellationToken,
}

/// Anything that can be started as the child of a queue's dynamic supervisor to execute an attempt.
pub trait Executable: Send + Sync + 'static {
    /// Name in the `worker` column.
    fn name(&self) -> &str;

    /// The child that executes `attempt`. Temporary: the database decides whether there is another attempt.
    fn child(&self, attempt: Attempt) -> ChildSpec;
}

/// The workers that an instance knows. Built once, then shared.
#[derive(Clone, Default)]
pub struct Workers {
    known: BTreeMap<String, Arc<dyn Executable>>,
}

impl Workers {
    /// Adds a worker; one of the same name is replaced.
    pub fn register(&mut self, worker: impl Worker) {
        self.register_executable(Performs(Arc::new(worker)));
    }

    /// Adds something that executes attempts in its own way.
    pub fn register_executable(&mut self, executable: impl Executable) {
        self.known.insert(executable.name().to_owned(), Arc::new(executable));
    }

    /// Adds all of `others`; they win over those of the same name.
    pub fn extend(&mut self, others: Self) {
        self.known.extend(others.known);
    }

    /// Names in alphabetical order.
    pub fn names(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }

    /// The worker of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Executable>> {
        self.known.get(name)
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.known.keys()).finish()
    }
}

/// A plain worker as an executable.
struct Performs<W>(Arc<W>);

impl<W: Worker> Executable for Performs<W> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn child(&self, attempt: Attempt) -> ChildSpec {
        let timeout = self.0.timeout(attempt.job());
        let worker = Arc::clone(&self.0);
        attempt.back_off_by(Arc::new(move |job, error| worker.backoff(job, error)));
        Executor::<Perform<W>>::child(attempt, timeout, Perform(Arc::clone(&self.0)))
    }
}

/// One attempt of a plain worker.
struct Perform<W>(Arc<W>);

impl<W: Worker> Run for Perform<W> {
    async fn run(self, context: RunContext<'_>) -> Outcome {
        let attempt = context.attempt;
        let context = JobContext { job: Arc::clone(attempt.job()), cancelled: attempt.stop().token().clone() };
        let code = async move { self.0.perform(context).await };
        attempt.run(code).await.unwrap_or_else(|error| code_error(&error))
    }
}

/// What job code without a result comes to: a panic is a failure like any other, with its message and location.
pub fn code_error(error: &JobCodeError) -> Outcome {
    match error {
        JobCodeError::Panicked(text) => Outcome::Failed { error: format!("** (Panic) {text}"), retry_in: None },
        JobCodeError::Gone => Outcome::HandedBack,
    }
}
