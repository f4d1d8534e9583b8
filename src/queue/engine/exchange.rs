//! Storing what attempts came to and claiming the next jobs, in one statement.

use chrono::NaiveDateTime;

use super::Engine;
use super::claim::Claim;
use super::complete::{GuardedAck, Guards};
use super::row::job_query;
use crate::queue::error::QueueError;
use crate::queue::job::Job;
use crate::queue::state::State;

/// What one statement did.
#[derive(Debug)]
pub struct Exchanged {
    /// Ids of those whose guard held; the others were superseded and changed nothing.
    pub stored: Vec<i64>,
    /// What was claimed, in Oban's order.
    pub claimed: Vec<Job>,
}

impl Engine {
    /// Writes `acks`, which must all have succeeded without a recorded result, as [`Engine::complete`] does, and claims
    /// as [`Engine::claim`] does: one round trip and one commit for both. Both happen or neither does.
    ///
    /// The demand may count the slots of `acks`: when the statement is committed each of them is stored or superseded,
    /// and the code of either has ended. Rows that are completed here cannot be claimed here, because both halves see
    /// the table as it was before.
    ///
    /// Meant for few rows: the guard is looked up row by row, so that there is no join, whose plan could be a bad one
    /// for a table that has grown, see [`Lane::planned_once`](crate::postgres::Lane::planned_once).
    ///
    /// Cancel safety: when the reply is lost either both have happened or nothing. Repeating the completions is
    /// harmless, and [`Engine::recover`] finds the jobs that were claimed.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn exchange(&self, acks: &[GuardedAck], claim: &Claim<'_>) -> Result<Exchanged, QueueError> {
        let guards = Guards::of(acks);
        // Of what is stored nothing is read but its id, so its arguments are left where they are.
        let rows = job_query!(
            "WITH done AS (
               UPDATE oban_jobs j
               SET state = 'completed', completed_at = timezone('UTC', clock_timestamp())
               WHERE j.id = ANY($1) AND j.state::text = 'executing' AND EXISTS (
                 SELECT FROM unnest($1::bigint[], $2::int[], $3::text[], $4::timestamp[]) AS d (id, attempt, producer, claimed)
                 WHERE d.id = j.id AND d.attempt = j.attempt AND d.producer = j.attempted_by[2]
                   AND d.claimed = j.attempted_at
                 OFFSET 0)
               RETURNING j.id, j.state, j.queue, j.worker, 'null'::jsonb AS args, j.meta, j.tags, j.errors, j.attempt,
                         j.max_attempts, j.priority, j.attempted_by, j.inserted_at, j.scheduled_at, j.attempted_at,
                         j.completed_at, j.discarded_at, j.cancelled_at
             ), chosen AS MATERIALIZED (
               SELECT id FROM oban_jobs
               WHERE state = 'available' AND queue = $5 AND attempt < max_attempts AND worker = ANY($6)
               ORDER BY priority, scheduled_at, id
               LIMIT $7
               FOR UPDATE SKIP LOCKED
             ), claimed AS (
               UPDATE oban_jobs j
               SET state = 'executing', attempt = j.attempt + 1, attempted_at = timezone('UTC', clock_timestamp()),
                   attempted_by = ARRAY[$8::text, $9::text]
               WHERE j.id = ANY(ARRAY(SELECT id FROM chosen)) AND j.attempt < j.max_attempts
               RETURNING j.id, j.state, j.queue, j.worker, j.args, j.meta, j.tags, j.errors, j.attempt,
                         j.max_attempts, j.priority, j.attempted_by, j.inserted_at, j.scheduled_at, j.attempted_at,
                         j.completed_at, j.discarded_at, j.cancelled_at
             ), j AS (TABLE done UNION ALL TABLE claimed)
             SELECT ",
            "FROM j",
            &guards.ids,
            &guards.attempts,
            &guards.producers,
            guards.claimed.as_slice() as &[Option<NaiveDateTime>],
            claim.queue,
            claim.workers,
            i64::from(claim.demand),
            claim.instance_id,
            claim.producer.to_string(),
        )
        .fetch_all(&self.claims)
        .await?;
        let (done, claimed): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.state == State::Completed.as_str());
        let mut claimed = claimed.into_iter().map(Job::try_from).collect::<Result<Vec<_>, _>>()?;
        // RETURNING promises no order.
        claimed.sort_unstable_by_key(|job| (job.priority, job.scheduled_at, job.id));
        Ok(Exchanged { stored: done.iter().map(|row| row.id).collect(), claimed })
    }
}
