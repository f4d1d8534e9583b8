//! UP: results since the cursor, sent to CentralCloud's queues.
//!
//! Reading, sending and moving the cursor are one transaction, so that nothing is missed and nothing sent twice,
//! wherever a process dies. The cursor's row is locked first: whoever else reports for the same instance waits or goes
//! on.
//!
//! Results become visible in another order than that of their ids. So the cursor goes by the transaction that wrote a
//! result, and reads up to the oldest one that is still under way: what that one commits comes with a later report.

use serde_json::{Value, json};
use sqlx::PgConnection;

use super::pgmq;
use crate::cloud::names::Names;
use crate::cloud::record::{MESSAGE_VERSION, RECORDS_PER_MESSAGE_MAX, Record, Records};
use crate::cloud::report::{Period, Report};
use crate::postgres::{Database, DbError, Transaction};
use crate::workflow::Attempted;

/// Results in one report, and so in one transaction.
pub const RESULTS_PER_REPORT_MAX: i64 = 1_000;

/// Offline instances that are reported for in one round.
const ABSENT_MAX: i64 = 50;

/// Statements of the transaction that sends a report: the cursor is locked, results read, two queues looked for and
/// made, two messages sent, the cursor moved.
const SEND_STATEMENTS: u32 = 9;

/// One report that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Results in it; 0 where there was nothing to report, or somebody else does it.
    pub results: usize,
    /// It was as many as one report may have, so that there may be more.
    pub full: bool,
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct Reports {
    pub(super) db: Database,
    names: Names,
}

