//! A row of `oban_jobs` as the checked queries return it, and its way into [`Job`].
//!
//! Anybody may write the table, and PostgreSQL stores what we cannot read: numbers beyond a double, JSON that is nested
//! without end, arrays of arrays, infinite times. One such row must not keep those that were read with it from being
//! read, so columns that may hold it are read into [`Read`] and [`Moment`], which never fail.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::lenient::{Moment, Read};

use crate::postgres::DbError;
use crate::queue::job::Job;

/// Columns in a form that both row shapes (Oban for Elixir's and for Python's) have. Names with a mark are those of
/// the checked queries, which know by it that a column is never NULL, and by `: _` that its type is the field's.
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
    #[sqlx(rename = "args!: _")]
    pub(super) args: Read<Value>,
    #[sqlx(rename = "meta!: _")]
    pub(super) meta: Read<Value>,
    #[sqlx(rename = "tags!: _")]
    pub(super) tags: Read<Vec<Option<String>>>,
    #[sqlx(rename = "errors!: _")]
    pub(super) errors: Read<Value>,
    #[sqlx(rename = "attempt!")]
    pub(super) attempt: i32,
    #[sqlx(rename = "max_attempts!")]
    pub(super) max_attempts: i32,
    #[sqlx(rename = "priority!")]
    pub(super) priority: i32,
    #[sqlx(rename = "attempted_by!: _")]
    pub(super) attempted_by: Read<Vec<Option<String>>>,
    #[sqlx(rename = "inserted_at!: _")]
    pub(super) inserted_at: Moment,
    #[sqlx(rename = "scheduled_at!: _")]
    pub(super) scheduled_at: Moment,
    #[sqlx(rename = "attempted_at?: _")]
    pub(super) attempted_at: Option<Moment>,
    #[sqlx(rename = "completed_at?: _")]
    pub(super) completed_at: Option<Moment>,
    #[sqlx(rename = "discarded_at?: _")]
    pub(super) discarded_at: Option<Moment>,
    #[sqlx(rename = "cancelled_at?: _")]
    pub(super) cancelled_at: Option<Moment>,
}

impl TryFrom<JobRow> for Job {
    type Error = DbError;

    fn try_from(row: JobRow) -> Result<Self, Self::Error> {
        let mut unreadable = Vec::new();
        let errors = match row.errors.or_default("errors", &mut unreadable) {
            Value::Array(errors) => errors,
            Value::Null => Vec::new(),
            other => vec![other],
        };
        let args = row.args.or_default("args", &mut unreadable);
        let meta = row.meta.or_default("meta", &mut unreadable);
        let tags = row.tags.or_default("tags", &mut unreadable);
        let attempted_by = row.attempted_by.or_default("attempted_by", &mut unreadable);
        let time = |at: Option<Moment>| at.map(DateTime::<Utc>::from);
        Ok(Self {
            id: row.id,
            state: row.state.parse().map_err(|error: String| sqlx::Error::Decode(error.into()))?,
            queue: row.queue,
            worker: row.worker,
            args,
            meta,
            tags: tags.into_iter().flatten().collect(),
            errors,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            priority: row.priority,
            attempted_by: attempted_by.into_iter().flatten().collect(),
            inserted_at: row.inserted_at.into(),
            scheduled_at: row.scheduled_at.into(),
            attempted_at: time(row.attempted_at),
            completed_at: time(row.completed_at),
            discarded_at: time(row.discarded_at),
            cancelled_at: time(row.cancelled_at),
            unreadable: (!unreadable.is_empty()).then(|| unreadable.join("; ")),
        })
    }
}

/// Calls a macro with the columns of [`JobRow`], of alias `j`, before what it is given: checked queries and statements
/// that are put together share one text.
macro_rules! with_columns {
    ($then:ident $($rest:tt)*) => {
        $then!(r#" j.id AS "id!", j.state::text AS "state!", j.queue AS "queue!", j.worker AS "worker!", j.args AS "args!: _",
              COALESCE(j.meta, '{}') AS "meta!: _",
              COALESCE(j.tags, '{}') AS "tags!: _", to_jsonb(j.errors) AS "errors!: _", j.attempt::int4 AS "attempt!",
              j.max_attempts::int4 AS "max_attempts!", j.priority::int4 AS "priority!",
              COALESCE(j.attempted_by, '{}') AS "attempted_by!: _",
              j.inserted_at AT TIME ZONE 'UTC' AS "inserted_at!: _", j.scheduled_at AT TIME ZONE 'UTC' AS "scheduled_at!: _",
              j.attempted_at AT TIME ZONE 'UTC' AS "attempted_at?: _", j.completed_at AT TIME ZONE 'UTC' AS "completed_at?: _",
              j.discarded_at AT TIME ZONE 'UTC' AS "discarded_at?: _", j.cancelled_at AT TIME ZONE 'UTC' AS "cancelled_at?: _" "#
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
