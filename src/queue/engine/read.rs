//! Reading jobs: one, a list, counts.

use serde::Serialize;
use sqlx::QueryBuilder;

use super::Engine;
use super::filter::JobFilter;
use super::row::{COLUMNS, JobRow, job_query};
use crate::queue::error::QueueError;
use crate::queue::job::Job;
use crate::queue::state::State;

/// Rows of one listing.
pub const LIST_MAX: u32 = 10_000;

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
    /// How long the one of those that may be claimed has been waiting that has done so longest: how late the queue is,
    /// by the database's clock. `None` where there is none; below 0 where somebody made one available before its time.
    pub oldest_available_ms: Option<i64>,
}

impl QueueCounts {
    /// A queue without unfinished jobs.
    pub fn none(queue: &str) -> Self {
        Self {
            queue: queue.to_owned(),
            available: 0,
            scheduled: 0,
            executing: 0,
            retryable: 0,
            oldest_available_ms: None,
        }
    }
}

/// Jobs of one look for workers that are known.
const PERFORMED_LOOK_MAX: i64 = 10_000;

impl Engine {
    /// Workers of which a job was performed, in whatever runtime, among the newest 10,000 jobs: walking back along the
    /// primary key costs the same in a table of any size.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn performed_workers(&self) -> Result<Vec<String>, QueueError> {
        let workers = sqlx::query_scalar!(
            "SELECT DISTINCT worker FROM (SELECT worker, attempt FROM oban_jobs ORDER BY id DESC LIMIT $1) newest
             WHERE attempt > 0",
            PERFORMED_LOOK_MAX,
        );
        Ok(workers.fetch_all(&self.db).await?)
    }

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

    /// Jobs that fit, newest first, at most `limit` and at most [`LIST_MAX`]; with `before` only those with a lower id,
    /// so the last id of one page begins the next.
    ///
    /// # Errors
    /// [`QueueError::Invalid`], [`QueueError::Db`].
    pub async fn list(&self, filter: &JobFilter, before: Option<i64>, limit: u32) -> Result<Vec<Job>, QueueError> {
        let filter = self.known_states(filter).await?;
        let mut sql = QueryBuilder::new("SELECT ");
        sql.push(COLUMNS).push("FROM oban_jobs j WHERE true");
        filter.push(&mut sql);
        if let Some(before) = before {
            sql.push(" AND j.id < ").push_bind(before);
        }
        sql.push(" ORDER BY j.id DESC LIMIT ").push_bind(i64::from(limit.min(LIST_MAX)));
        let rows: Vec<JobRow> = sql.build_query_as().persistent(false).fetch_all(&self.db).await?;
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
                      count(*) FILTER (WHERE state = 'retryable') AS "retryable!",
                      (extract(epoch FROM timezone('UTC', clock_timestamp())
                               - min(scheduled_at) FILTER (WHERE state = 'available')) * 1000)::bigint
                        AS oldest_available_ms
               FROM oban_jobs WHERE state IN ('available', 'scheduled', 'executing', 'retryable')
               GROUP BY queue ORDER BY queue"#
        )
        .fetch_all(&self.db)
        .await?;
        Ok(counts)
    }
}
