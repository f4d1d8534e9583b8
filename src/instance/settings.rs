//! Every statement on `instance_settings`: what operators want to outlive restarts, for the fleet or for one instance.
//!
//! The database's clock decides what has expired. What a key means is the business of whoever reads it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::postgres::{Database, DbError};

/// Settings in one statement.
const SETTINGS_MAX: usize = 1_000;
/// Longest reason that is kept, in characters.
pub const REASON_CHARS_MAX: usize = 1_000;

/// One setting, as listings show it. Field names are column names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// `fleet` or `instance`.
    pub scope: String,
    /// The instance; empty for the fleet.
    pub instance_id: String,
    /// A dotted key of the configuration.
    pub key: String,
    /// What it is set to.
    pub value: Value,
    /// Who set it.
    pub author: String,
    /// The reason that was given.
    pub reason: Option<String>,
    /// When it was set.
    pub set_at: DateTime<Utc>,
    /// When it ceases to hold.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Who sets something, why, and for how long.
#[derive(Debug, Clone)]
pub struct Authorship<'a> {
    /// Who.
    pub author: &'a str,
    /// Why; at most [`REASON_CHARS_MAX`] characters are kept.
    pub reason: Option<&'a str>,
    /// For how long; `None` is for good.
    pub lasts: Option<Duration>,
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct Settings {
    db: Database,
}

impl Settings {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        Self { db }
    }

    /// Sets keys for one instance, or for all. What is set for all takes the place of what single instances had for the
    /// same keys: the last word counts.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn keep(
        &self,
        instance_id: Option<&str>,
        values: &[(String, Value)],
        by: &Authorship<'_>,
    ) -> Result<(), DbError> {
        let scope = if instance_id.is_some() { "instance" } else { "fleet" };
        let values = &values[..values.len().min(SETTINGS_MAX)];
        let keys: Vec<String> = values.iter().map(|(key, _)| key.clone()).collect();
        let texts: Vec<Value> = values.iter().map(|(_, value)| value.clone()).collect();
        let reason: Option<String> = by.reason.map(|reason| reason.chars().take(REASON_CHARS_MAX).collect());
        let lasts_ms = by.lasts.map(|lasts| i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX));
        sqlx::query!(
            "WITH replaced AS (
               DELETE FROM instance_settings WHERE scope = 'instance' AND $1 = 'fleet' AND key = ANY($3)
             )
             INSERT INTO instance_settings (scope, instance_id, key, value, author, reason, expires_at)
             SELECT $1, $2, n.key, n.value, $5, $6, now() + $7::bigint * interval '1 millisecond'
             FROM unnest($3::text[], $4::jsonb[]) AS n (key, value)
             ON CONFLICT (scope, instance_id, key) DO UPDATE SET
               value = excluded.value, author = excluded.author, reason = excluded.reason, set_at = now(),
               expires_at = excluded.expires_at",
            scope,
            instance_id.unwrap_or_default(),
            &keys,
            &texts,
            by.author,
            reason,
            lasts_ms,
        )
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Forgets what is set for these keys: of one instance, or of the fleet and of every instance. Returns how many
    /// settings there were.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn forget(&self, instance_id: Option<&str>, keys: &[String]) -> Result<u64, DbError> {
        let gone = sqlx::query!(
            "DELETE FROM instance_settings WHERE key = ANY($2) AND ($1::text IS NULL OR instance_id = $1)",
            instance_id,
            keys,
        )
        .execute(&self.db)
        .await?;
        Ok(gone.rows_affected())
    }

    /// What holds now: everything, or what one instance goes by. That of the fleet comes first, so that the later of
    /// two for one key counts.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn in_force(&self, instance_id: Option<&str>) -> Result<Vec<Setting>, DbError> {
        let rows = sqlx::query_as!(
            Setting,
            "SELECT scope, instance_id, key, value, author, reason, set_at, expires_at FROM instance_settings
             WHERE (expires_at IS NULL OR expires_at > now())
               AND ($1::text IS NULL OR scope = 'fleet' OR instance_id = $1)
             ORDER BY scope, instance_id, key",
            instance_id,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }
}
