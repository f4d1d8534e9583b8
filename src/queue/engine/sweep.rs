//! What services do to many jobs: staging what is due, taking over what dead instances left.

use std::time::Duration;

use super::Engine;
use crate::queue::error::QueueError;

/// Jobs rescued in one statement.
const RESCUE_BATCH_MAX: i64 = 5_000;
/// Jobs at the head of a queue that are looked at for attempts that are used up.
const HEAD_ROWS_MAX: i64 = 1_000;

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

/// What one run of staging did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Staged {
    /// Jobs that became available.
    pub jobs: u64,
    /// Of the queues that were looked at those that have available jobs, these or others, in alphabetical order.
    pub queues: Vec<String>,
}

/// Jobs of one queue.
struct InQueue {
    queue: String,
    jobs: i64,
}

/// The statement that stages. Several texts instead of a condition that a parameter switches off: with such a one a
/// generic plan cannot use the index for the queues, and 300,000 jobs that others have scheduled cost 83 ms a look
/// instead of 0.4 ms (`EXPLAIN ANALYZE` on PostgreSQL 15, two shared cores). `now()` and not the clock at each row: a
/// volatile bound is no index condition, so with an index on `scheduled_at` every later job would be looked at. Oban's
/// own indexes have none: 40,000 jobs that wait for tomorrow cost 45 ms a look.
macro_rules! stage {
    ($with:literal, $which:literal, $queues:literal, $told:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            InQueue,
            $with + r#" due AS MATERIALIZED (
                 SELECT id FROM oban_jobs
                 WHERE state IN ('scheduled', 'retryable') AND "# + $which + r#"
                   AND scheduled_at <= timezone('UTC', now())
                 ORDER BY scheduled_at, id LIMIT $1
                 FOR UPDATE SKIP LOCKED
               ), staged AS (
                 UPDATE oban_jobs j SET state = 'available' FROM due
                 WHERE j.id = due.id AND j.state IN ('scheduled', 'retryable')
                 RETURNING j.queue
               )
               SELECT q.queue AS "queue!", q.jobs AS "jobs!"
               FROM (SELECT queue, sum(jobs)::bigint AS jobs
                     FROM (SELECT queue, 1 AS jobs FROM staged UNION ALL "# + $queues + r#") every GROUP BY queue) q,
                    LATERAL (SELECT CASE WHEN "# + $told + r#"
                                    THEN pg_notify($2, json_build_object('queue', q.queue)::text)::text
                                    ELSE '' END AS sent) n
               WHERE n.sent IS NOT NULL ORDER BY q.queue"#,
            $($argument),+
        )
    };
}

/// The statement that rescues: what of the executing jobs are orphans, and the arguments after the first two.
macro_rules! rescue {
    ($orphans:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            Rescued,
            r#"WITH orphans AS MATERIALIZED (
                 SELECT j.id FROM oban_jobs j "# + $orphans + r#"
                 ORDER BY j.id LIMIT $1
                 FOR UPDATE OF j SKIP LOCKED
               ), rescued AS (
                 UPDATE oban_jobs j
                 SET state = CASE WHEN j.attempt < j.max_attempts THEN 'available' ELSE 'discarded' END::oban_job_state,
                     discarded_at = CASE WHEN j.attempt < j.max_attempts THEN j.discarded_at
                                         ELSE timezone('UTC', clock_timestamp()) END,
                     errors = CASE WHEN j.attempt < j.max_attempts THEN j.errors
                                   ELSE j.errors || jsonb_build_object(
                                     'at', to_char(timezone('UTC', clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                                     'attempt', j.attempt,
                                     'error', format('** (OwnerGone) %s did not end on "%s", which is gone, and this was its last attempt',
                                                     j.worker, j.attempted_by[1])) END
                 FROM orphans WHERE j.id = orphans.id AND j.state = 'executing'
                 RETURNING j.id, j.queue, COALESCE(j.attempted_by[1], '') AS instance_id, j.state = 'discarded' AS discarded
               ), told AS (
                 SELECT count(pg_notify($2, json_build_object('queue', queue)::text)) AS notes
                 FROM (SELECT DISTINCT queue FROM rescued WHERE NOT discarded) q
               )
               SELECT rescued.id, rescued.queue, rescued.instance_id AS "instance_id!", rescued.discarded AS "discarded!"
               FROM rescued, told WHERE told.notes >= 0 ORDER BY rescued.id"#,
            $($argument),+
        )
    };
}

