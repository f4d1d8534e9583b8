//! The asking side of control requests: puts a question to a live instance into the database and waits for the answer.

use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::control::CONTROL_CHANNEL;
use super::error::InstanceError;
use crate::postgres::Database;

/// How often a client looks for its answer.
const CLIENT_POLL: Duration = Duration::from_millis(50);

/// Asks `instance_id` and waits for its answer.
///
/// Cancel safety: the question stays in the table and may still be answered. A question may be asked again; whether an
/// order may, its receiver knows.
///
/// # Errors
/// After `limit`: [`InstanceError::NoAnswer`] when the instance did not take the question and now will not, and
/// [`InstanceError::Unfinished`] when it did and works on it. [`InstanceError::Db`].
pub async fn ask(
    db: &Database,
    instance_id: &str,
    action: &str,
    body: &Value,
    requested_by: &str,
    limit: Duration,
) -> Result<Value, InstanceError> {
    let id = Uuid::now_v7();
    sqlx::query!(
        "WITH asked AS (
           INSERT INTO control_requests (id, instance_id, action, body, requested_by) VALUES ($1, $2, $3, $4, $5) RETURNING instance_id
         )
         SELECT pg_notify($6, json_build_object('instance', instance_id)::text) FROM asked",
        id,
        instance_id,
        action,
        body,
        requested_by,
        db.channel(CONTROL_CHANNEL),
    )
    .fetch_one(db)
    .await?;
    let answered = async {
        loop {
            if let Some(answer) = answer(db, id).await? {
                return Ok::<_, InstanceError>(answer);
            }
            tokio::time::sleep(CLIENT_POLL).await;
        }
    };
    match tokio::time::timeout(limit, answered).await {
        Ok(answer) => answer,
        Err(_) => given_up(db, id, instance_id, limit).await,
    }
}

async fn answer(db: &Database, id: Uuid) -> Result<Option<Value>, InstanceError> {
    let answer =
        sqlx::query_scalar!("SELECT answer FROM control_requests WHERE id = $1 AND answered_at IS NOT NULL", id)
            .fetch_optional(db)
            .await?;
    Ok(answer.map(|answer| answer.unwrap_or(Value::Null)))
}

/// Withdraws a question that nobody took, so that it is not carried out after its sender gave up.
async fn given_up(db: &Database, id: Uuid, instance_id: &str, limit: Duration) -> Result<Value, InstanceError> {
    let withdrawn = sqlx::query_scalar!(
        "UPDATE control_requests SET taken_at = clock_timestamp()
         WHERE id = $1 AND taken_at IS NULL AND answered_at IS NULL RETURNING id",
        id
    )
    .fetch_optional(db)
    .await?;
    let (instance_id, limit_ms) = (instance_id.to_owned(), limit.as_millis());
    if withdrawn.is_some() {
        return Err(InstanceError::NoAnswer { instance_id, limit_ms });
    }
    // Taken; perhaps even answered in this moment.
    answer(db, id).await?.ok_or(InstanceError::Unfinished { instance_id, limit_ms })
}
