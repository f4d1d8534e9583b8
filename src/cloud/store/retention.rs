//! Deletes what is older than it is kept, a bounded number of rows a statement, and drops queues that nobody needs.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::pgmq;
use crate::cloud::names::Names;
use crate::postgres::{Database, DbError, Transaction};

/// Rows that are deleted in one statement.
const ROWS_MAX: i64 = 10_000;

/// Queues that are dropped in one round.
const DROPS_MAX: i64 = 100;

/// Statements of the transaction that drops a queue: its cursor, its dead letters looked for, three tables looked at,
/// two queues dropped, the cursor again.
const DROP_STATEMENTS: u32 = 8;

/// How long what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Single results.
    pub results: Duration,
    /// Aggregates.
    pub reports: Duration,
    /// Messages that were put aside: archives and dead letters.
    pub letters: Duration,
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct Store {
    db: Database,
    names: Names,
}

impl Store {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        let names = Names::new(db.schema());
        Self { db, names }
    }

    /// Deletes all that is older than it is kept; returns how many rows that were. By the database's clock.
    ///
    /// # Errors
    /// [`DbError`]; what was deleted before stays deleted.
    pub async fn forget(&self, keep: &Keep) -> Result<u64, DbError> {
        let mut forgotten = 0;
        while let deleted @ 1.. = sqlx::query!(
            "DELETE FROM central_results WHERE ctid = ANY (ARRAY(
               SELECT ctid FROM central_results WHERE received_at < now() - $1::bigint * interval '1 millisecond' LIMIT $2))",
            millis(keep.results),
            ROWS_MAX,
        )
        .execute(&self.db)
        .await?
        .rows_affected()
        {
            forgotten += deleted;
        }
        while let deleted @ 1.. = sqlx::query!(
            "DELETE FROM central_reports WHERE ctid = ANY (ARRAY(
               SELECT ctid FROM central_reports WHERE received_at < now() - $1::bigint * interval '1 millisecond' LIMIT $2))",
            millis(keep.reports),
            ROWS_MAX,
        )
        .execute(&self.db)
        .await?
        .rows_affected()
        {
            forgotten += deleted;
        }
        for queue in self.queues().await? {
            forgotten += self.forget_messages(&queue, keep.letters).await?;
        }
        Ok(forgotten)
    }

    /// Our queues that there are, without those of dead letters.
    async fn queues(&self) -> Result<Vec<String>, DbError> {
        let queues = sqlx::query_scalar(
            "SELECT name FROM (SELECT queue AS name FROM report_cursors WHERE queue IS NOT NULL
                               UNION SELECT queue FROM learning_cursors UNION SELECT $1::text) n
             JOIN pgmq.meta ON queue_name = name ORDER BY name",
        );
        Ok(queues.bind(self.names.updates()).fetch_all(&self.db).await?)
    }

    async fn forget_messages(&self, queue: &str, keep: Duration) -> Result<u64, DbError> {
        let mut forgotten = self.delete_old(&format!("a_{queue}"), "archived_at", keep).await?;
        let dead = Names::dead_letters(queue);
        if pgmq::exists(&self.db, &dead).await? {
            forgotten += self.delete_old(&format!("q_{dead}"), "enqueued_at", keep).await?;
        }
        Ok(forgotten)
    }

    /// Deletes from a table of pgmq. Its name is one of [`Names`], so of letters, digits and underscores.
    async fn delete_old(&self, table: &str, column: &str, keep: Duration) -> Result<u64, DbError> {
        let sql = format!(
            "DELETE FROM pgmq.\"{table}\" WHERE ctid = ANY (ARRAY(
               SELECT ctid FROM pgmq.\"{table}\" WHERE {column} < now() - $1::bigint * interval '1 millisecond' LIMIT $2))"
        );
        let mut forgotten = 0;
        while let deleted @ 1.. = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(millis(keep))
            .bind(ROWS_MAX)
            .execute(&self.db)
            .await?
            .rows_affected()
        {
            forgotten += deleted;
        }
        Ok(forgotten)
    }

    /// Drops the queues of instances that are offline for a while and whose results are all taken in; returns how many.
    /// A report makes its queue again.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn drop_idle_queues(&self) -> Result<u64, DbError> {
        let idle = sqlx::query_scalar!(
            "SELECT c.instance_id FROM report_cursors c LEFT JOIN instance_registry i USING (instance_id)
             WHERE c.queue IS NOT NULL AND c.reported_at < now() - interval '10 minutes'
               AND (i.instance_id IS NULL OR i.status = 'offline' AND i.last_heartbeat < now() - interval '10 minutes')
             ORDER BY c.instance_id LIMIT $1",
            DROPS_MAX,
        )
        .fetch_all(&self.db)
        .await?;
        let mut dropped = 0;
        for instance_id in idle {
            dropped += u64::from(self.drop_queue(&instance_id).await?);
        }
        Ok(dropped)
    }

    /// Drops the queue of one instance when nothing is in it. Its cursor is locked meanwhile, as by whoever reports.
    async fn drop_queue(&self, instance_id: &str) -> Result<bool, DbError> {
        let dropping = async |mut transaction: Transaction<'_>| -> Result<_, DbError> {
            let queue = sqlx::query_scalar!(
                "SELECT queue FROM report_cursors WHERE instance_id = $1 FOR UPDATE SKIP LOCKED",
                instance_id
            )
            .fetch_optional(&mut *transaction)
            .await?;
            let Some(queue) = queue.flatten() else { return Ok(false) };
            let dead = Names::dead_letters(&queue);
            let mut tables = vec![format!("q_{queue}"), format!("a_{queue}")];
            let has_dead = pgmq::exists(&mut *transaction, &dead).await?;
            tables.extend(has_dead.then(|| format!("q_{dead}")));
            for table in tables {
                let sql = format!("SELECT EXISTS (SELECT FROM pgmq.\"{table}\")");
                if sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *transaction).await? {
                    return Ok(false);
                }
            }
            for queue in [Some(&queue), has_dead.then_some(&dead)].into_iter().flatten() {
                sqlx::query("SELECT pgmq.drop_queue($1::text)").bind(queue).execute(&mut *transaction).await?;
            }
            sqlx::query!("UPDATE report_cursors SET queue = NULL WHERE instance_id = $1", instance_id)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(true)
        };
        self.db.transaction(DROP_STATEMENTS, dropping).await
    }
}

fn millis(period: Duration) -> i64 {
    i64::try_from(period.as_millis()).unwrap_or(i64::MAX)
}