impl Engine {
    /// Makes due jobs of `queues`, or of all with `None`, available, oldest first, at most `limit`; returns which of
    /// the queues have available jobs, so that no other statement need ask.
    ///
    /// Rows are locked with SKIP LOCKED and their state is checked again where it is written, so instances may stage
    /// side by side, and a job that was claimed or cancelled meanwhile stays as it is (Oban's own staging can revive
    /// one). Sends one `insert` notice for each queue that got any, and where all are looked at, for each that has any,
    /// as a leader of Oban does.
    ///
    /// For all queues those with available jobs are found by a loose index scan, one step a queue: 0.15 ms where
    /// DISTINCT over a million rows took 70 ms.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn stage(&self, queues: Option<&[String]>, limit: u32) -> Result<Staged, QueueError> {
        let (limit, channel) = (i64::from(limit), self.db.channel("insert"));
        let staged = match queues {
            Some(queues) => {
                stage!(
                    "WITH",
                    "queue = ANY($3)",
                    "SELECT o.queue, 0 FROM unnest($3::text[]) AS o (queue)
                     WHERE EXISTS (SELECT FROM oban_jobs j WHERE j.state = 'available' AND j.queue = o.queue)",
                    "q.jobs > 0",
                    limit,
                    channel,
                    queues
                )
                .fetch_all(&self.db)
                .await?
            }
            None => {
                stage!(
                    r#"WITH RECURSIVE available (queue) AS (
                         (SELECT queue FROM oban_jobs WHERE state = 'available' ORDER BY queue LIMIT 1)
                         UNION ALL
                         SELECT (SELECT j.queue FROM oban_jobs j WHERE j.state = 'available' AND j.queue > a.queue
                                 ORDER BY j.queue LIMIT 1)
                         FROM available a WHERE a.queue IS NOT NULL
                       ),"#,
                    "true",
                    "SELECT queue, 0 FROM available WHERE queue IS NOT NULL",
                    "true",
                    limit,
                    channel
                )
                .fetch_all(&self.db)
                .await?
            }
        };
        let jobs = staged.iter().map(|queue| u64::try_from(queue.jobs).unwrap_or(0)).sum();
        Ok(Staged { jobs, queues: staged.into_iter().map(|queue| queue.queue).collect() })
    }

    /// Returns the executing jobs of instances that are offline, and of earlier processes of instances that run again.
    ///
    /// The owner is known by `attempted_by`: its first element is an instance of `instance_registry`, its second a
    /// producer that the instance's row must name. Producers of ours are UUIDs of version 7; those of Elixir and Python
    /// nodes, which are of version 4, are left alone, also where such a node has an instance's name. As in Oban's
    /// lifeline attempts left → `available`, the state alone; used up → `discarded`, here with an error that says why.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn rescue(&self) -> Result<Vec<Rescued>, QueueError> {
        let rescued = rescue!(
            r#"JOIN instance_registry r ON r.instance_id = j.attempted_by[1]
               WHERE j.state = 'executing' AND j.attempted_by[2] ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7'
                 AND (r.status = 'offline'
                      OR NOT jsonb_path_exists(r.queues, '$.*.producer ? (@ == $id)', jsonb_build_object('id', j.attempted_by[2])))"#,
            RESCUE_BATCH_MAX,
            self.db.channel("insert")
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rescued)
    }

    /// Returns the jobs of other runtimes that have executed for longer than `rescue_after`, as their own lifelines do:
    /// nothing tells whether such an owner lives. What belongs to an instance of ours is left to [`Engine::rescue`],
    /// however long it takes.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn rescue_by_age(&self, rescue_after: Duration) -> Result<Vec<Rescued>, QueueError> {
        let rescued = rescue!(
            r#"WHERE j.state = 'executing' AND j.attempted_at < timezone('UTC', now()) - $3::bigint * interval '1 millisecond'
                 AND NOT (COALESCE(j.attempted_by[2], '') ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7'
                          AND EXISTS (SELECT FROM instance_registry r WHERE r.instance_id = j.attempted_by[1]))"#,
            RESCUE_BATCH_MAX,
            self.db.channel("insert"),
            i64::try_from(rescue_after.as_millis()).unwrap_or(i64::MAX)
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rescued)
    }

    /// Discards available jobs of `queues` whose attempts are used up, as Oban for Python does, and returns their ids.
    ///
    /// Nobody may claim such a row, and in Oban's nodes it blocks the head of its queue for ever. Looks at the first
    /// 1,000 of each queue, where they do harm: a look at all that wait would cost more the more wait.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn discard_exhausted(&self, queues: &[String]) -> Result<Vec<i64>, QueueError> {
        let ids = sqlx::query_scalar!(
            "WITH head AS MATERIALIZED (
               SELECT h.id FROM unnest($1::text[]) AS q (queue), LATERAL (
                 SELECT j.id, j.attempt, j.max_attempts FROM oban_jobs j WHERE j.state = 'available' AND j.queue = q.queue
                 ORDER BY j.priority, j.scheduled_at, j.id LIMIT $2) h
               WHERE h.attempt >= h.max_attempts
             ), held AS MATERIALIZED (
               SELECT h.id FROM head, LATERAL (
                 SELECT j.id FROM oban_jobs j
                 WHERE j.id = head.id AND j.state = 'available' AND j.attempt >= j.max_attempts
                 FOR UPDATE SKIP LOCKED) h
             )
             UPDATE oban_jobs j SET state = 'discarded', discarded_at = timezone('UTC', clock_timestamp())
             FROM held WHERE j.id = held.id RETURNING j.id",
            queues,
            HEAD_ROWS_MAX,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(ids)
    }
}
