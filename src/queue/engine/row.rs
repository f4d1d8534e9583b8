//! A row of `oban_jobs` as the checked queries return it, and its way into [`Job`].

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::postgres::DbError;
use crate::queue::job::Job;

/// Columns in a form that both row shapes (Oban for Elixir's and for Python's) have. Names with a mark are those of
/// the checked queries, which know by it that a column is never NULL.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct JobRow {
    #[sqlx(rename = "id!")]
    pub(super) id: i64,
    #[sqlx(rename = "state!")]
    pub(super) state: String,
    #[sqlx(rename = "queue!")]
    pub(super) queue: String,
    #[sqlx(rename = "worker!")]
    pub(super) worker: String,
    #[sqlx(rename = "args!")]
    pub(super) args: Value,
    #[sqlx(rename = "meta!")]
    pub(super) meta: Value,
    #[sqlx(rename = "tags!")]
    pub(super) tags: Vec<String>,
    #[sqlx(rename = "errors!")]
    pub(super) errors: Value,
    #[sqlx(rename = "attempt!")]
    pub(super) attempt: i32,
    #[sqlx(rename = "max_attempts!")]
    pub(super) max_attempts: i32,
    #[sqlx(rename = "priority!")]
    pub(super) priority: i32,
    #[sqlx(rename = "attempted_by!")]
    pub(super) attempted_by: Vec<String>,
    #[sqlx(rename = "inserted_at!")]
    pub(super) inserted_at: DateTime<Utc>,
    #[sqlx(rename = "scheduled_at!")]
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

/// Calls a macro with the columns of [`JobRow`], of alias `j`, before what it is given: checked queries and statements
/// that are put together share one text.
macro_rules! with_columns {
    ($then:ident $($rest:tt)*) => {
        $then!(r#" j.id AS "id!", j.state::text AS "state!", j.queue AS "queue!", j.worker AS "worker!", j.args AS "args!",
              COALESCE(j.meta, '{}') AS "meta!",
              COALESCE(j.tags, '{}') AS "tags!", to_jsonb(j.errors) AS "errors!", j.attempt::int4 AS "attempt!",
              j.max_attempts::int4 AS "max_attempts!", j.priority::int4 AS "priority!",
              COALESCE(j.attempted_by, '{}') AS "attempted_by!",
              j.inserted_at AT TIME ZONE 'UTC' AS "inserted_at!", j.scheduled_at AT TIME ZONE 'UTC' AS "scheduled_at!",
              j.attempted_at AT TIME ZONE 'UTC' AS attempted_at, j.completed_at AT TIME ZONE 'UTC' AS completed_at,
              j.discarded_at AT TIME ZONE 'UTC' AS discarded_at, j.cancelled_at AT TIME ZONE 'UTC' AS cancelled_at "#
            $($rest)*)
    };
}
pub(super) use with_columns;

macro_rules! text {
    ($columns:literal) => {
        $columns
    };
}

/// The columns of [`JobRow`], of alias `j`.
pub(super) const COLUMNS: &str = with_columns!(text);

macro_rules! checked {
    ($columns:literal $before:literal, $after:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!($crate::queue::engine::row::JobRow, $before + $columns + $after $(, $argument)*)
    };
}
pub(super) use checked;

/// A checked query that returns whole jobs: `job_query!(before, after, arguments...)` puts the columns of alias `j`
/// between two pieces of text.
macro_rules! job_query {
    ($($given:tt)*) => {{
        use $crate::queue::engine::row::{checked, with_columns};
        with_columns!(checked $($given)*)
    }};
}
pub(super) use job_query;
