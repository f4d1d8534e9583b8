//! A workflow as data: ordered steps, each a function from what is known so far to its own result.
//!
//! Programs make one with the typed [`Workflow`](super::Workflow); this is what it comes to, and what is executed.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::children::PlanFn;
use super::code::StepCode;
use super::result::JobResult;
use super::retry::StepRetry;
use crate::queue::{Job, JobCodeError, JobError, Outcome};

/// Elements of one list that a step is run for.
pub const FAN_OUT_ITEMS_MAX: usize = 10_000;
/// Elements of a list that are worked on at the same time, unless the step says otherwise.
pub const FAN_OUT_PARALLEL_DEFAULT: usize = 8;
/// Most elements that may be worked on at the same time.
pub const FAN_OUT_PARALLEL_MAX: usize = 256;
/// Largest result of one step, in bytes of JSON.
pub const STEP_OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Whether a step touches the world outside the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Computes only. Repeating it costs nothing, so its checkpoint may be written together with a later one.
    Pure,
    /// Reaches out: everything before it is stored before it begins, and its own result as soon as it is there.
    External,
}

/// What a step is given.
#[derive(Debug, Clone)]
pub struct StepContext {
    /// The job, at its present attempt.
    pub job: Arc<Job>,
    /// The run that the job's attempts have in common.
    pub run_id: Uuid,
    /// What the step works on: the result of the step before, of the first step what the workflow was given (the job's
    /// arguments), within a fan-out the element.
    pub input: Value,
    /// Results of the steps before, in order; within a sub-workflow those of the sub-workflow.
    pub outputs: Vec<Value>,
    /// Place in the list, within a fan-out.
    pub item: Option<usize>,
    /// Number of this try within this attempt, from 1; see [`StepRetry`].
    pub tries: u32,
    /// For services that take one. It is made of the run's id, the step's position, and, within fan-outs and
    /// sub-workflows, the places inside of it (`{run}-2.17.0`), and of nothing else. So it is the same whenever the
    /// same call is made again, by another try, another attempt, or another instance after a crash, which is when a
    /// service must recognise it; and no two calls of a run share one. A step that makes several different calls adds
    /// what tells them apart.
    pub idempotency_key: String,
    /// Fires when this try shall stop: the job was cancelled, the instance stops, or the time of the try or of the
    /// attempt is over. With the last the future of the code is dropped at once, so that only code beside it sees it.
    pub cancelled: CancellationToken,
    /// When the time of this try is over: that of the attempt, or of the step where it ends before. Then the code is
    /// dropped, and what it knows is lost. `None` without a limit.
    pub deadline: Option<Instant>,
    pub(super) code: StepCode,
}

impl StepContext {
    /// Runs code that blocks its thread or computes for long, on a thread of its own, and waits for it: as
    /// [`JobContext::run_blocking`](crate::queue::JobContext::run_blocking), by the same number for each queue.
    ///
    /// It cannot be stopped from outside: watch [`StepContext::cancelled`] in it. A step is not tried again within its
    /// attempt while it goes on.
    ///
    /// Cancel safety: dropping the returned future takes code that waits for its turn away; code that runs goes on.
    ///
    /// # Errors
    /// [`JobCodeError::Panicked`] with message and location; [`JobCodeError::Gone`] when the try is over or its runtime
    /// shuts down. Both become what the step comes to by `?`.
    pub async fn run_blocking<T: Send + 'static>(
        &self,
        code: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobCodeError> {
        self.code.run_blocking(code).await
    }
}

/// What a step that went well leaves.
#[derive(Debug, Clone, Default)]
pub struct StepOutput {
    /// Stored as the step's checkpoint and handed to later steps; at most [`STEP_OUTPUT_BYTES_MAX`].
    pub value: Value,
    /// What the step cost; stored with its checkpoint. `None` where it costs nothing or nobody knows.
    pub cost_nanousd: Option<i64>,
    /// Of the last step: stored in `job_results` in the same transaction. Without it a success is stored whose result
    /// is the step's value and whose cost is that of all steps.
    pub result: Option<Box<JobResult>>,
}

