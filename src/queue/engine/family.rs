//! Parents and children: waking who waits, and cancelling whose parent is gone.

use super::Engine;
use crate::queue::error::QueueError;

/// Children in one statement.
const ORPHANS_BATCH_MAX: i64 = 1_000;

impl Engine {
    /// Makes those of `ids` available that are scheduled only to wait for children and need not wait any more, and
    /// returns how many they were. It looks at what is committed when it begins, so it must begin after the end of the
    /// child, or the beginning of the wait, was stored: whichever of the two is stored last finds the other.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn wake_parents(&self, ids: &[i64]) -> Result<u64, QueueError> {
        let woken = sqlx::query_scalar!(
            r#"WITH ready AS MATERIALIZED (
                 SELECT w.job_id FROM job_waits w
                 WHERE w.job_id = ANY($1) AND CASE w.until
                   WHEN 'any' THEN NOT EXISTS (SELECT FROM job_children c WHERE c.parent_id = w.job_id AND c.state = 'open')
                     OR EXISTS (
                       SELECT FROM job_children c LEFT JOIN oban_jobs j ON j.id = c.job_id
                       WHERE c.parent_id = w.job_id AND c.state = 'open'
                         AND (j.id IS NULL OR j.state::text IN ('completed', 'cancelled', 'discarded')))
                   ELSE NOT EXISTS (
                     SELECT FROM job_children c JOIN oban_jobs j ON j.id = c.job_id
                     WHERE c.parent_id = w.job_id AND c.state = 'open'
                       AND j.state::text NOT IN ('completed', 'cancelled', 'discarded')) END
               ), woken AS (
                 UPDATE oban_jobs j SET state = 'available', scheduled_at = timezone('UTC', clock_timestamp())
                 FROM ready WHERE j.id = ready.job_id AND j.state::text = 'scheduled'
                 RETURNING j.queue
               ), told AS (
                 SELECT count(pg_notify($2, json_build_object('queue', queue)::text)) AS notes
                 FROM (SELECT DISTINCT queue FROM woken) q
               )
               SELECT count(*) AS "woken!" FROM woken, told WHERE told.notes >= 0"#,
            ids,
            self.db.channel("insert"),
        )
        .fetch_one(&self.completions)
        .await?;
        Ok(u64::try_from(woken).unwrap_or_default())
    }

    /// Cancels children whose parent was cancelled or discarded or deleted, and theirs, and returns how many they were.
    /// Those that execute are told to stop, wherever they run. A child whose row is locked is left for the next time.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn cancel_orphans(&self) -> Result<u64, QueueError> {
        let mut cancelled = 0;
        loop {
            let row = sqlx::query!(
                r#"WITH doomed AS MATERIALIZED (
                     SELECT c.job_id FROM job_children c LEFT JOIN oban_jobs p ON p.id = c.parent_id
                     WHERE c.state = 'open' AND (p.id IS NULL OR p.state::text IN ('cancelled', 'discarded'))
                     ORDER BY c.job_id LIMIT $1
                   ), held AS MATERIALIZED (
                     SELECT h.id, h.state FROM doomed,
                       LATERAL (SELECT j.id, j.state::text AS state FROM oban_jobs j
                                WHERE j.id = doomed.job_id FOR UPDATE SKIP LOCKED) h
                   ), cancelled AS (
                     UPDATE oban_jobs j SET state = 'cancelled', cancelled_at = timezone('UTC', clock_timestamp())
                     FROM held WHERE j.id = held.id AND held.state NOT IN ('completed', 'cancelled', 'discarded')
                     RETURNING j.id, held.state AS was
                   ), told AS (
                     SELECT count(pg_notify($2, json_build_object('action', 'pkill', 'job_id', id)::text)) AS notes
                     FROM cancelled WHERE was = 'executing'
                   ), closed AS (
                     UPDATE job_children c
                     SET state = CASE WHEN EXISTS (SELECT FROM cancelled WHERE cancelled.id = c.job_id) THEN 'orphaned'
                                      ELSE 'collected' END
                     FROM doomed
                     WHERE c.job_id = doomed.job_id
                       AND (EXISTS (SELECT FROM held WHERE held.id = c.job_id)
                            OR NOT EXISTS (SELECT FROM oban_jobs j WHERE j.id = c.job_id))
                   )
                   SELECT (SELECT count(*) FROM cancelled) AS "cancelled!", told.notes
                   FROM told WHERE told.notes >= 0"#,
                ORPHANS_BATCH_MAX,
                self.db.channel("signal"),
            )
            .fetch_one(&self.db)
            .await?;
            let count = u64::try_from(row.cancelled).unwrap_or_default();
            cancelled += count;
            // Those that were cancelled may be parents.
            if count == 0 {
                return Ok(cancelled);
            }
        }
    }
}
