//! What a person does to jobs: cancel, retry, delete. Which states each accepts is Oban's matrix.

use super::Engine;
use crate::queue::error::QueueError;
use crate::queue::state::State;

/// What became of one job that somebody wanted changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Changed; the state before.
    Yes(State),
    /// There, but in a state that does not allow it.
    No(State),
    /// No such job.
    NotFound,
}

impl Engine {
    /// Cancels a job unless it is finished. One that executes is told to stop, wherever it runs; its row is cancelled
    /// at once, so what its runner writes later no longer counts.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn cancel(&self, id: i64) -> Result<Changed, QueueError> {
        let row = sqlx::query!(
            r#"WITH old AS (SELECT id, state FROM oban_jobs WHERE id = $1 FOR UPDATE),
               changed AS (
                 UPDATE oban_jobs j SET state = 'cancelled', cancelled_at = timezone('UTC', clock_timestamp())
                 FROM old WHERE j.id = old.id AND old.state NOT IN ('completed', 'cancelled', 'discarded')
                 RETURNING old.state
               ),
               told AS (
                 SELECT count(pg_notify($2, json_build_object('action', 'pkill', 'job_id', $1::bigint)::text)) AS notes
                 FROM changed WHERE state = 'executing'
               )
               SELECT old.state::text AS "state!", EXISTS (SELECT FROM changed) AS "changed!", told.notes AS "notes!"
               FROM old, told"#,
            id,
            self.db.channel("signal"),
        )
        .fetch_optional(&self.db)
        .await?;
        row.map_or(Ok(Changed::NotFound), |row| changed(row.changed, &row.state))
    }

    /// Makes a job available again that waits or is finished; allows one more attempt where they are used up.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn retry(&self, id: i64) -> Result<Changed, QueueError> {
        let row = sqlx::query!(
            r#"WITH old AS (SELECT id, state FROM oban_jobs WHERE id = $1 FOR UPDATE),
               changed AS (
                 UPDATE oban_jobs j
                 SET state = 'available', scheduled_at = timezone('UTC', clock_timestamp()),
                     max_attempts = GREATEST(j.max_attempts, j.attempt + 1),
                     completed_at = NULL, cancelled_at = NULL, discarded_at = NULL
                 FROM old WHERE j.id = old.id AND old.state NOT IN ('available', 'executing')
                 RETURNING j.queue
               ),
               told AS (SELECT count(pg_notify($2, json_build_object('queue', queue)::text)) AS notes FROM changed)
               SELECT old.state::text AS "state!", EXISTS (SELECT FROM changed) AS "changed!", told.notes AS "notes!"
               FROM old, told"#,
            id,
            self.db.channel("insert"),
        )
        .fetch_optional(&self.db)
        .await?;
        row.map_or(Ok(Changed::NotFound), |row| changed(row.changed, &row.state))
    }

    /// Deletes a job unless it executes.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn delete(&self, id: i64) -> Result<Changed, QueueError> {
        let row = sqlx::query!(
            r#"WITH old AS (SELECT id, state FROM oban_jobs WHERE id = $1 FOR UPDATE),
               gone AS (DELETE FROM oban_jobs j USING old WHERE j.id = old.id AND old.state <> 'executing' RETURNING j.id)
               SELECT old.state::text AS "state!", EXISTS (SELECT FROM gone) AS "changed!" FROM old"#,
            id,
        )
        .fetch_optional(&self.db)
        .await?;
        row.map_or(Ok(Changed::NotFound), |row| changed(row.changed, &row.state))
    }
}

fn changed(yes: bool, state: &str) -> Result<Changed, QueueError> {
    let state = state.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))?;
    Ok(if yes { Changed::Yes(state) } else { Changed::No(state) })
}
