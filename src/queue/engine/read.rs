//! Reading jobs: one, a list, counts.

use serde::Serialize;

use super::Engine;
use super::row::job_query;
use crate::queue::error::QueueError;
use crate::queue::job::Job;
use crate::queue::state::State;

/// Rows of one listing.
pub const LIST_MAX: u32 = 10_000;

/// Which jobs to list; an unset field allows all.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// In this state.
    pub state: Option<State>,
    /// Of this queue.
    pub queue: Option<String>,
    /// Of this worker.
    pub worker: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// At most so many, the newest first; at most [`LIST_MAX`].
    pub limit: u32,
}

/// Jobs of one queue that are not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueCounts {
    /// Name of the queue.
    pub queue: String,
    /// May be claimed now.
    pub available: i64,
    /// Wait for their time.
    pub scheduled: i64,
    /// Run now.
    pub executing: i64,
    /// Wait for their next attempt.
    pub retryable: i64,
}

impl Engine {
    /// One job, or `None` where there is none with this id.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn get(&self, id: i64) -> Result<Option<Job>, QueueError> {
        let row = job_query!("SELECT ", "FROM oban_jobs j WHERE j.id = $1", id).fetch_optional(&self.db).await?;
        Ok(row.map(Job::try_from).transpose()?)
    }

    /// Jobs by id, in the order of ids; those that do not exist are left out.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn get_many(&self, ids: &[i64]) -> Result<Vec<Job>, QueueError> {
        let rows = job_query!("SELECT ", "FROM oban_jobs j WHERE j.id = ANY($1) ORDER BY j.id", ids)
            .fetch_all(&self.db)
            .await?;
        Ok(rows.into_iter().map(Job::try_from).collect::<Result<_, _>>()?)
    }

    /// Jobs by filter, newest first.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn list(&self, filter: &JobFilter) -> Result<Vec<Job>, QueueError> {
        let rows = job_query!(
            "SELECT ",
            "FROM oban_jobs j
             WHERE ($1::text IS NULL OR j.state::text = $1) AND ($2::text IS NULL OR j.queue = $2)
               AND ($3::text IS NULL OR j.worker = $3) AND ($4::text IS NULL OR $4 = ANY(j.tags))
             ORDER BY j.id DESC LIMIT $5",
            filter.state.map(State::as_str),
            filter.queue.as_deref(),
            filter.worker.as_deref(),
            filter.tag.as_deref(),
            i64::from(filter.limit.min(LIST_MAX)),
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows.into_iter().map(Job::try_from).collect::<Result<_, _>>()?)
    }

    /// State of each of `ids`; jobs that do not exist are left out.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn states(&self, ids: &[i64]) -> Result<Vec<(i64, State)>, QueueError> {
        let rows = sqlx::query!(r#"SELECT id, state::text AS "state!" FROM oban_jobs WHERE id = ANY($1)"#, ids)
            .fetch_all(&self.db)
            .await?;
        rows.into_iter()
            .map(|row| Ok((row.id, row.state.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))?)))
            .collect()
    }

    /// Unfinished jobs by queue, in the order of names.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn queue_counts(&self) -> Result<Vec<QueueCounts>, QueueError> {
        let counts = sqlx::query_as!(
            QueueCounts,
            r#"SELECT queue,
                      count(*) FILTER (WHERE state = 'available') AS "available!",
                      count(*) FILTER (WHERE state = 'scheduled') AS "scheduled!",
                      count(*) FILTER (WHERE state = 'executing') AS "executing!",
                      count(*) FILTER (WHERE state = 'retryable') AS "retryable!"
               FROM oban_jobs WHERE state IN ('available', 'scheduled', 'executing', 'retryable')
               GROUP BY queue ORDER BY queue"#
        )
        .fetch_all(&self.db)
        .await?;
        Ok(counts)
    }
}
