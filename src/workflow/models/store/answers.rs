//! Statements on answers that are kept for the same request.

use std::time::Duration;

use serde_json::Value;

use crate::postgres::{Database, DbError};

/// Expired answers that one new answer clears away.
const CLEARED_MAX: i64 = 100;

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct Answers {
    db: Database,
}

impl Answers {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        Self { db }
    }

    /// The answer that is kept under `key`, unless it has expired.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn find(&self, key: &[u8]) -> Result<Option<Value>, DbError> {
        let answer =
            sqlx::query_scalar!("SELECT answer FROM cached_answers WHERE key = $1 AND expires_at > now()", key)
                .fetch_optional(&self.db)
                .await?;
        Ok(answer)
    }

    /// Keeps an answer for `period`. One that is kept already is replaced.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn keep(&self, key: &[u8], model: &str, answer: &Value, period: Duration) -> Result<(), DbError> {
        sqlx::query!(
            "WITH expired AS (
               DELETE FROM cached_answers WHERE key IN (
                 SELECT key FROM cached_answers WHERE expires_at <= now() AND key <> $1 LIMIT $5 FOR UPDATE SKIP LOCKED)
             )
             INSERT INTO cached_answers (key, model, answer, expires_at)
             VALUES ($1, $2, $3, now() + $4::float8 * interval '1 second')
             ON CONFLICT (key) DO UPDATE
             SET model = excluded.model, answer = excluded.answer, stored_at = now(), expires_at = excluded.expires_at",
            key,
            model,
            answer,
            period.as_secs_f64(),
            CLEARED_MAX,
        )
        .execute(&self.db)
        .await?;
        Ok(())
    }
}
