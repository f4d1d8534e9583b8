//! Runs as people look at them, and their end.

use std::time::Duration;

use uuid::Uuid;

use super::Store;
use crate::postgres::DbError;
use crate::workflow::stored::{ListedRun, StoredChild, StoredPart, StoredRun, StoredStep};

/// Runs of one listing.
pub const RUNS_LIST_MAX: u32 = 1_000;

/// Which runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Of this workflow.
    pub workflow: Option<String>,
    /// In any of these states; all with none.
    pub states: Vec<String>,
}

impl Store {
    /// The run of a job with all that belongs to it; `None` where no attempt has begun one. What ends a job from
    /// outside writes nothing into its run, so one that would still be going on is shown as ended with its job. One
    /// whose attempt failed is `retrying` for as long as its job will have, or has, another attempt.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn run(&self, job_id: i64) -> Result<Option<StoredRun>, DbError> {
        let run = sqlx::query!(
            r#"SELECT r.id, r.job_id, r.workflow, r.definition_hash, r.instance_id, r.started_at, r.finished_at, r.error,
                      r.output,
                      CASE WHEN r.state = 'failed' AND j.state::text NOT IN ('completed', 'cancelled', 'discarded')
                           THEN 'retrying'
                           WHEN r.state NOT IN ('running', 'waiting') THEN r.state
                           WHEN j.state::text = 'cancelled' THEN 'cancelled'
                           WHEN j.id IS NULL OR j.state::text IN ('completed', 'discarded') THEN 'failed'
                           ELSE r.state END AS "state!"
               FROM workflow_runs r LEFT JOIN oban_jobs j ON j.id = r.job_id WHERE r.job_id = $1"#,
            job_id,
        )
        .fetch_optional(&self.db)
        .await?;
        let Some(run) = run else { return Ok(None) };
        let steps = sqlx::query_as!(
            StoredStep,
            "SELECT position, step, attempt, instance_id, duration_ms, cost_nanousd, finished_at, output
             FROM workflow_steps WHERE run_id = $1 ORDER BY position",
            run.id,
        )
        .fetch_all(&self.db)
        .await?;
        let parts = sqlx::query_as!(
            StoredPart,
            "SELECT path, step, attempt, instance_id, duration_ms, cost_nanousd, finished_at, output
             FROM workflow_parts WHERE run_id = $1 ORDER BY string_to_array(path, '.')::int[]",
            run.id,
        )
        .fetch_all(&self.db)
        .await?;
        let children = sqlx::query_as!(
            StoredChild,
            r#"SELECT c.path, c.key, c.job_id, j.worker AS "worker?", j.state::text AS state,
                      (SELECT sum(s.cost_nanousd)::bigint FROM job_results s WHERE s.job_id = c.job_id) AS cost_nanousd,
                      to_jsonb(j.errors) -> -1 ->> 'error' AS error
               FROM job_children c LEFT JOIN oban_jobs j ON j.id = c.job_id
               WHERE c.run_id = $1 ORDER BY string_to_array(c.path, '.')::int[], c.key"#,
            run.id,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(Some(StoredRun {
            id: run.id,
            job_id: run.job_id,
            workflow: run.workflow,
            state: run.state,
            definition_hash: run.definition_hash,
            instance_id: run.instance_id,
            started_at: run.started_at,
            finished_at: run.finished_at,
            error: run.error,
            output: run.output,
            steps,
            parts,
            children,
        }))
    }

    /// The job of a run; `None` where there is no such run.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn job_of(&self, run_id: Uuid) -> Result<Option<i64>, DbError> {
        Ok(sqlx::query_scalar!("SELECT job_id FROM workflow_runs WHERE id = $1", run_id)
            .fetch_optional(&self.db)
            .await?)
    }

    /// The newest runs that fit, with states as [`Store::run`] tells them; at most `limit`, and at most
    /// [`RUNS_LIST_MAX`].
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn runs(&self, filter: &RunFilter, limit: u32) -> Result<Vec<ListedRun>, DbError> {
        let runs = sqlx::query_as!(
            ListedRun,
            r#"SELECT r.id, r.job_id, r.workflow, known.state AS "state!", j.state::text AS job_state, r.instance_id,
                      r.started_at, r.finished_at, r.error,
                      (SELECT count(*) FROM workflow_steps s WHERE s.run_id = r.id) AS "steps!",
                      (SELECT count(*) FROM job_children c WHERE c.run_id = r.id) AS "children!",
                      (SELECT sum(s.cost_nanousd)::bigint FROM job_results s WHERE s.job_id = r.job_id) AS cost_nanousd
               FROM workflow_runs r LEFT JOIN oban_jobs j ON j.id = r.job_id, LATERAL (
                 SELECT CASE WHEN r.state = 'failed' AND j.state::text NOT IN ('completed', 'cancelled', 'discarded')
                             THEN 'retrying'
                             WHEN r.state NOT IN ('running', 'waiting') THEN r.state
                             WHEN j.state::text = 'cancelled' THEN 'cancelled'
                             WHEN j.id IS NULL OR j.state::text IN ('completed', 'discarded') THEN 'failed'
                             ELSE r.state END AS state
               ) known
               WHERE ($1::text IS NULL OR r.workflow = $1) AND (cardinality($2::text[]) = 0 OR known.state = ANY($2))
               ORDER BY r.started_at DESC, r.job_id DESC LIMIT $3"#,
            filter.workflow,
            &filter.states,
            i64::from(limit.min(RUNS_LIST_MAX)),
        )
        .fetch_all(&self.db)
        .await?;
        Ok(runs)
    }

    /// Deletes at most `limit` runs with all their checkpoints that ended more than `max_age` ago, and returns how many
    /// they were. A run that failed has ended when its job has; one that neither completed nor failed, when its job is
    /// gone. `job_results` stay.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn prune_runs(&self, max_age: Duration, limit: u32) -> Result<u64, DbError> {
        let pruned = sqlx::query!(
            "WITH old AS (
               SELECT r.id, r.job_id FROM workflow_runs r
               WHERE COALESCE(r.finished_at, r.started_at) < now() - $1::bigint * interval '1 millisecond'
                 AND (r.state = 'completed' OR NOT EXISTS (
                   SELECT FROM oban_jobs j WHERE j.id = r.job_id
                   AND (r.state <> 'failed' OR j.state::text NOT IN ('completed', 'cancelled', 'discarded'))))
               LIMIT $2 FOR UPDATE SKIP LOCKED
             ), waits AS (
               DELETE FROM job_waits w USING old WHERE w.job_id = old.job_id
             )
             DELETE FROM workflow_runs r USING old WHERE r.id = old.id",
            i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX),
            i64::from(limit),
        )
        .execute(&self.db)
        .await?;
        Ok(pruned.rows_affected())
    }
}
