//! Runs a workflow step by step, with a checkpoint in the database after each, so that another attempt, here or on
//! another instance, goes on where this one stopped.
//!
//! Invariants: a step that reaches out begins only when everything before it is stored; its result is stored before
//! anything else happens; a stored step never runs again.

use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use super::children::CHILDREN_POLL;
use super::definition::{Definition, Effect, Step, StepError, StepOutput};
use super::error::{CHANGED, discarded};
use super::result::JobResult;
use super::store::{Begun, Checkpoint, Owner, Store, cost_sum};
use super::walk::{Place, Stop, Walk, millis, persist};
use crate::postgres::DbError;
use crate::queue::{Attempt, Executable, Execution, Executor, NewJob, Outcome, Run, RunContext};

/// The actor that executes one attempt of a workflow, a child of its queue's dynamic supervisor.
pub type WorkflowExecutor = Executor<WorkflowRun>;

/// A workflow that jobs can name as their worker, in one version or several.
#[derive(Debug, Clone)]
pub struct WorkflowWorker {
    versions: Versions,
    store: Store,
    /// Queue and most attempts of its jobs, where they have those in common.
    jobs: Option<(String, i32)>,
}

/// One attempt at a workflow.
#[derive(Debug)]
pub struct WorkflowRun {
    versions: Versions,
    store: Store,
}

/// What is known of a workflow, the present version first.
#[derive(Debug, Clone)]
struct Versions {
    present: Version,
    older: Arc<[Version]>,
}

#[derive(Debug, Clone)]
struct Version {
    hash: Arc<str>,
    definition: Arc<Definition>,
}

impl Version {
    fn new(definition: Definition) -> Self {
        Self { hash: definition.hash().into(), definition: Arc::new(definition) }
    }
}

impl Versions {
    fn of_hash(&self, hash: &str) -> Option<&Arc<Definition>> {
        let mut all = std::iter::once(&self.present).chain(&*self.older);
        all.find(|version| *version.hash == *hash).map(|version| &version.definition)
    }
}

impl WorkflowWorker {
    /// A worker that runs `definition` with checkpoints in `store`.
    pub fn new(definition: Definition, store: Store) -> Self {
        let versions = Versions { present: Version::new(definition), older: Arc::new([]) };
        Self { versions, store, jobs: None }
    }

    /// Has jobs that say nothing else go to `queue` and have at most `max_attempts` attempts.
    #[must_use]
    pub fn with_jobs(mut self, queue: &str, max_attempts: u32) -> Self {
        self.jobs = Some((queue.to_owned(), i32::try_from(max_attempts).unwrap_or(i32::MAX)));
        self
    }

    /// Finishes runs that were begun with an `older` definition of this workflow with its steps. New runs begin with
    /// the present one. Without the definition that a run was begun with, its job is discarded with `E0620`: steps of
    /// two definitions are never mixed in one run.
    #[must_use]
    pub fn with_older(mut self, older: Definition) -> Self {
        self.versions.older = self.versions.older.iter().cloned().chain([Version::new(older)]).collect();
        self
    }
}

impl Executable for WorkflowWorker {
    #[expect(clippy::misnamed_getters, reason = "an executable's name is the worker that jobs name")]
    fn name(&self) -> &str {
        self.versions.present.definition.worker
    }

    fn template(&self, job: NewJob) -> NewJob {
        match self.jobs.clone() {
            Some((queue, max_attempts)) => NewJob { queue, max_attempts, ..job },
            None => job,
        }
    }

    fn begin(&self, attempt: Attempt) -> Execution {
        let run = WorkflowRun { versions: self.versions.clone(), store: self.store.clone() };
        let timeout = self.versions.present.definition.timeout;
        Execution::Executor(WorkflowExecutor::child(attempt, Some(timeout), run))
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
        match self.begin_and_run(&context, &owner).await {
            Ok(()) => Outcome::Completed,
            Err(Stop::Outcome(outcome)) => outcome,
            // The children that it waits for wake it before.
            Err(Stop::Parked) => Outcome::Snoozed(CHILDREN_POLL),
            // The guard of the completion will say so too, whatever is reported.
            Err(Stop::Superseded) => Outcome::Snoozed(CHILDREN_POLL),
            Err(Stop::Db(DbError::Stopped { .. })) => Outcome::HandedBack,
            Err(Stop::Db(error)) => Outcome::Failed { error: format!("** (Database) {error}"), retry_in: None },
            Err(Stop::Step(error)) => self.failed(*error, attempt, &owner).await,
        }
    }
}

impl WorkflowRun {
    async fn begin_and_run(&self, context: &RunContext<'_>, owner: &Owner) -> Result<(), Stop> {
        let attempt = context.attempt;
        let cancel = attempt.stop().token();
        let present = &self.versions.present.definition;
        let begun =
            persist(cancel, || self.store.begin(owner, present, &attempt.job().args)).await?.ok_or(Stop::Superseded)?;
        if begun.completed {
            // An earlier attempt stored the result and died before it could say so.
            return Err(Stop::Outcome(Outcome::Completed));
        }
        let Some(definition) = self.versions.of_hash(&begun.definition_hash) else {
            return Err(discarded(
                CHANGED,
                format!(
                    "workflow {} was begun with other steps than this program has; run it with the program that began \
                     it, register that definition beside the new one, or delete the job and enqueue it again",
                    present.name
                ),
            )
            .into());
        };
        if begun.resumed {
            persist(cancel, || self.store.awake(owner)).await?;
        }
        let walk = Walk {
            attempt,
            probe: context.probe,
            store: &self.store,
            owner,
            run_id: begun.run_id,
            resumed: begun.resumed,
            cancel,
            deadline: context.deadline,
        };
        Steps { walk: &walk, definition, unsaved: Vec::new(), cost_nanousd: begun.cost_nanousd }.run(begun).await
    }

