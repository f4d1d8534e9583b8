//! Checkpoints inside of a step.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use super::{Owner, Store};
use crate::postgres::DbError;

/// A checkpoint inside of a step, on its way to the database.
#[derive(Debug, Clone)]
pub struct Part {
    /// Position of the step and places inside of it, `2.17`.
    pub path: String,
    /// The same for people, `answer[17]`.
    pub step: String,
    /// Its result.
    pub output: Value,
    /// What it cost, where that is known.
    pub cost_nanousd: Option<i64>,
    /// How long it took.
    pub duration_ms: i64,
}

/// What is stored of a part: result and cost.
pub(in crate::workflow) type KeptPart = (Value, Option<i64>);

impl Store {
    /// Stores parts; `false` when the attempt no longer owns the job and nothing was stored. One that is stored already
    /// stays as it is.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn save_parts(&self, owner: &Owner, run_id: Uuid, parts: &[Part]) -> Result<bool, DbError> {
        let column = |of: fn(&Part) -> &String| -> Vec<String> { parts.iter().map(|part| of(part).clone()).collect() };
        let outputs: Vec<Value> = parts.iter().map(|part| part.output.clone()).collect();
        let durations_ms: Vec<i64> = parts.iter().map(|part| part.duration_ms).collect();
        let costs: Vec<Option<i64>> = parts.iter().map(|part| part.cost_nanousd).collect();
        let owned = sqlx::query_scalar!(
            r#"WITH owner AS (
                 SELECT id FROM oban_jobs
                 WHERE id = $1 AND state = 'executing' AND attempt = $2 AND attempted_by[2] = $3 FOR NO KEY UPDATE
               ), stored AS (
                 INSERT INTO workflow_parts (run_id, path, step, attempt, output, cost_nanousd, instance_id, duration_ms)
                 SELECT $4, d.path, d.step, $2, d.output, d.cost, $5, d.duration_ms
                 FROM owner, unnest($6::text[], $7::text[], $8::jsonb[], $9::bigint[], $10::bigint[])
                   AS d (path, step, output, cost, duration_ms)
                 ON CONFLICT (run_id, path) DO NOTHING
               )
               SELECT EXISTS (SELECT FROM owner) AS "owned!""#,
            owner.job_id,
            owner.attempt,
            owner.producer,
            run_id,
            owner.instance_id,
            &column(|part| &part.path),
            &column(|part| &part.step),
            &outputs,
            costs.as_slice() as &[Option<i64>],
            &durations_ms,
        )
        .fetch_one(&self.db)
        .await?;
        Ok(owned)
    }

    /// What is stored inside of the step at `position`, by path.
    pub(in crate::workflow) async fn parts(
        &self,
        run_id: Uuid,
        position: &str,
    ) -> Result<HashMap<String, KeptPart>, DbError> {
        let rows = sqlx::query!(
            "SELECT path, output, cost_nanousd FROM workflow_parts WHERE run_id = $1 AND starts_with(path, $2)",
            run_id,
            format!("{position}."),
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows.into_iter().map(|row| (row.path, (row.output, row.cost_nanousd))).collect())
    }
}