/// What a step that did not go well wants. `?` makes it of every type of errors, as [`JobError`] does: a failure, which
/// is tried again; and of an [`Outcome`], which is taken as it is. Of errors without a type [`StepError::boxed`] makes
/// one.
#[derive(Debug, Clone)]
pub struct StepError {
    /// What becomes of the job.
    pub outcome: Outcome,
    /// Stored in `job_results` as this attempt's failure. Without it a failure is stored with the outcome's text,
    /// unless the outcome is none, as a snooze.
    pub result: Option<Box<JobResult>>,
}

/// Code of a step. Runs on the job runtime from its first line; dropping its future must stop what it started.
pub type StepFn = Arc<dyn Fn(StepContext) -> BoxFuture<'static, Result<StepOutput, StepError>> + Send + Sync>;

/// What a step does.
#[derive(Clone)]
pub enum Work {
    /// Runs code.
    Code(StepFn),
    /// Runs a work for each element of the list that it is given, and comes to the list of their results, in the order
    /// of the list. Each result is a checkpoint of its own.
    Each {
        /// What is done for one element: code or a sub-workflow.
        work: Box<Work>,
        /// Elements at the same time; 1 to [`FAN_OUT_PARALLEL_MAX`].
        parallel: usize,
    },
    /// Runs the steps of another workflow, and comes to the result of its last one. Each result is a checkpoint of its
    /// own.
    Steps(Arc<[Step]>),
    /// Enqueues jobs and waits for them without holding a slot.
    Children(PlanFn),
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Name, unique within the workflow.
    pub name: &'static str,
    /// What it touches.
    pub effect: Effect,
    /// What it does.
    pub work: Work,
    /// Limit of one run of its code, in a fan-out of that for one element. By default only the attempt has a limit.
    pub timeout: Option<Duration>,
    /// What happens when its code fails; in a fan-out that for one element.
    pub retry: StepRetry,
}

/// A workflow.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Name in the `worker` column and in `job_results.job_type`, for example `llm_request`.
    pub worker: &'static str,
    /// Name in `job_results.workflow_type`, for example `LlmRequest`.
    pub name: &'static str,
    /// Counted up when a step's stored result changes its meaning.
    pub version: u32,
    /// Limit of one attempt.
    pub timeout: Duration,
    /// Steps in order; at least one.
    pub steps: Vec<Step>,
}

