//! Statements on what calls leave at their job: failed ones that were followed by others, and why the job waits.
//!
//! Each is guarded like every write of an attempt: it changes nothing when the attempt no longer owns the job.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::postgres::{Database, DbError};
use crate::workflow::result::{Attempted, JobResult};
use crate::workflow::store::Owner;

/// A call that failed and was not the last of its attempt.
#[derive(Debug, Clone)]
pub(in crate::workflow::models) struct FailedCall<'a> {
    /// `job_results.job_type`.
    pub(in crate::workflow::models) job_type: &'a str,
    /// `job_results.workflow_type`.
    pub(in crate::workflow::models) workflow_type: &'a str,
    /// Everything else.
    pub(in crate::workflow::models) result: JobResult,
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub(in crate::workflow::models) struct Calls {
    db: Database,
}

impl Calls {
    pub(in crate::workflow::models) fn new(db: Database) -> Self {
        Self { db }
    }

    /// Stores a failed call as a row of its own. Repeating it changes nothing.
    pub(in crate::workflow::models) async fn failed(
        &self,
        owner: &Owner,
        call: &FailedCall<'_>,
    ) -> Result<(), DbError> {
        let result = &call.result;
        sqlx::query!(
            "INSERT INTO job_results
               (job_id, attempt, instance_id, job_type, workflow_type, duration_ms, started_at, request_id, success,
                error_reason, cost_nanousd, prices_version, provider, model_used, simulated, tokens_input, tokens_output,
                time_to_first_token_ms, input_summary, result_summary, route, policy_version, propensity, outcome, hop)
             SELECT j.id, $2, $4, $5, $6, $7, now() - $7::bigint * interval '1 millisecond', $8, false, $9, $10, $11, $12,
                    $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24
             FROM oban_jobs j
             WHERE j.id = $1 AND j.state = 'executing' AND j.attempt = $2 AND j.attempted_by[2] = $3
             FOR NO KEY UPDATE
             ON CONFLICT DO NOTHING",
            owner.job_id,
            owner.attempt,
            owner.producer,
            owner.instance_id,
            call.job_type,
            call.workflow_type,
            result.call_ms.unwrap_or_default(),
            result.request_id,
            result.error_reason,
            result.cost_nanousd,
            result.prices_version,
            result.provider,
            result.model_used,
            result.simulated,
            result.tokens_input,
            result.tokens_output,
            result.time_to_first_token_ms,
            result.input_summary,
            result.result_summary,
            result.route,
            result.policy_version,
            result.propensity,
            result.outcome.map(Attempted::as_str),
            result.hop,
        )
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Writes into the job's `meta` why it waits and until when, for people who look at it.
    pub(in crate::workflow::models) async fn park(
        &self,
        owner: &Owner,
        reason: &str,
        until: DateTime<Utc>,
    ) -> Result<(), DbError> {
        let waiting: Value = json!({ "waiting": { "reason": reason, "until": until } });
        sqlx::query!(
            "UPDATE oban_jobs j SET meta = COALESCE(j.meta, '{}') || $4::jsonb
             WHERE j.id = $1 AND j.state = 'executing' AND j.attempt = $2 AND j.attempted_by[2] = $3",
            owner.job_id,
            owner.attempt,
            owner.producer,
            waiting,
        )
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Takes this reason away again: the job goes on. Another one, which was written since, stays.
    pub(in crate::workflow::models) async fn unpark(&self, owner: &Owner, waiting: &Value) -> Result<(), DbError> {
        sqlx::query!(
            "UPDATE oban_jobs j SET meta = j.meta - 'waiting'
             WHERE j.id = $1 AND j.state = 'executing' AND j.attempt = $2 AND j.attempted_by[2] = $3
               AND j.meta->'waiting' = $4",
            owner.job_id,
            owner.attempt,
            owner.producer,
            waiting,
        )
        .execute(&self.db)
        .await?;
        Ok(())
    }
}
