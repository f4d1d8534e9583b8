//! What an instance executes, as the table of jobs says it: also what one that died still holds.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::postgres::{Database, DbError};

/// Jobs of one listing. An instance that executes more is told with as many.
pub const HELD_JOBS_MAX: usize = 1_000;

/// One executing job. Field names are column names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldJob {
    /// Id of the job.
    pub id: i64,
    /// Queue that it was claimed from.
    pub queue: String,
    /// Worker that performs it.
    pub worker: String,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// Attempts that it has.
    pub max_attempts: i32,
    /// When it was claimed.
    pub attempted_at: Option<DateTime<Utc>>,
}

/// The jobs that `instance_id` executes, by id, at most [`HELD_JOBS_MAX`].
///
/// # Errors
/// [`DbError`].
pub async fn held_jobs(db: &Database, instance_id: &str) -> Result<Vec<HeldJob>, DbError> {
    let rows = sqlx::query_as!(
        HeldJob,
        r#"SELECT id AS "id!", queue AS "queue!", worker AS "worker!", attempt AS "attempt!",
                  max_attempts AS "max_attempts!",
                  CASE WHEN isfinite(attempted_at) THEN attempted_at AT TIME ZONE 'UTC' END AS attempted_at
           FROM oban_jobs WHERE state = 'executing' AND attempted_by[1] = $1 ORDER BY id LIMIT $2"#,
        instance_id,
        i64::try_from(HELD_JOBS_MAX).unwrap_or(i64::MAX),
    )
    .fetch_all(db)
    .await?;
    Ok(rows)
}
