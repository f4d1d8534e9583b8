//! Rows of running jobs that say something else: somebody took them behind their runner's back.

use uuid::Uuid;

use super::Engine;
use crate::queue::error::QueueError;
use crate::queue::state::State;

/// A job that `producer` runs and whose row is not its own any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The job.
    pub id: i64,
    /// State of the row; `None` when it is gone. `executing` means that another producer has it.
    pub state: Option<State>,
}

impl Engine {
    /// Those of `running` whose rows `producer` does not own any more.
    ///
    /// Oban for Elixir stages without looking at the state again, and its rescue and Oban for Python's look at age
    /// alone: each may make a running job available. A notice that a job was cancelled may be lost.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn taken(&self, producer: Uuid, running: &[i64]) -> Result<Vec<Taken>, QueueError> {
        let rows = sqlx::query!(
            r#"SELECT r.id AS "id!", j.state::text AS state
               FROM unnest($1::bigint[]) AS r (id) LEFT JOIN oban_jobs j ON j.id = r.id
               WHERE j.id IS NULL OR j.state::text <> 'executing' OR j.attempted_by[2] IS DISTINCT FROM $2"#,
            running,
            producer.to_string(),
        )
        .fetch_all(&self.db)
        .await?;
        rows.into_iter()
            .map(|row| {
                let state = row.state.map(|word| word.parse()).transpose();
                Ok(Taken { id: row.id, state: state.map_err(|error: String| sqlx::Error::Decode(error.into()))? })
            })
            .collect()
    }
}
