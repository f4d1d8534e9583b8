//! Every statement by which an instance follows the log of learnings: its place in the log, its queue, and what it made
//! of each learning.
//!
//! Invariants: a learning's row in `learning_applications` and the move of the cursor over it are one transaction; the
//! cursor only goes forward; a row is never written twice.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::cloud::learning::Learning;
use crate::cloud::names::Names;
use crate::cloud::sync::{Decision, Verdict, decision_key};
use crate::postgres::{Database, DbError, Transaction};

use super::pgmq;

/// Key of the lock that publishers share and that whoever drops a queue has alone: a queue that is dropped while a
/// message is sent to it fails the sender.
const PUBLISH_LOCK_KEY: i64 = 0x73696e_6c6561726e;

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct SyncStore {
    db: Database,
    names: Names,
}

/// How things stand for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The database's clock.
    pub now: DateTime<Utc>,
    /// The learning up to which it has looked; `None` where it has no place in the log.
    pub cursor: Option<i64>,
    /// Last moment at which anything was decided about its learnings.
    pub decided_at: Option<DateTime<Utc>>,
}

/// Statements of the transaction that gives an instance its queue: it is looked for and made, bound, the place in the
/// log.
const JOIN_STATEMENTS: u32 = 4;
/// Statements of the transaction that judges a learning: it is read, what was decided of it, the time, the verdict.
const ADVANCE_STATEMENTS: u32 = 4;
/// Statements of the transaction that takes an instance's place away: a lock, two queues looked for and dropped, the
/// place in the log.
const LEAVE_STATEMENTS: u32 = 6;

/// Waits until nobody drops a queue, and keeps everybody from it until the transaction ends.
///
/// # Errors
/// [`DbError`].
pub async fn lock_for_publishing(transaction: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!("SELECT pg_advisory_xact_lock_shared($1)", PUBLISH_LOCK_KEY).execute(transaction).await?;
    Ok(())
}

