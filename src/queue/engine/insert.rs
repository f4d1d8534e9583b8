//! Inserting: one job, many in one statement, or inside the caller's own transaction.
//!
//! The statement is the same for all three and carries the schema's name, because a connection that the caller brought
//! has a `search_path` of its own. It also sends the notification, once per queue, so that it is delivered when and
//! only when the jobs are committed.

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor, Row};

use super::Engine;
use crate::postgres::{Database, Transaction};
use crate::queue::error::QueueError;
use crate::queue::new_job::{NewJob, Schedule};

/// Jobs in one call. Ten thousand rows of `unnest` arrays are one round trip; far more would only hold memory.
pub const INSERT_BATCH_MAX: usize = 10_000;
/// Statements of a transaction that inserts, beside those of each unique job.
const TRANSACTION_STATEMENTS: u32 = 5;
/// Statements of a unique job: it is looked for, and replaced or inserted; then plain jobs that came before it are.
const UNIQUE_STATEMENTS: u32 = 3;

/// What became of one job that was to be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inserted {
    /// The new job, or the one that was there already.
    pub id: i64,
    /// Whether a unique job was there already, so that nothing was inserted.
    pub conflict: bool,
    /// Whether the one that was there was changed by [`NewJob::replace`].
    pub replaced: bool,
}

/// Text of the insert for one schema, whose name was validated as a plain identifier when the pool was made.
pub(super) fn statement(db: &Database) -> String {
    let schema = db.schema();
    // Ids are drawn after the sort, so ascending ids are the order of the input.
    format!(
        r#"WITH new AS (
             INSERT INTO "{schema}".oban_jobs (state, queue, worker, args, meta, tags, max_attempts, priority, scheduled_at)
             SELECT (CASE WHEN d.due OR d.delay_ms IS NOT NULL THEN 'scheduled' ELSE 'available' END)::"{schema}".oban_job_state,
                    d.queue, d.worker, d.args, d.meta, ARRAY(SELECT jsonb_array_elements_text(d.tags)), d.max_attempts, d.priority,
                    CASE WHEN d.delay_ms IS NOT NULL
                           THEN timezone('UTC', now()) + d.delay_ms * interval '1 millisecond'
                         WHEN d.due THEN timezone('UTC', d.at)
                         ELSE timezone('UTC', now()) END
             FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::jsonb[], $5::jsonb[], $6::int[], $7::int[], $8::bigint[],
                         $9::timestamptz[], $10::bool[])
                  WITH ORDINALITY AS d (queue, worker, args, meta, tags, max_attempts, priority, delay_ms, at, due, position)
             ORDER BY d.position
             RETURNING id, queue, state::text AS state
           ), told AS (
             SELECT count(pg_notify($11, json_build_object('queue', queue)::text)) AS notes
             FROM (SELECT DISTINCT queue FROM new WHERE state = 'available') q
           )
           SELECT new.id FROM new, told WHERE told.notes >= 0 ORDER BY new.id"#
    )
}

/// As [`statement`], for jobs that are due now and have neither meta nor tags: half of the columns have nothing to say,
/// and reading their arrays costs as much as the rest of the insert.
pub(super) fn short_statement(db: &Database) -> String {
    let schema = db.schema();
    format!(
        r#"WITH new AS (
             INSERT INTO "{schema}".oban_jobs (queue, worker, args, max_attempts, priority)
             SELECT d.queue, d.worker, d.args, d.max_attempts, d.priority
             FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::int[], $5::int[])
                  WITH ORDINALITY AS d (queue, worker, args, max_attempts, priority, position)
             ORDER BY d.position
             RETURNING id, queue
           ), told AS (
             SELECT count(pg_notify($6, json_build_object('queue', queue)::text)) AS notes
             FROM (SELECT DISTINCT queue FROM new) q
           )
           SELECT new.id FROM new, told WHERE told.notes >= 0 ORDER BY new.id"#
    )
}

