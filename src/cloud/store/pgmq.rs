//! pgmq's queues: messages sent, read, and put aside.
//!
//! Statements are not checked at compile time, because pgmq's functions come with its own installation. All take an
//! executor, so that they run in the transaction of whoever calls. Every argument is cast: pgmq's functions have many
//! forms of the same name.
//!
//! A message is read outside of the transaction that does its work, so that the number of reads counts also when the
//! work fails; the work's transaction ends with [`delete`], and is rolled back where that did not delete everything:
//! then another reader has done the work.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};

use crate::cloud::names::Names;
use crate::postgres::{Database, DbError, Transaction};

/// Longest reason that is kept with a dead letter, in characters.
const REASON_CHARS_MAX: usize = 500;

/// Statements that put a message aside: a queue is looked for and made, a copy sent, the original archived.
const BURY_STATEMENTS: u32 = 4;

/// Header of a dead letter: its number in the queue that it was in.
pub(super) const HEADER_MSG_ID: &str = "msg_id";
/// Header of a dead letter: how often it was read before.
pub(super) const HEADER_READ_CT: &str = "read_ct";
/// Header of a dead letter: why nobody could use it.
pub(super) const HEADER_REASON: &str = "reason";

/// One message of a queue.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Message {
    /// Its number within the queue.
    pub msg_id: i64,
    /// How often it was read, this time included.
    pub read_ct: i32,
    /// When it was sent.
    pub enqueued_at: DateTime<Utc>,
    /// Its JSON as text, so that numbers of any size survive; `None` where somebody sent SQL's NULL.
    pub body: Option<String>,
    /// What was sent beside it.
    pub headers: Option<Value>,
}

/// Makes a queue that is not there yet. Idempotent, also by many at once.
///
/// # Errors
/// [`DbError`].
pub async fn create(connection: &mut PgConnection, queue: &str) -> Result<(), DbError> {
    if !exists(&mut *connection, queue).await? {
        sqlx::query("SELECT pgmq.create($1::text)").bind(queue).execute(connection).await?;
    }
    Ok(())
}

/// Whether there is such a queue.
///
/// # Errors
/// [`DbError`].
pub async fn exists<'e>(executor: impl PgExecutor<'e>, queue: &str) -> Result<bool, DbError> {
    let found = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pgmq.meta WHERE queue_name = $1)");
    Ok(found.bind(queue).fetch_one(executor).await?)
}

/// Sends one message to a queue that exists. `body` is JSON.
///
/// # Errors
/// [`DbError`].
pub async fn send<'e>(executor: impl PgExecutor<'e>, queue: &str, body: &str, headers: &Value) -> Result<i64, DbError> {
    let sent = sqlx::query_scalar("SELECT * FROM pgmq.send($1::text, $2::text::jsonb, $3::jsonb)");
    Ok(sent.bind(queue).bind(body).bind(headers).fetch_one(executor).await?)
}

/// Sends several messages to a queue that exists, each with its headers. No bodies are no statement.
///
/// # Errors
/// [`DbError`].
pub async fn send_batch<'e>(
    executor: impl PgExecutor<'e>,
    queue: &str,
    bodies: &[String],
    headers: &[Value],
) -> Result<(), DbError> {
    if bodies.is_empty() {
        return Ok(());
    }
    let sent = sqlx::query("SELECT pgmq.send_batch($1::text, $2::text[]::jsonb[], $3::jsonb[])");
    sent.bind(queue).bind(bodies).bind(headers).execute(executor).await?;
    Ok(())
}

/// Takes up to `max` messages in order of their numbers; others do not see them for `hidden`.
///
/// # Errors
/// [`DbError`].
pub async fn read<'e>(
    executor: impl PgExecutor<'e>,
    queue: &str,
    hidden: Duration,
    max: i32,
) -> Result<Vec<Message>, DbError> {
    let read = sqlx::query_as(
        "SELECT msg_id, read_ct, enqueued_at, message::text AS body, headers
         FROM pgmq.read($1::text, $2::int, $3::int) ORDER BY msg_id",
    );
    Ok(read.bind(queue).bind(seconds(hidden)).bind(max).fetch_all(executor).await?)
}

/// Deletes messages; returns how many of them were there.
///
/// # Errors
/// [`DbError`].
pub async fn delete<'e>(executor: impl PgExecutor<'e>, queue: &str, ids: &[i64]) -> Result<usize, DbError> {
    let deleted = sqlx::query("SELECT pgmq.delete($1::text, $2::bigint[])");
    Ok(deleted.bind(queue).bind(ids).fetch_all(executor).await?.len())
}

/// Puts a message that nobody can use aside, with the reason: a copy into the queue's dead letters, the original into
/// its archive. `false` when another reader was faster; then nothing was changed.
///
/// # Errors
/// [`DbError`].
pub async fn put_aside(db: &Database, queue: &str, message: &Message, reason: &str) -> Result<bool, DbError> {
    let burying = async |mut transaction: Transaction<'_>| -> Result<_, DbError> {
        let buried = bury(&mut transaction, queue, message, reason).await?;
        if buried {
            transaction.commit().await?;
        }
        Ok(buried)
    };
    db.transaction(BURY_STATEMENTS, burying).await
}

/// `false` when another reader was faster; then the transaction is to be rolled back.
async fn bury(transaction: &mut PgConnection, queue: &str, message: &Message, reason: &str) -> Result<bool, DbError> {
    let dead = Names::dead_letters(queue);
    create(&mut *transaction, &dead).await?;
    let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
    let headers = serde_json::json!({
        "origin": queue,
        HEADER_MSG_ID: message.msg_id,
        HEADER_READ_CT: message.read_ct,
        HEADER_REASON: reason,
        "headers": message.headers,
    });
    sqlx::query("SELECT pgmq.send($1::text, $2::text::jsonb, $3::jsonb)")
        .bind(&dead)
        .bind(message.body.as_deref())
        .bind(headers)
        .execute(&mut *transaction)
        .await?;
    let archived = sqlx::query_scalar("SELECT pgmq.archive($1::text, $2::bigint)");
    Ok(archived.bind(queue).bind(message.msg_id).fetch_one(transaction).await?)
}

/// Whole seconds, as pgmq counts.
pub(super) fn seconds(period: Duration) -> i32 {
    i32::try_from(period.as_secs()).unwrap_or(i32::MAX)
}