impl SyncStore {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        let names = Names::new(db.schema());
        Self { db, names }
    }

    /// Gives an instance its queue, bound to everything that is published, and its place in the log, which it keeps if
    /// it has one. Idempotent.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn join(&self, instance_id: &str) -> Result<String, DbError> {
        let queue = self.names.learning(instance_id);
        let joining = async |mut transaction: Transaction<'_>| -> Result<_, DbError> {
            pgmq::create(&mut transaction, &queue).await?;
            sqlx::query("SELECT pgmq.bind_topic($1::text, $2::text)")
                .bind(self.names.topics())
                .bind(&queue)
                .execute(&mut *transaction)
                .await?;
            sqlx::query!(
                "INSERT INTO learning_cursors AS c (instance_id, queue) VALUES ($1, $2)
                 ON CONFLICT (instance_id) DO UPDATE SET queue = excluded.queue",
                instance_id,
                queue,
            )
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(queue)
        };
        self.db.transaction(JOIN_STATEMENTS, joining).await
    }

    /// How things stand.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn standing(&self, instance_id: &str) -> Result<Standing, DbError> {
        let standing = sqlx::query_as!(
            Standing,
            r#"SELECT now() AS "now!",
                      (SELECT learning_id FROM learning_cursors WHERE instance_id = $1) AS cursor,
                      (SELECT max(decided_at) FROM learning_applications WHERE instance_id = $1) AS decided_at"#,
            instance_id,
        )
        .fetch_one(&self.db)
        .await?;
        Ok(standing)
    }

    /// Judges the first learning behind the instance's cursor, stores the verdict and moves the cursor over it, all or
    /// nothing. `None` when there is none, or the instance has no place in the log.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn advance(
        &self,
        instance_id: &str,
        judge: impl FnOnce(&Learning, Option<&Decision>, DateTime<Utc>) -> Verdict + Send,
    ) -> Result<Option<(Learning, Verdict)>, DbError> {
        let advancing = async |mut transaction: Transaction<'_>| -> Result<_, DbError> {
            let row = sqlx::query_as!(
                LogRow,
                r#"SELECT l.id, l.type AS kind, l.key, l.schema_version, l.summary, l.payload, l.evidence, l.rolls_back,
                          l.created_at, l.expires_at
                   FROM learning_cursors c, LATERAL (
                     SELECT * FROM learnings WHERE id > c.learning_id ORDER BY id LIMIT 1
                   ) l
                   WHERE c.instance_id = $1 FOR UPDATE OF c"#,
                instance_id,
            )
            .fetch_optional(&mut *transaction)
            .await?;
            let Some(learning) = row.map(Learning::from) else { return Ok(None) };
            let decision = sqlx::query_as!(
                Decision,
                "SELECT value, author, reason FROM instance_settings
                 WHERE key = $2 AND (scope = 'fleet' OR instance_id = $1) AND (expires_at IS NULL OR expires_at > now())
                 ORDER BY scope DESC LIMIT 1",
                instance_id,
                decision_key(learning.id),
            )
            .fetch_optional(&mut *transaction)
            .await?;
            let now = sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(&mut *transaction).await?;
            let verdict = judge(&learning, decision.as_ref(), now);
            sqlx::query!(
                "WITH moved AS (
                   UPDATE learning_cursors SET learning_id = $2, synced_at = now() WHERE instance_id = $1 AND learning_id < $2
                 )
                 INSERT INTO learning_applications (instance_id, learning_id, state, decided_by, reason, decided_at)
                 VALUES ($1, $2, $3, $4, $5, clock_timestamp())
                 ON CONFLICT (instance_id, learning_id) DO NOTHING",
                instance_id,
                learning.id,
                verdict.state.as_str(),
                verdict.decided_by,
                verdict.reason,
            )
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(Some((learning, verdict)))
        };
        self.db.transaction(ADVANCE_STATEMENTS, advancing).await
    }

    /// Of each type and key the latest learning that the instance applied.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn applied(&self, instance_id: &str) -> Result<Vec<Learning>, DbError> {
        let rows = sqlx::query_as!(
            LogRow,
            r#"SELECT DISTINCT ON (l.type, l.key) l.id, l.type AS kind, l.key, l.schema_version, l.summary, l.payload,
                      l.evidence, l.rolls_back, l.created_at, l.expires_at
               FROM learning_applications a JOIN learnings l ON l.id = a.learning_id
               WHERE a.instance_id = $1 AND a.state = 'applied'
               ORDER BY l.type, l.key, l.id DESC"#,
            instance_id,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows.into_iter().map(Learning::from).collect())
    }

    /// Learnings that the instance did not know what to do with.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn unknown(&self, instance_id: &str) -> Result<Vec<Learning>, DbError> {
        let rows = sqlx::query_as!(
            LogRow,
            r#"SELECT l.id, l.type AS kind, l.key, l.schema_version, l.summary, l.payload, l.evidence, l.rolls_back,
                      l.created_at, l.expires_at
               FROM learning_applications a JOIN learnings l ON l.id = a.learning_id
               WHERE a.instance_id = $1 AND a.state = 'unknown' ORDER BY l.id"#,
            instance_id,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows.into_iter().map(Learning::from).collect())
    }

    /// Stores another verdict about a learning that was unknown.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn reconsider(&self, instance_id: &str, learning_id: i64, verdict: &Verdict) -> Result<(), DbError> {
        sqlx::query!(
            "UPDATE learning_applications SET state = $3, decided_by = $4, reason = $5, decided_at = clock_timestamp()
             WHERE instance_id = $1 AND learning_id = $2 AND state = 'unknown'",
            instance_id,
            learning_id,
            verdict.state.as_str(),
            verdict.decided_by,
            verdict.reason,
        )
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Takes everything that the fleet keeps for an instance that will not come back: its queue of learnings with its
    /// dead letters, and its place in the log. What it made of learnings stays. Publishing goes on meanwhile. `false`
    /// when there was nothing.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn leave(&self, instance_id: &str) -> Result<bool, DbError> {
        let queue = self.names.learning(instance_id);
        // First nobody sends to it any more; then, when all who still might have are done, it goes.
        sqlx::query("DELETE FROM pgmq.topic_bindings WHERE queue_name = $1").bind(&queue).execute(&self.db).await?;
        let leaving = async |mut transaction: Transaction<'_>| -> Result<_, DbError> {
            sqlx::query!("SELECT pg_advisory_xact_lock($1)", PUBLISH_LOCK_KEY).execute(&mut *transaction).await?;
            let mut found = false;
            for name in [Names::dead_letters(&queue), queue] {
                if pgmq::exists(&mut *transaction, &name).await? {
                    sqlx::query("SELECT pgmq.drop_queue($1::text)").bind(&name).execute(&mut *transaction).await?;
                    found = true;
                }
            }
            let gone = sqlx::query!("DELETE FROM learning_cursors WHERE instance_id = $1", instance_id)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(found || gone.rows_affected() > 0)
        };
        self.db.transaction(LEAVE_STATEMENTS, leaving).await
    }

    /// Instances with a place in the log that were not heard of for so long.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn long_gone(&self, after_ms: i64) -> Result<Vec<String>, DbError> {
        let ids = sqlx::query_scalar!(
            "SELECT c.instance_id FROM learning_cursors c LEFT JOIN instance_registry r USING (instance_id)
             WHERE greatest(r.last_heartbeat, c.synced_at) < now() - $1::bigint * interval '1 millisecond'
               AND coalesce(r.status, 'offline') = 'offline'",
            after_ms,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(ids)
    }
}

/// A row of the log.
pub(super) struct LogRow {
    pub(super) id: i64,
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) schema_version: i32,
    pub(super) summary: String,
    pub(super) payload: Value,
    pub(super) evidence: Value,
    pub(super) rolls_back: Option<i64>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) expires_at: Option<DateTime<Utc>>,
}

impl From<LogRow> for Learning {
    fn from(row: LogRow) -> Self {
        let mut learning = Self::from_row(row.id, &row.kind, &row.key, row.schema_version, row.payload, row.created_at);
        learning.summary = row.summary;
        learning.evidence = row.evidence;
        learning.rolls_back = row.rolls_back;
        learning.expires_at = row.expires_at;
        learning
    }
}
