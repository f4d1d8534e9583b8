//! What people look at: who reported how far, what waits in the queues, what CentralCloud has, and what nobody could
//! use.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow};

use super::pgmq;
use crate::cloud::names::Names;
use crate::postgres::{Database, DbError};

/// Results that are counted as not yet reported; more are shown as this many.
const UNREPORTED_MAX: i64 = 10_000;

/// Dead letters in one listing.
pub const LETTERS_MAX: u32 = 1_000;

/// How far an instance has reported. Field names are those of the document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reporter {
    /// The instance.
    pub instance_id: String,
    /// As in `instance list`; `None` of one that was forgotten.
    pub status: Option<String>,
    /// Reports so far.
    pub reports: i64,
    /// When the last one was made; before the first, since when the instance is known.
    pub reported_at: DateTime<Utc>,
    /// Results that are not reported, as far as they are counted.
    pub unreported: i64,
    /// Its queue, while there is one.
    pub queue: Option<String>,
}

/// A queue of pgmq.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct QueueRow {
    /// Its name.
    pub queue: String,
    /// Messages in it.
    pub messages: i64,
    /// Age of the oldest, in whole seconds.
    pub oldest_ms: Option<i64>,
    /// Messages of it that nobody could use.
    pub dead: i64,
}

/// What CentralCloud has of all instances.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    /// Attempts, for ever.
    pub attempts: i64,
    /// Of these, successful ones.
    pub successes: i64,
    /// Their cost, as far as it is known.
    pub cost_nanousd: i64,
    /// Their tokens, in and out.
    pub tokens: i64,
    /// Single results that are kept.
    pub results: i64,
    /// Aggregates that are kept.
    pub reports: i64,
    /// Learnings, for ever.
    pub learnings: i64,
}

/// A message that nobody could use.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Letter {
    /// Where it was.
    pub queue: String,
    /// Its number there.
    pub msg_id: Option<i64>,
    /// When it was put aside.
    pub at: DateTime<Utc>,
    /// How often it was read before.
    pub reads: Option<i64>,
    /// Why.
    pub reason: String,
    /// The message.
    pub message: Option<Value>,
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct Overview {
    db: Database,
    names: Names,
}

impl Overview {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        let names = Names::new(db.schema());
        Self { db, names }
    }

    /// How far each instance has reported.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn reporters(&self) -> Result<Vec<Reporter>, DbError> {
        let rows = sqlx::query_as!(
            Reporter,
            r#"SELECT c.instance_id, i.status AS "status?", c.report_number AS reports, c.reported_at, c.queue,
                      (SELECT count(*) FROM (
                         SELECT FROM job_results r WHERE r.instance_id = c.instance_id
                         AND (r.recorded_xid, r.id) > (c.recorded_xid, c.result_id) LIMIT $1) u) AS "unreported!"
               FROM report_cursors c LEFT JOIN instance_registry i USING (instance_id)
               ORDER BY i.status = 'offline' NULLS LAST, c.instance_id"#,
            UNREPORTED_MAX,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }

    /// What waits in the queues of reports and of learnings.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn queues(&self) -> Result<Vec<QueueRow>, DbError> {
        let rows = sqlx::query_as(
            "SELECT n.name AS queue, m.queue_length::bigint AS messages, m.oldest_msg_age_sec::bigint * 1000 AS oldest_ms,
                    coalesce((SELECT (pgmq.metrics(d.queue_name)).queue_length::bigint FROM pgmq.meta d
                              WHERE d.queue_name = n.name || '_dlq'), 0) AS dead
             FROM (SELECT queue AS name FROM report_cursors WHERE queue IS NOT NULL
                   UNION SELECT queue FROM learning_cursors UNION SELECT $1::text) n
             JOIN pgmq.meta q ON q.queue_name = n.name, LATERAL pgmq.metrics(n.name) m
             ORDER BY n.name",
        );
        Ok(rows.bind(self.names.updates()).fetch_all(&self.db).await?)
    }

    /// What CentralCloud has.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn totals(&self) -> Result<Totals, DbError> {
        let totals = sqlx::query_as!(
            Totals,
            r#"SELECT coalesce(sum(attempts), 0)::bigint AS "attempts!", coalesce(sum(successes), 0)::bigint AS "successes!",
                      coalesce(sum(cost_nanousd), 0)::bigint AS "cost_nanousd!",
                      coalesce(sum(tokens_input + tokens_output), 0)::bigint AS "tokens!",
                      (SELECT count(*) FROM central_results) AS "results!",
                      (SELECT count(*) FROM central_reports) AS "reports!",
                      (SELECT count(*) FROM learnings) AS "learnings!"
               FROM model_performance"#
        )
        .fetch_one(&self.db)
        .await?;
        Ok(totals)
    }

    /// Messages that nobody could use, newest first, at most `max`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn letters(&self, max: u32) -> Result<Vec<Letter>, DbError> {
        let mut letters = Vec::new();
        for row in self.queues().await?.into_iter().filter(|row| row.dead > 0) {
            // A name of ours: letters, digits and underscores.
            let sql = format!(
                "SELECT enqueued_at, headers, message FROM pgmq.\"q_{}\" ORDER BY msg_id DESC LIMIT $1",
                Names::dead_letters(&row.queue)
            );
            let rows: Vec<(DateTime<Utc>, Option<Value>, Option<Value>)> =
                sqlx::query_as(AssertSqlSafe(sql)).bind(i64::from(max)).fetch_all(&self.db).await?;
            letters.extend(rows.into_iter().map(|(at, headers, message)| letter(&row.queue, at, headers, message)));
        }
        letters.sort_by_key(|letter| std::cmp::Reverse(letter.at));
        letters.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        Ok(letters)
    }
}

fn letter(queue: &str, at: DateTime<Utc>, headers: Option<Value>, message: Option<Value>) -> Letter {
    let headers = headers.unwrap_or_default();
    let number = |key: &str| headers[key].as_i64();
    Letter {
        queue: queue.to_owned(),
        msg_id: number(pgmq::HEADER_MSG_ID),
        at,
        reads: number(pgmq::HEADER_READ_CT),
        reason: headers[pgmq::HEADER_REASON].as_str().unwrap_or("no reason was kept").to_owned(),
        message,
    }
}
