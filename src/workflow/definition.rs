//! A workflow as data: ordered steps, each a function from what is known so far to its own result.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::result::JobResult;
use crate::queue::{Job, Outcome};

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
    /// Results of the steps before, in order.
    pub outputs: Vec<Value>,
    /// The same for every attempt at this step of this run, for services that take one.
    pub idempotency_key: String,
    /// Fires when the job shall stop.
    pub cancelled: CancellationToken,
}

/// What a step that went well leaves.
#[derive(Debug, Clone, Default)]
pub struct StepOutput {
    /// Stored as the step's checkpoint and handed to later steps.
    pub value: Value,
    /// Stored in `job_results` in the same transaction.
    pub result: Option<Box<JobResult>>,
}

/// What a step that did not go well wants.
#[derive(Debug, Clone)]
pub struct StepError {
    /// What becomes of the job.
    pub outcome: Outcome,
    /// Stored in `job_results` as this attempt's failure.
    pub result: Option<Box<JobResult>>,
}

/// Code of a step. Runs on the job runtime; dropping its future must stop what it started.
pub type StepFn = Arc<dyn Fn(StepContext) -> BoxFuture<'static, Result<StepOutput, StepError>> + Send + Sync>;

/// One step.
#[derive(Clone)]
pub struct Step {
    /// Name, unique within the workflow.
    pub name: &'static str,
    /// What it touches.
    pub effect: Effect,
    /// Its code.
    pub run: StepFn,
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

impl Definition {
    /// SHA-256 over name, version and steps, stored with every run: a run is never continued by other steps than those
    /// it was begun with.
    pub fn hash(&self) -> String {
        let mut text = format!("{} {}", self.name, self.version);
        for step in &self.steps {
            text.push_str(&format!(" {}:{:?}", step.name, step.effect));
        }
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("name", &self.name).field("effect", &self.effect).finish_non_exhaustive()
    }
}
