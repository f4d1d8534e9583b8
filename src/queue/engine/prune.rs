//! Deleting jobs that finished long ago.

use std::time::Duration;

use super::Engine;
use crate::queue::error::QueueError;
use crate::telemetry::oban::Pruned;

impl Engine {
    /// Deletes at most `limit` jobs that ended more than `max_age` ago, by Oban's rules: a completed job's age counts
    /// from `scheduled_at` (Oban for Elixir's choice), a cancelled one's from `cancelled_at`, a
    /// discarded one's from `discarded_at`. One without that time stays, and so does every other state.
    ///
    /// No order; at most `limit` of each state are looked at. With lean indexes a large table costs no more than a
    /// small one; of Oban's the part of the main index that has completed jobs is read when fewer than `limit` are due.
    /// Rows are locked with SKIP LOCKED and their state is checked again, so one that a person just retries stays, and
    /// several may prune at once. The cut is fixed when the statement starts, because an index condition cannot move.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn prune(&self, max_age: Duration, limit: u32) -> Result<Pruned, QueueError> {
        let row = sqlx::query!(
            r#"WITH completed AS MATERIALIZED (
                 SELECT id FROM oban_jobs
                 WHERE state = 'completed'
                   AND scheduled_at < timezone('UTC', now()) - $1::bigint * interval '1 millisecond'
                 LIMIT $2 FOR UPDATE SKIP LOCKED
               ), cancelled AS MATERIALIZED (
                 SELECT id FROM oban_jobs
                 WHERE state = 'cancelled'
                   AND cancelled_at < timezone('UTC', now()) - $1::bigint * interval '1 millisecond'
                 LIMIT $2 FOR UPDATE SKIP LOCKED
               ), discarded AS MATERIALIZED (
                 SELECT id FROM oban_jobs
                 WHERE state = 'discarded'
                   AND discarded_at < timezone('UTC', now()) - $1::bigint * interval '1 millisecond'
                 LIMIT $2 FOR UPDATE SKIP LOCKED
               ), old AS MATERIALIZED (
                 SELECT id FROM (TABLE completed UNION ALL TABLE cancelled UNION ALL TABLE discarded) every LIMIT $2
               ), gone AS (
                 DELETE FROM oban_jobs j USING old
                 WHERE j.id = old.id AND j.state IN ('completed', 'cancelled', 'discarded')
                 RETURNING j.state
               )
               SELECT count(*) FILTER (WHERE state = 'completed') AS "completed!",
                      count(*) FILTER (WHERE state = 'cancelled') AS "cancelled!",
                      count(*) FILTER (WHERE state = 'discarded') AS "discarded!"
               FROM gone"#,
            i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX),
            i64::from(limit),
        )
        .fetch_one(&self.db)
        .await?;
        let count = |rows: i64| u64::try_from(rows).unwrap_or(0);
        Ok(Pruned { completed: count(row.completed), cancelled: count(row.cancelled), discarded: count(row.discarded) })
    }
}
