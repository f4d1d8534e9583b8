//! Every statement on runs, checkpoints and results.
//!
//! Each write first locks the job's row and checks that it still belongs to this attempt (executing, attempt,
//! producer): whoever takes the job over has to wait for the write or makes it change nothing.

mod family;
mod parts;
mod runs;

use serde_json::Value;
use uuid::Uuid;

pub(super) use self::parts::KeptPart;
pub use self::parts::Part;
pub use self::runs::{RUNS_LIST_MAX, RunFilter};
use super::definition::Definition;
use super::result::{Attempted, JobResult, StoredResult};
use crate::postgres::{Database, DbError};
use crate::queue::Engine;

/// The one way into `job_results`, as one guarded statement that says whether the attempt owned the job: the first
/// success of a job stays, a failure is one row an attempt. `$more` are further parts of the statement, and
/// `$argument`s its parameters from $30 on.
macro_rules! result_query {
    (
        $more:literal, $owner:expr, $definition:expr, $result:expr, $duration_ms:expr, $present:expr
        $(, $argument:expr)* $(,)?
    ) => {{
        let (owner, definition, result): (&Owner, &Definition, &JobResult) = ($owner, $definition, $result);
        sqlx::query_scalar!(
            r#"WITH owner AS (
                 SELECT id FROM oban_jobs
                 WHERE id = $1 AND state = 'executing' AND attempt = $2 AND attempted_by[2] = $3 FOR NO KEY UPDATE
               ), result AS (
                 INSERT INTO job_results
                   (job_id, attempt, instance_id, job_type, workflow_type, duration_ms, started_at, request_id, success,
                    error_reason, cost_nanousd, prices_version, provider, model_used, simulated, tokens_input,
                    tokens_output, time_to_first_token_ms, usage, input_summary, result_summary, result, route,
                    policy_version, propensity, outcome, hop, patterns_discovered)
                 SELECT owner.id, $2, $4, $5, $6, $7, now() - $7::bigint * interval '1 millisecond', $8, $9, $10, $11, $12,
                        $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $24, $25, $26, $27, $28, $29
                 FROM owner WHERE $23::bool
                 ON CONFLICT DO NOTHING
               )"#
            + $more
            + r#" SELECT EXISTS (SELECT FROM owner) AS "owned!""#,
            owner.job_id,
            owner.attempt,
            owner.producer,
            owner.instance_id,
            definition.worker,
            definition.name,
            result.call_ms.unwrap_or($duration_ms),
            result.request_id,
            result.success,
            result.error_reason,
            result.cost_nanousd,
            result.prices_version,
            result.provider,
            result.model_used,
            result.simulated,
            result.tokens_input,
            result.tokens_output,
            result.time_to_first_token_ms,
            result.usage,
            result.input_summary,
            result.result_summary,
            result.result,
            $present,
            result.route,
            result.policy_version,
            result.propensity,
            result.outcome.map(Attempted::as_str),
            result.hop,
            &result.patterns,
            $($argument,)*
        )
    }};
}

/// The attempt that must own the job for a write to count.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The job.
    pub job_id: i64,
    /// Its attempt.
    pub attempt: i32,
    /// The producer that claimed it.
    pub producer: String,
    /// The instance, as first element of `attempted_by`.
    pub instance_id: String,
}

/// A run as it stands when an attempt begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Begun {
    /// The run.
    pub run_id: Uuid,
    /// Whether an earlier attempt began it.
    pub resumed: bool,
    /// Whether everything is done already.
    pub completed: bool,
    /// Hash of the definition that it was begun with.
    pub definition_hash: String,
    /// What the workflow was given: the job's arguments, as they were when the first checkpoint was stored.
    pub input: Value,
    /// Results of the steps that are done, in order.
    pub outputs: Vec<Value>,
    /// What they cost together, as far as it is known.
    pub cost_nanousd: Option<i64>,
}

/// A step's result on its way to the database.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Place of the step, from 0.
    pub position: i32,
    /// Name of the step.
    pub step: &'static str,
    /// Its result.
    pub output: Value,
    /// What it cost, where that is known.
    pub cost_nanousd: Option<i64>,
    /// How long it took.
    pub duration_ms: i64,
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct Store {
    db: Database,
    /// For children.
    engine: Engine,
}

