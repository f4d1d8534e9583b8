//! A row of `oban_jobs` as the checked queries return it, and its way into [`Job`].

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::postgres::DbError;
use crate::queue::job::Job;

/// Columns in a form that both row shapes (Oban for Elixir's and for Python's) have.
#[derive(Debug)]
pub(super) struct JobRow {
    pub(super) id: i64,
    pub(super) state: String,
    pub(super) queue: String,
    pub(super) worker: String,
    pub(super) args: Value,
    pub(super) meta: Value,
    pub(super) tags: Vec<String>,
    pub(super) errors: Value,
    pub(super) attempt: i32,
    pub(super) max_attempts: i32,
    pub(super) priority: i32,
    pub(super) attempted_by: Vec<String>,
    pub(super) inserted_at: DateTime<Utc>,
    pub(super) scheduled_at: DateTime<Utc>,
    pub(super) attempted_at: Option<DateTime<Utc>>,
    pub(super) completed_at: Option<DateTime<Utc>>,
    pub(super) discarded_at: Option<DateTime<Utc>>,
    pub(super) cancelled_at: Option<DateTime<Utc>>,
}

impl TryFrom<JobRow> for Job {
    type Error = DbError;

    fn try_from(row: JobRow) -> Result<Self, Self::Error> {
        let errors = match row.errors {
            Value::Array(errors) => errors,
            other => vec![other],
        };
        Ok(Self {
            id: row.id,
            state: row.state.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))?,
            queue: row.queue,
            worker: row.worker,
            args: row.args,
            meta: row.meta,
            tags: row.tags,
            errors,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            priority: row.priority,
            attempted_by: row.attempted_by,
            inserted_at: row.inserted_at,
            scheduled_at: row.scheduled_at,
            attempted_at: row.attempted_at,
            completed_at: row.completed_at,
            discarded_at: row.discarded_at,
            cancelled_at: row.cancelled_at,
        })
    }
}

/// A checked query that returns whole jobs: `job_query!(before, after, arguments...)` puts the columns of alias `j`
/// between two pieces of text.
macro_rules! job_query {
    ($before:literal, $after:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            $crate::queue::engine::row::JobRow,
            $before
            + r#" j.id, j.state::text AS "state!", j.queue, j.worker, j.args, COALESCE(j.meta, '{}') AS "meta!",
              COALESCE(j.tags, '{}') AS "tags!", to_jsonb(j.errors) AS "errors!", j.attempt::int4 AS "attempt!",
              j.max_attempts::int4 AS "max_attempts!", j.priority::int4 AS "priority!",
              COALESCE(j.attempted_by, '{}') AS "attempted_by!",
              j.inserted_at AT TIME ZONE 'UTC' AS "inserted_at!", j.scheduled_at AT TIME ZONE 'UTC' AS "scheduled_at!",
              j.attempted_at AT TIME ZONE 'UTC' AS attempted_at, j.completed_at AT TIME ZONE 'UTC' AS completed_at,
              j.discarded_at AT TIME ZONE 'UTC' AS discarded_at, j.cancelled_at AT TIME ZONE 'UTC' AS cancelled_at "#
            + $after
            $(, $argument)*
        )
    };
}
pub(super) use job_query;
