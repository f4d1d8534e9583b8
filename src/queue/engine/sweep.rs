//! What services do to many jobs: staging what is due, taking over what dead instances left.

use super::Engine;
use crate::queue::error::QueueError;

/// Jobs rescued in one statement.
const RESCUE_BATCH_MAX: i64 = 5_000;

/// A job taken over from a dead owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescued {
    /// The job.
    pub id: i64,
    /// Its queue.
    pub queue: String,
    /// Instance that had it.
    pub instance_id: String,
    /// Whether its attempts are used up, so that it was discarded instead of made available.
    pub discarded: bool,
}

/// The statement that stages. Two texts instead of a condition that a parameter switches off: with such a one a generic
/// plan cannot use the index for the queues, and 300,000 jobs that others have scheduled cost 83 ms a look instead of
/// 0.4 ms (`EXPLAIN ANALYZE` on PostgreSQL 15, two shared cores).
macro_rules! stage {
    ($which:literal, $($argument:expr),+) => {
        sqlx::query_scalar!(
            r#"WITH due AS MATERIALIZED (
                 SELECT id FROM oban_jobs
                 WHERE state IN ('scheduled', 'retryable') AND "# + $which + r#"
                   AND scheduled_at <= timezone('UTC', clock_timestamp())
                 ORDER BY scheduled_at, id LIMIT $1
                 FOR UPDATE SKIP LOCKED
               ), staged AS (
                 UPDATE oban_jobs j SET state = 'available' FROM due
                 WHERE j.id = due.id AND j.state IN ('scheduled', 'retryable')
                 RETURNING j.queue
               )
               SELECT q.queue AS "queue!"
               FROM (SELECT DISTINCT queue FROM staged) q,
                    LATERAL (SELECT pg_notify($2, json_build_object('queue', q.queue)::text)::text AS sent) n
               WHERE n.sent IS NOT NULL"#,
            $($argument),+
        )
    };
}

impl Engine {
    /// Makes due jobs of `queues`, or of all with `None`, available, oldest first, at most `limit`; returns the queues
    /// that got any.
    ///
    /// Rows are locked with SKIP LOCKED and their state is checked again where it is written, so instances may stage
    /// side by side, and a job that was claimed or cancelled meanwhile stays as it is (Oban's own staging can revive
    /// one). Sends one `insert` notice a queue.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn stage(&self, queues: Option<&[String]>, limit: u32) -> Result<Vec<String>, QueueError> {
        let (limit, channel) = (i64::from(limit), self.db.channel("insert"));
        let staged = match queues {
            Some(queues) => stage!("queue = ANY($3)", limit, channel, queues).fetch_all(&self.db).await?,
            None => stage!("true", limit, channel).fetch_all(&self.db).await?,
        };
        Ok(staged)
    }

    /// Returns the executing jobs of instances that are offline, and of earlier processes of instances that run again.
    ///
    /// The owner is known by `attempted_by`: its first element is an instance of `instance_registry`, its second a
    /// producer that the instance's row must name. Jobs of runtimes that are not registered there are left alone. As in
    /// Oban's lifeline only the state changes: attempts left → `available`, used up → `discarded`.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn rescue(&self) -> Result<Vec<Rescued>, QueueError> {
        let rescued = sqlx::query_as!(
            Rescued,
            r#"WITH orphans AS MATERIALIZED (
                 SELECT j.id FROM oban_jobs j JOIN instance_registry r ON r.instance_id = j.attempted_by[1]
                 WHERE j.state = 'executing'
                   AND (r.status = 'offline'
                        OR NOT jsonb_path_exists(r.queues, '$.*.producer ? (@ == $id)', jsonb_build_object('id', j.attempted_by[2])))
                 ORDER BY j.id LIMIT $1
                 FOR UPDATE OF j SKIP LOCKED
               ), rescued AS (
                 UPDATE oban_jobs j
                 SET state = CASE WHEN j.attempt < j.max_attempts THEN 'available' ELSE 'discarded' END::oban_job_state,
                     discarded_at = CASE WHEN j.attempt < j.max_attempts THEN j.discarded_at
                                         ELSE timezone('UTC', clock_timestamp()) END
                 FROM orphans WHERE j.id = orphans.id AND j.state = 'executing'
                 RETURNING j.id, j.queue, j.attempted_by[1] AS instance_id, j.state = 'discarded' AS discarded
               ), told AS (
                 SELECT count(pg_notify($2, json_build_object('queue', queue)::text)) AS notes
                 FROM (SELECT DISTINCT queue FROM rescued WHERE NOT discarded) q
               )
               SELECT rescued.id, rescued.queue, rescued.instance_id AS "instance_id!", rescued.discarded AS "discarded!"
               FROM rescued, told WHERE told.notes >= 0 ORDER BY rescued.id"#,
            RESCUE_BATCH_MAX,
            self.db.channel("insert"),
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rescued)
    }
}