/// At most so many statements, of which each may take as long as the server allows, are a transaction that inserts
/// these jobs.
pub(super) fn statements<'a>(jobs: impl IntoIterator<Item = &'a NewJob>) -> u32 {
    let unique = jobs.into_iter().filter(|job| job.unique.is_some()).count();
    u32::try_from(unique).unwrap_or(u32::MAX).saturating_mul(UNIQUE_STATEMENTS).saturating_add(TRANSACTION_STATEMENTS)
}

impl Engine {
    /// Inserts one job. See [`Engine::insert_many_on`]. Calls that come at the same time are one statement, unless they
    /// are about unique jobs.
    ///
    /// Through a node's engine a job that is due now and not unique starts here at once where its queue has room and
    /// nothing to do: it is inserted as `executing` and may have ended when this returns.
    ///
    /// Cancel safety: dropped before its statement begins nothing is inserted; later the job may be.
    ///
    /// # Errors
    /// [`QueueError::Invalid`], [`QueueError::Db`].
    pub async fn insert(&self, job: NewJob) -> Result<Inserted, QueueError> {
        if job.unique.is_none() {
            return self.insert_gathered(job.validated()?).await;
        }
        let inserted = self.insert_many(vec![job]).await?;
        inserted.first().copied().ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// Inserts all of `jobs` or none, in a transaction of its own.
    ///
    /// Measured with `cargo bench` (PostgreSQL 15, durable, on disk, TCP on loopback, two cores that other work kept
    /// busy): 0.6 to 0.8 times as fast as an INSERT of queue, worker and arguments alone, 1,000 or 10,000 in one call;
    /// at best 46,100 jobs a second. A call of 10,000 inserts 25 to 60 times as many jobs a second as 10,000 calls of
    /// one.
    ///
    /// # Errors
    /// As [`Engine::insert_many_on`].
    pub async fn insert_many(&self, jobs: Vec<NewJob>) -> Result<Vec<Inserted>, QueueError> {
        if jobs.iter().any(|job| job.unique.is_some()) {
            let statements = statements(&jobs);
            let inserting = async |mut tx: Transaction<'_>| -> Result<_, QueueError> {
                let inserted = self.insert_many_on(&mut tx, jobs).await?;
                tx.commit().await?;
                Ok(inserted)
            };
            return self.db.transaction(statements, inserting).await;
        }
        // A single statement is its own transaction: one round trip instead of three.
        let mut session = self.db.session().await?;
        let inserted = self.db.within_limit(self.insert_many_on(&mut session, jobs)).await?;
        session.give_back();
        Ok(inserted)
    }

