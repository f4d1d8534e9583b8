//! Every statement by which people look at learnings and decide about them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::types::Json;

use crate::cloud::learning::Learning;
use crate::cloud::sync::{State, decision_key};
use crate::postgres::{Database, DbError, Transaction};

use super::sync::LogRow;

/// Learnings in one listing.
pub const LEARNINGS_LISTED_MAX: i64 = 1_000;

/// Statements of the transaction that decides about a learning: for instances to come, and for those that have it.
const DECIDE_STATEMENTS: u32 = 2;

/// A learning, and how many instances made what of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed {
    /// The learning as it is in the log.
    #[serde(flatten)]
    pub learning: Learning,
    /// State → instances. One that has not seen it counts nowhere.
    pub states: BTreeMap<String, i64>,
}

/// What one instance made of a learning. Field names are column names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Application {
    /// The instance.
    pub instance_id: String,
    /// What it made of it: a word of [`State`].
    pub state: String,
    /// Who decided so.
    pub decided_by: String,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub decided_at: DateTime<Utc>,
    /// A later learning of the same type and key that the instance applied, which holds instead.
    pub replaced_by: Option<i64>,
}

/// What a person's decision came to on one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// The instance.
    pub instance_id: String,
    /// Its state before.
    pub before: String,
    /// Its state now.
    pub state: String,
    /// A later learning of the same type and key that holds there, so that the decision has no effect on it.
    pub replaced_by: Option<i64>,
}

/// Who decides, and why.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// Who.
    pub author: &'a str,
    /// Why.
    pub reason: Option<&'a str>,
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct LearningStore {
    db: Database,
}

impl LearningStore {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        Self { db }
    }

    /// The latest learnings, of one type or of all, the latest first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn list(&self, kind: Option<&str>, limit: i64) -> Result<Vec<Listed>, DbError> {
        let rows = sqlx::query!(
            r#"SELECT l.id, l.type AS kind, l.key, l.schema_version, l.summary, l.payload, l.evidence, l.rolls_back,
                      l.created_at, l.expires_at,
                      (SELECT coalesce(jsonb_object_agg(s.state, s.instances), '{}') FROM (
                         SELECT state, count(*) AS instances FROM learning_applications a
                         WHERE a.learning_id = l.id GROUP BY state
                       ) s) AS "states!: Json<BTreeMap<String, i64>>"
               FROM learnings l WHERE $1::text IS NULL OR l.type = $1 ORDER BY l.id DESC LIMIT $2"#,
            kind,
            limit.clamp(0, LEARNINGS_LISTED_MAX),
        )
        .fetch_all(&self.db)
        .await?;
        let listed = rows.into_iter().map(|row| Listed {
            states: row.states.0,
            learning: Learning::from(LogRow {
                id: row.id,
                kind: row.kind,
                key: row.key,
                schema_version: row.schema_version,
                summary: row.summary,
                payload: row.payload,
                evidence: row.evidence,
                rolls_back: row.rolls_back,
                created_at: row.created_at,
                expires_at: row.expires_at,
            }),
        });
        Ok(listed.collect())
    }

    /// One learning.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn get(&self, id: i64) -> Result<Option<Learning>, DbError> {
        let row = sqlx::query_as!(
            LogRow,
            "SELECT id, type AS kind, key, schema_version, summary, payload, evidence, rolls_back, created_at, expires_at
             FROM learnings WHERE id = $1",
            id,
        )
        .fetch_optional(&self.db)
        .await?;
        Ok(row.map(Learning::from))
    }

    /// What each instance that has seen the learning made of it.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn applications(&self, id: i64) -> Result<Vec<Application>, DbError> {
        let rows = sqlx::query_as!(
            Application,
            r#"SELECT a.instance_id, a.state, a.decided_by, a.reason, a.decided_at,
                      (SELECT max(later.id) FROM learnings l
                       JOIN learnings later ON later.type = l.type AND later.key = l.key AND later.id > l.id
                       JOIN learning_applications b
                         ON b.learning_id = later.id AND b.instance_id = a.instance_id AND b.state = 'applied'
                       WHERE l.id = a.learning_id) AS replaced_by
               FROM learning_applications a WHERE a.learning_id = $1 ORDER BY a.instance_id"#,
            id,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }

    /// Lets a learning hold (`apply`) or not, on one instance or on all, also on those that see it later. Only where it
    /// can be read and had not expired: elsewhere the state stays. Returns what it came to where it has been seen.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn decide(
        &self,
        id: i64,
        instance_id: Option<&str>,
        apply: bool,
        by: By<'_>,
    ) -> Result<Vec<Decided>, DbError> {
        let state = if apply { State::Applied } else { State::Rejected };
        let deciding = async |mut transaction: Transaction<'_>| -> Result<_, DbError> {
            // For instances that have not seen it yet.
            sqlx::query!(
                "WITH replaced AS (
                   DELETE FROM instance_settings WHERE key = $3 AND scope = 'instance' AND $1 = ''
                 )
                 INSERT INTO instance_settings (scope, instance_id, key, value, author, reason)
                 VALUES (CASE $1 WHEN '' THEN 'fleet' ELSE 'instance' END, $1, $3, to_jsonb($2::text), $4, $5)
                 ON CONFLICT (scope, instance_id, key) DO UPDATE SET
                   value = excluded.value, author = excluded.author, reason = excluded.reason, set_at = now(), expires_at = NULL",
                instance_id.unwrap_or_default(),
                state.as_str(),
                decision_key(id),
                by.author,
                by.reason,
            )
            .execute(&mut *transaction)
            .await?;
            let decided = sqlx::query_as!(
                Decided,
                r#"WITH seen AS (
                     SELECT instance_id, state FROM learning_applications
                     WHERE learning_id = $1 AND ($2::text IS NULL OR instance_id = $2) FOR UPDATE
                   ), changed AS (
                     UPDATE learning_applications a
                     SET state = $3, decided_by = $4, reason = $5, decided_at = clock_timestamp()
                     FROM seen
                     WHERE a.learning_id = $1 AND a.instance_id = seen.instance_id
                       AND a.state IN ('applied', 'proposed', 'rejected') AND a.state <> $3
                     RETURNING a.instance_id, a.state
                   )
                   SELECT seen.instance_id, seen.state AS before, coalesce(changed.state, seen.state) AS "state!",
                          (SELECT max(later.id) FROM learnings l
                           JOIN learnings later ON later.type = l.type AND later.key = l.key AND later.id > l.id
                           JOIN learning_applications b
                             ON b.learning_id = later.id AND b.instance_id = seen.instance_id AND b.state = 'applied'
                           WHERE l.id = $1) AS replaced_by
                   FROM seen LEFT JOIN changed USING (instance_id) ORDER BY seen.instance_id"#,
                id,
                instance_id,
                state.as_str(),
                by.author,
                by.reason,
            )
            .fetch_all(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(decided)
        };
        self.db.transaction(DECIDE_STATEMENTS, deciding).await
    }
}
