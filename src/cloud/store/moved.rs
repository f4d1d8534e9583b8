//! A database that was moved to another server by a dump.
//!
//! A dump takes results and cursors along with the numbers of the transactions that wrote them, but the other server
//! counts its transactions anew. Results of before would wait until it gets that far, and those that it writes would
//! lie behind the cursor for ever, all without a word. So whoever reports looks first for numbers that this server has
//! not given out yet, and puts results and cursors into its order.

use std::time::Duration;

use super::report::Reports;
use crate::postgres::{DbError, Transaction};

/// How long it may take: years of results are written anew.
const ADOPT_LIMIT: Duration = Duration::from_secs(24 * 3_600);

impl Reports {
    /// Brings results and cursors that were written on another server into the order of this one. What was reported
    /// there is not reported again, and what was not comes with the next report. Returns how many results that are, or
    /// `None` where everything is of this server.
    ///
    /// Writes every result of the other server anew, once, however long that takes. Where there is none it costs a look
    /// at the newest result of each instance.
    ///
    /// Cancel safety: all of it happens or nothing.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn adopt(&self) -> Result<Option<u64>, DbError> {
        // By the index of reports: the newest result of each instance, not all results.
        let has_foreign = sqlx::query_scalar!(
            r#"SELECT EXISTS (
                 SELECT FROM report_cursors c
                 LEFT JOIN LATERAL (SELECT r.recorded_xid FROM job_results r WHERE r.instance_id = c.instance_id
                                    ORDER BY r.recorded_xid DESC, r.id DESC LIMIT 1) last ON true
                 WHERE greatest(c.recorded_xid, last.recorded_xid) >= pg_snapshot_xmax(pg_current_snapshot())
               ) AS "has_foreign!""#
        )
        .fetch_one(&self.db)
        .await?;
        if !has_foreign {
            return Ok(None);
        }
        let adopting = async |mut transaction: Transaction<'_>| -> Result<_, DbError> {
            // Years of results take longer than any other statement, and all of it happens or nothing.
            sqlx::query!("SET LOCAL statement_timeout = 0").execute(&mut *transaction).await?;
            // Nobody reports meanwhile, and who has reported or adopted before is seen by the next statement.
            sqlx::query!("LOCK TABLE report_cursors IN EXCLUSIVE MODE").execute(&mut *transaction).await?;
            // A result of this server whose instance has a cursor of the other one is known by its id: it is higher
            // than any that came along.
            let unreported = sqlx::query_scalar!(
                r#"WITH here AS MATERIALIZED (SELECT pg_snapshot_xmax(pg_current_snapshot()) AS xmax),
                   brought AS MATERIALIZED (
                     SELECT greatest(
                       (SELECT max(r.id) FROM job_results r WHERE r.recorded_xid >= (SELECT xmax FROM here)),
                       (SELECT max(c.result_id) FROM report_cursors c WHERE c.recorded_xid >= (SELECT xmax FROM here))
                     ) AS id
                   ), cursors AS (
                     UPDATE report_cursors SET recorded_xid = pg_current_xact_id(), result_id = 0
                     WHERE recorded_xid >= (SELECT xmax FROM here)
                   ), results AS (
                     UPDATE job_results r
                     SET recorded_xid = CASE
                       WHEN (r.recorded_xid, r.id) > (c.recorded_xid, c.result_id) OR r.recorded_xid < h.xmax
                       THEN pg_current_xact_id() ELSE '0' END
                     FROM report_cursors c, here h, brought b
                     WHERE c.instance_id = r.instance_id
                       AND (r.recorded_xid >= h.xmax OR (c.recorded_xid >= h.xmax AND r.id > b.id))
                     RETURNING r.recorded_xid
                   )
                   SELECT count(*) AS "unreported!" FROM results WHERE recorded_xid > '0'"#
            )
            .fetch_one(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(Some(unreported.unsigned_abs()))
        };
        self.db.transaction_within(ADOPT_LIMIT, adopting).await
    }
}