    /// Stores what a failed step says about this attempt; the job's outcome holds even when that cannot be stored.
    async fn failed(&self, error: StepError, attempt: &Attempt, owner: &Owner) -> Outcome {
        // What fails while it is told to stop fails because of that.
        let failure = || attempt.stop().cause().is_none().then(|| failure(&error.outcome)).flatten();
        if let Some(result) = error.result.clone().or_else(failure) {
            let duration_ms = millis(attempt.elapsed());
            let stored = persist(attempt.stop().token(), || {
                self.store.fail(owner, &self.versions.present.definition, &result, duration_ms)
            });
            if let Err(error) = stored.await {
                tracing::warn!(target: "job", id = owner.job_id, %error, "the attempt's failure was not recorded");
            }
        }
        error.outcome
    }
}

/// The steps of one attempt, and what of them is not stored yet.
struct Steps<'a> {
    walk: &'a Walk<'a>,
    definition: &'a Definition,
    unsaved: Vec<Checkpoint>,
    /// Of all steps that are done.
    cost_nanousd: Option<i64>,
}

impl Steps<'_> {
    async fn run(mut self, begun: Begun) -> Result<(), Stop> {
        let Begun { mut outputs, input, .. } = begun;
        for (position, step) in self.definition.steps.iter().enumerate().skip(outputs.len()) {
            self.walk.probe.set_label("step", step.name);
            let reaches_out = step.effect == Effect::External;
            if reaches_out || step.work.has_parts() {
                self.save().await?;
            }
            let started = Instant::now();
            let given = outputs.last().unwrap_or(&input).clone();
            let StepOutput { value, cost_nanousd, result } =
                self.walk.step(step, &Place::of_step(position, step.name), given, outputs.clone()).await?;
            outputs.push(value.clone());
            self.cost_nanousd = cost_sum(self.cost_nanousd, cost_nanousd);
            self.unsaved.push(checkpoint(position, step, value, cost_nanousd, started));
            if position + 1 == self.definition.steps.len() {
                return self.finish(result).await;
            }
            if reaches_out || step.work.has_parts() {
                self.save().await?;
            }
        }
        // Every step was stored and the end was not, which is one write; so the run has no steps.
        self.finish(None).await
    }

    /// Stores checkpoints, however long the database is away: what a step did may have cost money.
    async fn save(&mut self) -> Result<(), Stop> {
        if self.unsaved.is_empty() {
            return Ok(());
        }
        let Walk { store, owner, run_id, cancel, .. } = *self.walk;
        let owned = persist(cancel, || store.checkpoint(owner, run_id, &self.unsaved)).await?;
        self.unsaved.clear();
        if owned { Ok(()) } else { Err(Stop::Superseded) }
    }

    async fn finish(self, result: Option<Box<JobResult>>) -> Result<(), Stop> {
        let Walk { store, owner, run_id, cancel, attempt, .. } = *self.walk;
        let result = result.unwrap_or_else(|| {
            let value = self.unsaved.last().map(|checkpoint| checkpoint.output.clone());
            Box::new(success(value.unwrap_or_default(), self.cost_nanousd))
        });
        let duration_ms = millis(attempt.elapsed());
        let owned =
            persist(cancel, || store.finish(owner, run_id, self.definition, &self.unsaved, Some(&result), duration_ms))
                .await?;
        if owned { Ok(()) } else { Err(Stop::Superseded) }
    }
}

fn checkpoint(position: usize, step: &Step, output: Value, cost_nanousd: Option<i64>, started: Instant) -> Checkpoint {
    Checkpoint {
        position: i32::try_from(position).unwrap_or(i32::MAX),
        step: step.name,
        output,
        cost_nanousd,
        duration_ms: millis(started.elapsed()),
    }
}

/// The result of a run whose last step gives none.
fn success(value: Value, cost_nanousd: Option<i64>) -> JobResult {
    let empty = || Value::Object(serde_json::Map::new());
    JobResult {
        success: true,
        cost_nanousd,
        input_summary: empty(),
        result_summary: empty(),
        result: Some(value),
        ..JobResult::default()
    }
}

/// The result of an attempt whose failed step gives none; `None` where it did not fail.
fn failure(outcome: &Outcome) -> Option<Box<JobResult>> {
    let (Outcome::Failed { error: text, .. } | Outcome::Cancelled(text) | Outcome::Discarded(text)) = outcome else {
        return None;
    };
    let empty = || Value::Object(serde_json::Map::new());
    let error_reason = Some(text.replace('\0', "\u{fffd}"));
    Some(Box::new(JobResult { error_reason, input_summary: empty(), result_summary: empty(), ..JobResult::default() }))
}