/// The sum of what is known of two costs.
pub(super) fn cost_sum(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (known, None) | (None, known) => known,
    }
}

impl Store {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        let engine = Engine::new(db.clone());
        Self { db, engine }
    }

    /// Begins the job's run, or finds the one that an earlier attempt began. `None` when the attempt no longer owns it.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn begin(&self, owner: &Owner, definition: &Definition, input: &Value) -> Result<Option<Begun>, DbError> {
        let row = sqlx::query!(
            r#"WITH owner AS (
                 SELECT id FROM oban_jobs
                 WHERE id = $1 AND state = 'executing' AND attempt = $2 AND attempted_by[2] = $3 FOR NO KEY UPDATE
               )
               INSERT INTO workflow_runs AS r (id, job_id, workflow, definition_hash, state, input, instance_id)
               SELECT $4, owner.id, $5, $6, 'running', $7, $8 FROM owner
               ON CONFLICT (job_id) DO UPDATE SET
                 instance_id = excluded.instance_id, state = CASE r.state WHEN 'completed' THEN r.state ELSE 'running' END,
                 finished_at = CASE r.state WHEN 'completed' THEN r.finished_at END,
                 -- Without checkpoints there is nothing that other steps could misread: it begins anew.
                 (definition_hash, input) = (
                   SELECT CASE WHEN begun THEN r.definition_hash ELSE excluded.definition_hash END,
                          CASE WHEN begun THEN r.input ELSE excluded.input END
                   FROM (SELECT EXISTS (SELECT FROM workflow_steps s WHERE s.run_id = r.id)
                             OR EXISTS (SELECT FROM workflow_parts p WHERE p.run_id = r.id)
                             OR EXISTS (SELECT FROM job_children c WHERE c.run_id = r.id)) AS d (begun))
               RETURNING r.id, r.state, r.definition_hash, r.input, r.id <> $4 AS "resumed!""#,
            owner.job_id,
            owner.attempt,
            owner.producer,
            Uuid::now_v7(),
            definition.worker,
            definition.hash(),
            input,
            owner.instance_id,
        )
        .fetch_optional(&self.db)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let mut begun = Begun {
            run_id: row.id,
            resumed: row.resumed,
            completed: row.state == "completed",
            definition_hash: row.definition_hash,
            input: row.input,
            outputs: Vec::new(),
            cost_nanousd: None,
        };
        if row.resumed {
            let steps = sqlx::query!(
                "SELECT output, cost_nanousd FROM workflow_steps WHERE run_id = $1 ORDER BY position",
                row.id
            )
            .fetch_all(&self.db)
            .await?;
            for step in steps {
                begun.outputs.push(step.output);
                begun.cost_nanousd = cost_sum(begun.cost_nanousd, step.cost_nanousd);
            }
        }
        Ok(Some(begun))
    }

    /// Stores checkpoints; `false` when the attempt no longer owns the job and nothing was stored.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn checkpoint(&self, owner: &Owner, run_id: Uuid, checkpoints: &[Checkpoint]) -> Result<bool, DbError> {
        let columns = Columns::of(checkpoints);
        let owned = sqlx::query_scalar!(
            r#"WITH owner AS (
                 SELECT id FROM oban_jobs
                 WHERE id = $1 AND state = 'executing' AND attempt = $2 AND attempted_by[2] = $3 FOR NO KEY UPDATE
               ), stored AS (
                 INSERT INTO workflow_steps (run_id, position, step, attempt, output, instance_id, duration_ms, cost_nanousd)
                 SELECT $4, d.position, d.step, $2, d.output, $5, d.duration_ms, d.cost
                 FROM owner, unnest($6::int[], $7::text[], $8::jsonb[], $9::bigint[], $10::bigint[])
                   AS d (position, step, output, duration_ms, cost)
                 ON CONFLICT (run_id, position) DO NOTHING
               )
               SELECT EXISTS (SELECT FROM owner) AS "owned!""#,
            owner.job_id,
            owner.attempt,
            owner.producer,
            run_id,
            owner.instance_id,
            &columns.positions,
            &columns.steps,
            &columns.outputs,
            &columns.durations_ms,
            columns.costs.as_slice() as &[Option<i64>],
        )
        .fetch_one(&self.db)
        .await?;
        Ok(owned)
    }

    /// Stores the last checkpoints, the result and the end of the run, all or nothing and in one round trip; `false`
    /// when the attempt no longer owns the job.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn finish(
        &self,
        owner: &Owner,
        run_id: Uuid,
        definition: &Definition,
        checkpoints: &[Checkpoint],
        result: Option<&JobResult>,
        duration_ms: i64,
    ) -> Result<bool, DbError> {
        let columns = Columns::of(checkpoints);
        let output = checkpoints.last().map(|checkpoint| checkpoint.output.clone()).unwrap_or_default();
        let none = JobResult::default();
        let owned = result_query!(
            r#", stored AS (
                 INSERT INTO workflow_steps (run_id, position, step, attempt, output, instance_id, duration_ms, cost_nanousd)
                 SELECT $30, d.position, d.step, $2, d.output, $4, d.duration_ms, d.cost
                 FROM owner, unnest($31::int[], $32::text[], $33::jsonb[], $34::bigint[], $36::bigint[])
                   AS d (position, step, output, duration_ms, cost)
                 ON CONFLICT (run_id, position) DO NOTHING
               ), ended AS (
                 UPDATE workflow_runs r SET state = 'completed', output = $35, error = NULL, finished_at = now()
                 FROM owner WHERE r.id = $30
               )"#,
            owner,
            definition,
            result.unwrap_or(&none),
            duration_ms,
            result.is_some(),
            run_id,
            &columns.positions,
            &columns.steps,
            &columns.outputs,
            &columns.durations_ms,
            output,
            columns.costs.as_slice() as &[Option<i64>],
        )
        .fetch_one(&self.db)
        .await?;
        Ok(owned)
    }

    /// Stores that an attempt failed; the next one sets the run going again. Nothing is stored when the attempt no
    /// longer owns the job.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn fail(
        &self,
        owner: &Owner,
        definition: &Definition,
        result: &JobResult,
        duration_ms: i64,
    ) -> Result<(), DbError> {
        result_query!(
            r#", ended AS (
                 UPDATE workflow_runs r SET state = 'failed', error = $10, finished_at = now()
                 FROM owner WHERE r.job_id = owner.id AND r.state <> 'completed'
               )"#,
            owner,
            definition,
            result,
            duration_ms,
            true
        )
        .fetch_one(&self.db)
        .await?;
        Ok(())
    }

    /// The result of each of `job_ids` that has one: its success, else its last failure.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn results(&self, job_ids: &[i64]) -> Result<Vec<StoredResult>, DbError> {
        let rows = sqlx::query_as!(
            StoredResult,
            "SELECT DISTINCT ON (job_id) job_id, attempt, request_id, instance_id, success, error_reason, duration_ms,
                    completed_at, cost_nanousd, provider, model_used, route, policy_version, propensity, simulated,
                    tokens_input, tokens_output, time_to_first_token_ms, result
             FROM job_results WHERE job_id = ANY($1)
             ORDER BY job_id, success DESC, attempt DESC, hop DESC",
            job_ids,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }
}

/// Checkpoints as one array a column.
struct Columns {
    positions: Vec<i32>,
    steps: Vec<String>,
    outputs: Vec<Value>,
    durations_ms: Vec<i64>,
    costs: Vec<Option<i64>>,
}

impl Columns {
    fn of(checkpoints: &[Checkpoint]) -> Self {
        Self {
            positions: checkpoints.iter().map(|checkpoint| checkpoint.position).collect(),
            steps: checkpoints.iter().map(|checkpoint| checkpoint.step.to_owned()).collect(),
            outputs: checkpoints.iter().map(|checkpoint| checkpoint.output.clone()).collect(),
            durations_ms: checkpoints.iter().map(|checkpoint| checkpoint.duration_ms).collect(),
            costs: checkpoints.iter().map(|checkpoint| checkpoint.cost_nanousd).collect(),
        }
    }
}
