//! Runs a workflow step by step, with a checkpoint in the database after each, so that another attempt, here or on
//! another instance, goes on where this one stopped.
//!
//! Invariants: a step that reaches out begins only when everything before it is stored; its result is stored before
//! anything else happens; a stored step never runs again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::definition::{Definition, Effect, StepContext, StepError, StepOutput};
use super::result::JobResult;
use super::store::{Begun, Checkpoint, Owner, Store};
use crate::postgres::{DbError, retry_unavailable};
use crate::queue::{Attempt, Executable, Execution, Executor, Outcome, Run, RunContext};

/// The actor that executes one attempt of a workflow, a child of its queue's dynamic supervisor.
pub type WorkflowExecutor = Executor<WorkflowRun>;

/// A workflow that jobs can name as their worker.
#[derive(Debug, Clone)]
pub struct WorkflowWorker {
    definition: Arc<Definition>,
    store: Store,
}

/// One attempt at a workflow.
#[derive(Debug)]
pub struct WorkflowRun {
    definition: Arc<Definition>,
    store: Store,
}

/// Why an attempt ends before its last step.
enum Stop {
    /// A step decided so.
    Step(Box<StepError>),
    /// The database refused a statement.
    Db(DbError),
    /// The attempt no longer owns its job; whatever is reported will not count.
    Superseded,
    /// Nothing more to do, or nothing that can be done.
    Outcome(Outcome),
}

impl From<DbError> for Stop {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl WorkflowWorker {
    /// A worker that runs `definition` with checkpoints in `store`.
    pub fn new(definition: Definition, store: Store) -> Self {
        Self { definition: Arc::new(definition), store }
    }
}

impl Executable for WorkflowWorker {
    #[expect(clippy::misnamed_getters, reason = "an executable's name is the worker that jobs name")]
    fn name(&self) -> &str {
        self.definition.worker
    }

    fn begin(&self, attempt: Attempt) -> Execution {
        let run = WorkflowRun { definition: Arc::clone(&self.definition), store: self.store.clone() };
        Execution::Executor(WorkflowExecutor::child(attempt, Some(self.definition.timeout), run))
    }
}

impl Run for WorkflowRun {
    async fn run(self, context: RunContext<'_>) -> Outcome {
        let attempt = context.attempt;
        let owner = Owner {
            job_id: attempt.job().id,
            attempt: attempt.job().attempt,
            producer: attempt.producer().to_string(),
            instance_id: attempt.job().attempted_by.first().cloned().unwrap_or_default(),
        };
        match self.steps(&context, &owner).await {
            Ok(()) => Outcome::Completed,
            Err(Stop::Outcome(outcome)) => outcome,
            // The guard of the completion will say so too.
            Err(Stop::Superseded) => Outcome::HandedBack,
            Err(Stop::Db(DbError::Stopped { .. })) => Outcome::HandedBack,
            Err(Stop::Db(error)) => Outcome::Failed { error: format!("** (Database) {error}"), retry_in: None },
            Err(Stop::Step(error)) => self.failed(*error, &context, &owner).await,
        }
    }
}

impl WorkflowRun {
    async fn steps(&self, context: &RunContext<'_>, owner: &Owner) -> Result<(), Stop> {
        let attempt = context.attempt;
        let cancel = attempt.stop().token();
        let begun = self.begin(attempt, owner, cancel).await?;
        let mut outputs = begun.outputs;
        let mut unsaved: Vec<Checkpoint> = Vec::new();
        for (position, step) in self.definition.steps.iter().enumerate().skip(outputs.len()) {
            context.probe.set_label("step", step.name);
            let last = position + 1 == self.definition.steps.len();
            if step.effect == Effect::External && !unsaved.is_empty() {
                self.save(owner, begun.run_id, &unsaved, cancel).await?;
                unsaved.clear();
            }
            let started = Instant::now();
            let given = StepContext {
                job: Arc::clone(attempt.job()),
                outputs: outputs.clone(),
                idempotency_key: format!("{}-{position}", begun.run_id),
                cancelled: cancel.clone(),
            };
            let StepOutput { value, result } = match attempt.run((step.run)(given)).await {
                Ok(done) => done.map_err(|error| Stop::Step(Box::new(error)))?,
                Err(error) => return Err(Stop::Outcome(error.into())),
            };
            outputs.push(value.clone());
            let checkpoint = Checkpoint {
                position: i32::try_from(position).unwrap_or(i32::MAX),
                step: step.name,
                output: value,
                duration_ms: millis(started.elapsed()),
            };
            unsaved.push(checkpoint);
            if last {
                self.finish(owner, begun.run_id, &unsaved, result.as_deref(), attempt, cancel).await?;
            } else if step.effect == Effect::External {
                self.save(owner, begun.run_id, &unsaved, cancel).await?;
                unsaved.clear();
            }
        }
        Ok(())
    }