    /// Inserts all of `jobs` on `connection`, which may be inside a transaction: then the jobs exist, and their
    /// notifications are sent, when it commits. Results are in the order of `jobs`.
    ///
    /// Unique jobs, at most [`super::UNIQUE_BATCH_MAX`], wait for others that insert the same and are not committed
    /// yet, so what is returned is never in doubt. They need `connection` to be in a transaction of isolation level
    /// READ COMMITTED. A wait that takes longer than the connection's `lock_timeout` is an error.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] and [`QueueError::Unique`] for the first job that breaks a rule,
    /// [`QueueError::TooMany`], [`QueueError::UniqueUnguarded`], [`QueueError::Db`]; nothing is inserted by this call
    /// then, except outside of a transaction, where plain jobs may be.
    pub async fn insert_many_on(
        &self,
        connection: &mut PgConnection,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Inserted>, QueueError> {
        if jobs.len() > INSERT_BATCH_MAX {
            return Err(QueueError::TooMany { count: jobs.len(), max: INSERT_BATCH_MAX });
        }
        let jobs = jobs.into_iter().map(NewJob::validated).collect::<Result<Vec<_>, _>>()?;
        if !jobs.iter().any(|job| job.unique.is_some()) {
            return self.insert_plain(connection, jobs).await;
        }
        let known = self.lock_unique(connection, &jobs).await?;
        let mut inserted = Vec::with_capacity(jobs.len());
        let mut plain = Vec::new();
        for job in jobs {
            let Some(unique) = job.unique.clone() else {
                plain.push(job);
                continue;
            };
            // In the order of the input, because ids rise in it.
            inserted.extend(self.insert_plain(&mut *connection, std::mem::take(&mut plain)).await?);
            match self.find_unique(connection, &job, &unique, &known).await? {
                Some(found) => inserted.push(Inserted { id: found.id, conflict: true, replaced: found.replaced }),
                None => inserted.extend(self.insert_plain(&mut *connection, vec![job]).await?),
            }
        }
        inserted.extend(self.insert_plain(connection, plain).await?);
        Ok(inserted)
    }

    pub(super) async fn insert_plain(
        &self,
        executor: impl PgExecutor<'_>,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Inserted>, QueueError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let is_short =
            jobs.iter().all(|job| job.schedule == Schedule::Now && job.meta.is_empty() && job.tags.is_empty());
        let mut columns = Columns::default();
        for job in jobs {
            columns.push(job, is_short);
        }
        if is_short {
            let rows = sqlx::query(AssertSqlSafe(self.short_insert_sql.to_string()))
                .bind(columns.queues)
                .bind(columns.workers)
                .bind(columns.args)
                .bind(columns.max_attempts)
                .bind(columns.priorities)
                .bind(self.db.channel("insert"))
                .fetch_all(executor)
                .await?;
            return inserted(&rows);
        }
        let rows = sqlx::query(AssertSqlSafe(self.insert_sql.to_string()))
            .bind(columns.queues)
            .bind(columns.workers)
            .bind(columns.args)
            .bind(columns.metas)
            .bind(columns.tags)
            .bind(columns.max_attempts)
            .bind(columns.priorities)
            .bind(columns.delays_ms)
            .bind(columns.ats)
            .bind(columns.dues)
            .bind(self.db.channel("insert"))
            .fetch_all(executor)
            .await?;
        inserted(&rows)
    }
}

fn inserted(rows: &[PgRow]) -> Result<Vec<Inserted>, QueueError> {
    rows.iter().map(|row| Ok(Inserted { id: row.try_get(0)?, conflict: false, replaced: false })).collect()
}

/// One array a column, as `unnest` wants them.
#[derive(Default)]
struct Columns {
    queues: Vec<String>,
    workers: Vec<String>,
    args: Vec<Value>,
    metas: Vec<Value>,
    tags: Vec<Value>,
    max_attempts: Vec<i32>,
    priorities: Vec<i32>,
    delays_ms: Vec<Option<i64>>,
    ats: Vec<Option<chrono::DateTime<chrono::Utc>>>,
    dues: Vec<bool>,
}

impl Columns {
    /// Adds a job; of a short one only the columns that it has.
    fn push(&mut self, job: NewJob, is_short: bool) {
        let (delay_ms, at) = job.schedule.columns();
        self.queues.push(job.queue);
        self.workers.push(job.worker);
        self.args.push(job.args);
        self.max_attempts.push(job.max_attempts);
        self.priorities.push(job.priority);
        if is_short {
            return;
        }
        self.metas.push(Value::Object(job.meta));
        self.tags.push(Value::from(job.tags));
        self.delays_ms.push(delay_ms);
        self.dues.push(at.is_some());
        self.ats.push(at);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::queue::Unique;

    #[test]
    fn a_transaction_may_take_as_long_as_its_unique_jobs_need() {
        let plain = NewJob::new("w", json!({}));
        let unique = plain.clone().unique(Unique::default());
        assert_eq!(statements([&plain, &plain]), TRANSACTION_STATEMENTS);
        assert_eq!(statements([&unique, &plain, &unique]), TRANSACTION_STATEMENTS + 2 * UNIQUE_STATEMENTS);
    }
}
