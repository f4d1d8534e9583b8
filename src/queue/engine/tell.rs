//! What dashboards are told.

use super::Engine;
use crate::postgres::notifier::{self, Payload};
use crate::queue::error::QueueError;
use crate::queue::state::State;

/// Most counts of one answer: states times queues.
const COUNTS_MAX: i64 = 2_000;

/// Jobs of one queue in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateCount {
    /// Their state.
    pub state: State,
    /// Their queue.
    pub queue: String,
    /// How many.
    pub count: u64,
}

impl Engine {
    /// Sends payloads on a channel (its short name).
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn tell(&self, channel: &str, payloads: &[Payload]) -> Result<(), QueueError> {
        Ok(notifier::send(&self.db, &self.db.channel(channel), payloads).await?)
    }

    /// Jobs by state and queue, the whole table: its time grows with the number of jobs, so ask rarely where that is
    /// large.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn state_counts(&self) -> Result<Vec<StateCount>, QueueError> {
        let rows = sqlx::query!(
            r#"SELECT state::text AS "state!", queue, count(*) AS "count!" FROM oban_jobs
               GROUP BY state, queue ORDER BY state, queue LIMIT $1"#,
            COUNTS_MAX
        )
        .fetch_all(&self.db)
        .await?;
        // A state that is not known here is of a newer Oban.
        let counts = rows.into_iter().filter_map(|row| {
            let count = u64::try_from(row.count).ok()?;
            Some(StateCount { state: row.state.parse().ok()?, queue: row.queue, count })
        });
        Ok(counts.collect())
    }
}