impl Step {
    /// A step that computes.
    pub fn pure<F, Fut>(name: &'static str, code: F) -> Self
    where
        F: Fn(StepContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<StepOutput, StepError>> + Send + 'static,
    {
        Self::new(name, Effect::Pure, Work::code(code))
    }

    /// A step that reaches out.
    pub fn external<F, Fut>(name: &'static str, code: F) -> Self
    where
        F: Fn(StepContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<StepOutput, StepError>> + Send + 'static,
    {
        Self::new(name, Effect::External, Work::code(code))
    }

    /// A step that does `work`, without a limit of its own, whose failure fails the job's attempt.
    pub fn new(name: &'static str, effect: Effect, work: Work) -> Self {
        Self { name, effect, work, timeout: None, retry: StepRetry::default() }
    }
}

impl Work {
    /// Code of a step.
    pub fn code<F, Fut>(code: F) -> Self
    where
        F: Fn(StepContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<StepOutput, StepError>> + Send + 'static,
    {
        Self::Code(Arc::new(move |context| Box::pin(code(context))))
    }

    /// Whether it leaves checkpoints before it is done, or waits: what it works on must be stored before.
    pub(super) fn has_parts(&self) -> bool {
        !matches!(self, Self::Code(_))
    }

    /// What it is made of, for the hash. Code is told by its step's name alone.
    fn shape(&self, text: &mut String) {
        match self {
            Self::Code(_) => {}
            Self::Each { work, .. } => {
                text.push_str(":each");
                work.shape(text);
            }
            Self::Steps(steps) => {
                text.push_str(":steps(");
                shape(steps, text);
                text.push(')');
            }
            Self::Children(_) => text.push_str(":children"),
        }
    }
}

fn shape(steps: &[Step], text: &mut String) {
    for step in steps {
        text.push_str(&format!(" {}:{:?}", step.name, step.effect));
        step.work.shape(text);
    }
}

impl Definition {
    /// SHA-256 over name, version and steps, stored with every run: a run is never continued by other steps than those
    /// it was begun with. Code is known by the names of its steps: who changes what a stored result means counts up
    /// [`Definition::version`].
    pub fn hash(&self) -> String {
        let mut text = format!("{} {}", self.name, self.version);
        shape(&self.steps, &mut text);
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl StepOutput {
    /// A value and nothing else.
    pub fn value(value: Value) -> Self {
        Self { value, ..Self::default() }
    }
}

impl StepError {
    /// An outcome and nothing else.
    pub fn new(outcome: Outcome) -> Self {
        Self { outcome, result: None }
    }

    /// A failure with a message of one's own, tried again.
    pub fn msg(message: impl fmt::Display) -> Self {
        Self::new(JobError::msg(message).into_outcome())
    }

    /// A failure with the text and the causes of an error whose type is not known, as [`JobError::boxed`].
    pub fn boxed(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::new(JobError::boxed(error).into_outcome())
    }
}

impl<E: std::error::Error> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::new(JobError::from(error).into_outcome())
    }
}

impl From<JobCodeError> for StepError {
    fn from(error: JobCodeError) -> Self {
        Self::new(error.into())
    }
}

impl From<Outcome> for StepError {
    fn from(outcome: Outcome) -> Self {
        Self::new(outcome)
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(_) => f.write_str("Code"),
            Self::Each { work, parallel } => {
                f.debug_struct("Each").field("work", work).field("parallel", parallel).finish()
            }
            Self::Steps(steps) => f.debug_tuple("Steps").field(steps).finish(),
            Self::Children(_) => f.write_str("Children"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(version: u32, steps: Vec<Step>) -> Definition {
        Definition { worker: "w", name: "W", version, timeout: Duration::from_secs(1), steps }
    }

    fn pure(name: &'static str) -> Step {
        Step::pure(name, |_| async { Ok(StepOutput::default()) })
    }

    fn doing(name: &'static str, work: Work) -> Step {
        Step::new(name, Effect::External, work)
    }

    #[test]
    fn the_hash_tells_every_change_of_the_steps_and_stays_with_the_same() {
        let code = || Work::code(|_| async { Ok(StepOutput::default()) });
        let sub = |names: &[&'static str]| Work::Steps(names.iter().map(|name| pure(name)).collect());
        let each = |work| Work::Each { work: Box::new(work), parallel: 3 };
        let shapes = [
            definition(1, vec![pure("a"), pure("b")]),
            definition(2, vec![pure("a"), pure("b")]),
            definition(1, vec![pure("b"), pure("a")]),
            definition(1, vec![pure("a")]),
            definition(1, vec![pure("a"), doing("b", code())]),
            definition(1, vec![pure("a"), doing("b", each(code()))]),
            definition(1, vec![pure("a"), doing("b", sub(&["c"]))]),
            definition(1, vec![pure("a"), doing("b", sub(&["c", "d"]))]),
            definition(1, vec![pure("a"), doing("b", each(sub(&["c"])))]),
            definition(1, vec![pure("a"), doing("b", sub(&["c"])), pure("d")]),
        ];
        let hashes: std::collections::BTreeSet<_> = shapes.iter().map(Definition::hash).collect();
        assert_eq!(hashes.len(), shapes.len());
        // What is stored with runs must stay what it is: two plain steps, by the first form of the text.
        let text = "W 1 a:Pure b:Pure";
        let wanted: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shapes[0].hash(), wanted);
        // How many elements at once is no matter of what is stored.
        let other = definition(1, vec![pure("a"), doing("b", Work::Each { work: Box::new(code()), parallel: 9 })]);
        assert_eq!(other.hash(), shapes[5].hash());
    }
}