impl Reports {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        let names = Names::new(db.schema());
        Self { db, names }
    }

    /// Gives a cursor to this instance and to all that have results but none: theirs are from before there were
    /// reports.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn begin(&self, instance_id: &str) -> Result<(), DbError> {
        // A look at the first result of each instance, not at all results.
        sqlx::query!(
            "WITH RECURSIVE known AS (
               (SELECT instance_id FROM job_results ORDER BY instance_id LIMIT 1)
               UNION ALL
               SELECT (SELECT r.instance_id FROM job_results r WHERE r.instance_id > k.instance_id
                       ORDER BY r.instance_id LIMIT 1)
               FROM known k WHERE k.instance_id IS NOT NULL
             )
             INSERT INTO report_cursors (instance_id)
             SELECT instance_id FROM known WHERE instance_id IS NOT NULL UNION SELECT $1 ORDER BY 1
             ON CONFLICT DO NOTHING",
            instance_id,
        )
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Instances that are offline or forgotten and have results that nobody reported.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn absent(&self) -> Result<Vec<String>, DbError> {
        let absent = sqlx::query_scalar!(
            "SELECT c.instance_id FROM report_cursors c LEFT JOIN instance_registry i USING (instance_id)
             WHERE (i.instance_id IS NULL OR i.status = 'offline')
               AND EXISTS (SELECT FROM job_results r WHERE r.instance_id = c.instance_id
                           AND (r.recorded_xid, r.id) > (c.recorded_xid, c.result_id)
                           AND r.recorded_xid < pg_snapshot_xmin(pg_current_snapshot()))
             ORDER BY c.instance_id LIMIT $1",
            ABSENT_MAX,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(absent)
    }

    /// Sends one report of results of `instance_id`; nothing where there are none, or where somebody else is sending
    /// one for an instance that is not `reporter` itself.
    ///
    /// Cancel safety: all of it happens or nothing.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn send(&self, instance_id: &str, reporter: &str) -> Result<Sent, DbError> {
        let sending = async |mut transaction: Transaction<'_>| -> Result<_, DbError> {
            let Some(cursor) = lock(&mut transaction, instance_id, instance_id != reporter).await? else {
                return Ok(Sent::default());
            };
            let rows = sqlx::query!(
                r#"SELECT id, recorded_xid::text AS "recorded_xid!", job_id, attempt, hop, success, job_type, route,
                          provider, model_used, policy_version, propensity, outcome, simulated, cost_nanousd, tokens_input,
                          tokens_output, duration_ms, time_to_first_token_ms, completed_at, patterns_discovered
                   FROM job_results
                   WHERE instance_id = $1 AND (recorded_xid, id) > ($2::text::xid8, $3)
                     AND recorded_xid < pg_snapshot_xmin(pg_current_snapshot())
                   ORDER BY recorded_xid, id LIMIT $4"#,
                instance_id,
                cursor.recorded_xid,
                cursor.result_id,
                RESULTS_PER_REPORT_MAX,
            )
            .fetch_all(&mut *transaction)
            .await?;
            let Some((last_xid, last_id)) = rows.last().map(|row| (row.recorded_xid.clone(), row.id)) else {
                return Ok(Sent::default());
            };
            let records: Vec<Record> = rows
                .into_iter()
                .map(|row| {
                    let outcome = Attempted::of_column(row.outcome.as_deref(), row.success);
                    Record {
                        job_id: row.job_id,
                        attempt: row.attempt,
                        hop: row.hop,
                        success: row.success,
                        job_type: row.job_type,
                        route: row.route,
                        provider: row.provider,
                        model: row.model_used,
                        policy_version: row.policy_version,
                        propensity: row.propensity,
                        outcome,
                        simulated: row.simulated,
                        cached: outcome == Attempted::Cached,
                        cost_nanousd: row.cost_nanousd,
                        tokens_input: row.tokens_input,
                        tokens_output: row.tokens_output,
                        duration_ms: row.duration_ms,
                        time_to_first_token_ms: row.time_to_first_token_ms,
                        completed_at: row.completed_at,
                        patterns: row.patterns_discovered,
                    }
                })
                .collect();
            let period = Period {
                instance_id: instance_id.into(),
                reported_by: reporter.into(),
                number: cursor.report_number + 1,
                start: cursor.reported_at,
                end: cursor.now,
            };
            self.send_records(&mut transaction, &period, &records).await?;
            sqlx::query!(
                "UPDATE report_cursors
                 SET recorded_xid = $2::text::xid8, result_id = $3, report_number = $4, reported_at = $5, queue = $6
                 WHERE instance_id = $1",
                instance_id,
                last_xid,
                last_id,
                period.number,
                period.end,
                self.names.results(instance_id),
            )
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            let full = i64::try_from(records.len()).is_ok_and(|count| count >= RESULTS_PER_REPORT_MAX);
            Ok(Sent { results: records.len(), full })
        };
        self.db.transaction(SEND_STATEMENTS, sending).await
    }

    async fn send_records(
        &self,
        transaction: &mut PgConnection,
        period: &Period,
        records: &[Record],
    ) -> Result<(), DbError> {
        let (results, updates) = (self.names.results(&period.instance_id), self.names.updates());
        pgmq::create(&mut *transaction, &results).await?;
        pgmq::create(&mut *transaction, &updates).await?;
        let (mut bodies, mut headers) = (Vec::new(), Vec::new());
        for (part, records) in records.chunks(RECORDS_PER_MESSAGE_MAX).enumerate() {
            let instance_id = period.instance_id.clone();
            bodies.push(super::text(&Records { v: MESSAGE_VERSION, instance_id, records: records.to_vec() })?);
            headers.push(json!({ "instance_id": period.instance_id, "key": format!("{}:{part}", period.key()) }));
        }
        pgmq::send_batch(&mut *transaction, &results, &bodies, &headers).await?;
        let header: Value = json!({ "instance_id": period.instance_id, "key": period.key() });
        pgmq::send(transaction, &updates, &super::text(&Report::of(period, records))?, &header).await?;
        Ok(())
    }
}

/// The cursor of an instance, locked until the end of the transaction.
struct Cursor {
    recorded_xid: String,
    result_id: i64,
    report_number: i64,
    reported_at: chrono::DateTime<chrono::Utc>,
    now: chrono::DateTime<chrono::Utc>,
}

/// Locks a cursor; `None` where there is none, or where it is locked and `skip` says not to wait.
async fn lock(transaction: &mut PgConnection, instance_id: &str, skip: bool) -> Result<Option<Cursor>, DbError> {
    let cursor = if skip {
        sqlx::query_as!(
            Cursor,
            r#"SELECT recorded_xid::text AS "recorded_xid!", result_id, report_number, reported_at,
                      clock_timestamp() AS "now!"
               FROM report_cursors WHERE instance_id = $1 FOR UPDATE SKIP LOCKED"#,
            instance_id
        )
        .fetch_optional(transaction)
        .await?
    } else {
        sqlx::query_as!(
            Cursor,
            r#"SELECT recorded_xid::text AS "recorded_xid!", result_id, report_number, reported_at,
                      clock_timestamp() AS "now!"
               FROM report_cursors WHERE instance_id = $1 FOR UPDATE"#,
            instance_id
        )
        .fetch_optional(transaction)
        .await?
    };
    Ok(cursor)
}
