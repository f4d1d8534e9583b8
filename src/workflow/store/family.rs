//! Children of a run: enqueued together with the record of them, and read by their parent.

use std::time::Duration;

use uuid::Uuid;

use super::{Owner, Store};
use crate::postgres::{DbError, Transaction};
use crate::queue::{QueueError, State};
use crate::workflow::children::{Child, ChildJob, META_PARENT_JOB, META_PARENT_RUN, Wait};

/// How long the transaction that enqueues children may take: unique ones are several statements each.
const ENQUEUE_LIMIT: Duration = Duration::from_secs(300);

/// The attempt owns the job, or not.
type Owned = bool;

impl Store {
    /// Enqueues `jobs` as children of the step at `path` and makes a note that the parent waits, all or nothing;
    /// `false` when the attempt no longer owns the job and nothing was done. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`DbError`]; inside of it what is wrong with a job.
    pub(in crate::workflow) async fn enqueue_children(
        &self,
        owner: &Owner,
        run_id: Uuid,
        path: &str,
        jobs: &[ChildJob],
        until: Wait,
    ) -> Result<Result<Owned, QueueError>, DbError> {
        let enqueuing = async |mut tx: Transaction<'_>| -> Result<_, DbError> {
            let keys: Vec<String> = jobs.iter().map(|child| child.key.clone()).collect();
            let owned = sqlx::query_scalar!(
                r#"SELECT EXISTS (SELECT FROM job_children WHERE run_id = $4 AND path = $5 AND key = ANY($6)) AS "has_them!"
                   FROM oban_jobs
                   WHERE id = $1 AND state = 'executing' AND attempt = $2 AND attempted_by[2] = $3 FOR NO KEY UPDATE"#,
                owner.job_id,
                owner.attempt,
                owner.producer,
                run_id,
                path,
                &keys,
            )
            .fetch_optional(&mut *tx)
            .await?;
            match owned {
                None => return Ok(Ok(false)),
                // By a transaction before, whose answer was lost: all or nothing.
                Some(true) => return Ok(Ok(true)),
                Some(false) => {}
            }
            let new = jobs.iter().map(|child| {
                let mut job = child.job.clone();
                job.meta.insert(META_PARENT_JOB.into(), owner.job_id.into());
                job.meta.insert(META_PARENT_RUN.into(), run_id.to_string().into());
                job
            });
            let inserted = match self.engine.insert_many_on(&mut tx, new.collect()).await {
                Ok(inserted) => inserted,
                Err(QueueError::Db(error)) => return Err(error),
                Err(error) => return Ok(Err(error)),
            };
            sqlx::query!(
                "INSERT INTO job_children (parent_id, run_id, path, key, job_id)
                 SELECT $1, $2, $3, d.key, d.job_id FROM unnest($4::text[], $5::bigint[]) AS d (key, job_id)",
                owner.job_id,
                run_id,
                path,
                &keys,
                &inserted.iter().map(|job| job.id).collect::<Vec<_>>(),
            )
            .execute(&mut *tx)
            .await?;
            let until = match until {
                Wait::All => "all",
                Wait::Any => "any",
            };
            sqlx::query!(
                "WITH waits AS (
                   INSERT INTO job_waits (job_id, until) VALUES ($1, $2)
                   ON CONFLICT (job_id) DO UPDATE SET until = CASE job_waits.until WHEN 'any' THEN 'any' ELSE excluded.until END
                 )
                 UPDATE workflow_runs SET state = 'waiting' WHERE id = $3",
                owner.job_id,
                until,
                run_id,
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(Ok(true))
        };
        self.db.transaction_within(ENQUEUE_LIMIT, enqueuing).await
    }

    /// The children of a step, in the order of their keys. Those that were cancelled together with the parent, which
    /// runs again now, are set going again.
    pub(in crate::workflow) async fn children(
        &self,
        owner: &Owner,
        run_id: Uuid,
        path: &str,
    ) -> Result<Vec<Child>, DbError> {
        sqlx::query!(
            r#"WITH owner AS (
                 SELECT id FROM oban_jobs
                 WHERE id = $1 AND state = 'executing' AND attempt = $2 AND attempted_by[2] = $3 FOR NO KEY UPDATE
               ), revived AS (
                 UPDATE oban_jobs j
                 SET state = 'available', scheduled_at = timezone('UTC', clock_timestamp()), cancelled_at = NULL,
                     max_attempts = GREATEST(j.max_attempts, j.attempt + 1)
                 FROM owner, job_children c
                 WHERE c.run_id = $4 AND c.path = $5 AND c.state = 'orphaned' AND j.id = c.job_id
                   AND j.state::text = 'cancelled'
                 RETURNING j.id, j.queue
               ), reopened AS (
                 UPDATE job_children c SET state = 'open' FROM revived WHERE c.job_id = revived.id
               )
               SELECT count(pg_notify($6, json_build_object('queue', queue)::text)) AS "notes!"
               FROM (SELECT DISTINCT queue FROM revived) q"#,
            owner.job_id,
            owner.attempt,
            owner.producer,
            run_id,
            path,
            self.db.channel("insert"),
        )
        .fetch_one(&self.db)
        .await?;
        let rows = sqlx::query!(
            r#"SELECT c.key, c.job_id, j.state::text AS state, j.meta AS "meta?", to_jsonb(j.errors) AS errors,
                      (SELECT s.result FROM job_results s WHERE s.job_id = c.job_id AND s.success) AS result,
                      (SELECT w.output FROM workflow_runs w WHERE w.job_id = c.job_id AND w.state = 'completed') AS output
               FROM job_children c LEFT JOIN oban_jobs j ON j.id = c.job_id
               WHERE c.run_id = $1 AND c.path = $2 ORDER BY c.key"#,
            run_id,
            path,
        )
        .fetch_all(&self.db)
        .await?;
        rows.into_iter()
            .map(|row| {
                let state: Option<State> = row
                    .state
                    .map(|state| state.parse())
                    .transpose()
                    .map_err(|error: String| sqlx::Error::Decode(error.into()))?;
                let kept = row.result.or(row.output);
                // Its row was deleted, but not what it came to.
                let state = state.or(kept.is_some().then_some(State::Completed));
                let output = kept.or_else(|| row.meta.as_ref().and_then(crate::queue::recorded_result));
                let last = row.errors.as_ref().and_then(|errors| errors.as_array()?.last());
                let error = last.map(|error| error["error"].as_str().map_or_else(|| error.to_string(), str::to_owned));
                Ok(Child {
                    key: row.key,
                    job_id: row.job_id,
                    state,
                    output: output.filter(|_| state == Some(State::Completed)),
                    error: error.filter(|_| state != Some(State::Completed)),
                })
            })
            .collect()
    }

    /// Notes that the job does not wait for children at present, because it runs.
    pub(in crate::workflow) async fn awake(&self, owner: &Owner) -> Result<(), DbError> {
        sqlx::query!(
            "DELETE FROM job_waits w USING oban_jobs j
             WHERE w.job_id = $1 AND j.id = w.job_id AND j.state::text = 'executing' AND j.attempt = $2
               AND j.attempted_by[2] = $3",
            owner.job_id,
            owner.attempt,
            owner.producer,
        )
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Notes that the parent has seen the end of these children; `false` when the attempt no longer owns the job.
    pub(in crate::workflow) async fn collect_children(
        &self,
        owner: &Owner,
        run_id: Uuid,
        ended: &[i64],
    ) -> Result<Owned, DbError> {
        let owned = sqlx::query_scalar!(
            r#"WITH owner AS (
                 SELECT id FROM oban_jobs
                 WHERE id = $1 AND state = 'executing' AND attempt = $2 AND attempted_by[2] = $3 FOR NO KEY UPDATE
               ), seen AS (
                 UPDATE job_children c SET state = 'collected' FROM owner
                 WHERE c.run_id = $4 AND c.job_id = ANY($5) AND c.state = 'open'
               )
               SELECT EXISTS (SELECT FROM owner) AS "owned!""#,
            owner.job_id,
            owner.attempt,
            owner.producer,
            run_id,
            ended,
        )
        .fetch_one(&self.db)
        .await?;
        Ok(owned)
    }
}
