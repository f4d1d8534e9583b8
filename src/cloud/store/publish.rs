//! The log of learnings: a number, a row and a message to every instance, all or nothing.
//!
//! Numbers have no gaps, because whoever publishes holds the learner's lock until its transaction ends. A queue that
//! somebody drops while a message is sent to it fails the sender (SQLSTATE 42P01); whoever drops by our rules takes
//! the lock that publishers share, against others the whole transaction is repeated.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use super::sync::lock_for_publishing;
use crate::cloud::central::learner::Draft;
use crate::cloud::learning::{Learning, SCHEMA_VERSION};
use crate::cloud::names::Names;
use crate::postgres::DbError;

/// Appends a learning to the log and sends it to the queues of all instances, within the transaction of `connection`,
/// which holds the learner's lock.
///
/// # Errors
/// [`DbError`]; the transaction is to be rolled back then.
pub(super) async fn publish(
    connection: &mut PgConnection,
    names: &Names,
    draft: &Draft,
    now: DateTime<Utc>,
) -> Result<i64, DbError> {
    lock_for_publishing(&mut *connection).await?;
    let id = sqlx::query_scalar!(r#"SELECT coalesce(max(id), 0) + 1 AS "id!" FROM learnings"#)
        .fetch_one(&mut *connection)
        .await?;
    let mut learning = Learning::new(id, &draft.payload, &*draft.summary, now);
    learning.evidence = draft.evidence.clone();
    learning.rolls_back = draft.rolls_back;
    learning.expires_at = chrono::TimeDelta::from_std(draft.lifetime).ok().map(|lifetime| now + lifetime);
    sqlx::query!(
        "INSERT INTO learnings (id, type, key, schema_version, summary, payload, evidence, rolls_back, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        id,
        learning.kind,
        learning.key,
        SCHEMA_VERSION,
        learning.summary,
        learning.payload,
        learning.evidence,
        learning.rolls_back,
        learning.created_at,
        learning.expires_at,
    )
    .execute(&mut *connection)
    .await?;
    let message = serde_json::to_value(&learning).unwrap_or(Value::Null);
    sqlx::query("SELECT pgmq.send_topic($1::text, $2::jsonb)")
        .bind(names.topic(&learning.kind))
        .bind(message)
        .execute(connection)
        .await?;
    Ok(id)
}