    async fn begin(&self, attempt: &Attempt, owner: &Owner, cancel: &CancellationToken) -> Result<Begun, Stop> {
        let begun = persist(cancel, || self.store.begin(owner, &self.definition, &attempt.job().args))
            .await?
            .ok_or(Stop::Superseded)?;
        if begun.completed {
            // An earlier attempt stored the result and died before it could say so.
            return Err(Stop::Outcome(Outcome::Completed));
        }
        if begun.definition_hash != self.definition.hash() && !begun.outputs.is_empty() {
            return Err(Stop::Outcome(Outcome::Discarded(format!(
                "** (WorkflowChanged) workflow {} was begun with other steps than this program has; \
                 run it with the program that began it, or delete the job and enqueue it again",
                self.definition.name
            ))));
        }
        Ok(begun)
    }

    /// Stores checkpoints, however long the database is away: what a step did may have cost money.
    async fn save(
        &self,
        owner: &Owner,
        run_id: Uuid,
        checkpoints: &[Checkpoint],
        cancel: &CancellationToken,
    ) -> Result<(), Stop> {
        let owned = persist(cancel, || self.store.checkpoint(owner, run_id, checkpoints)).await?;
        if owned { Ok(()) } else { Err(Stop::Superseded) }
    }

    async fn finish(
        &self,
        owner: &Owner,
        run_id: Uuid,
        checkpoints: &[Checkpoint],
        result: Option<&JobResult>,
        attempt: &Attempt,
        cancel: &CancellationToken,
    ) -> Result<(), Stop> {
        let owned = persist(cancel, || {
            self.store.finish(owner, run_id, &self.definition, checkpoints, result, millis(attempt.elapsed()))
        })
        .await?;
        if owned { Ok(()) } else { Err(Stop::Superseded) }
    }

    /// Stores what a failed step says about this attempt; the job's outcome holds even when that cannot be stored.
    async fn failed(&self, error: StepError, context: &RunContext<'_>, owner: &Owner) -> Outcome {
        if let Some(result) = &error.result {
            let duration_ms = millis(context.attempt.elapsed());
            let cancel = context.attempt.stop().token();
            let stored = persist(cancel, || self.store.fail(owner, &self.definition, result, duration_ms));
            if let Err(error) = stored.await {
                tracing::warn!(target: "job", id = owner.job_id, %error, "the attempt's failure was not recorded");
            }
        }
        error.outcome
    }
}

/// Repeats `operation` until the database answers; ends early only when the job shall stop.
async fn persist<T, F, Fut>(cancel: &CancellationToken, operation: F) -> Result<T, DbError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, DbError>>,
{
    let mut rng = StdRng::from_rng(&mut rand::rng());
    retry_unavailable(cancel, &mut rng, operation).await
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl StepOutput {
    /// A value and nothing else.
    pub fn value(value: Value) -> Self {
        Self { value, result: None }
    }
}
