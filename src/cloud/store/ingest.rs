//! CentralCloud takes in what instances report.
//!
//! Messages are read first; then what they say is stored and they are deleted in one transaction. So a message counts
//! once: where the deletion finds less than was read, somebody else has stored it, and the transaction is rolled back.
//! The keys of the tables make sure of the same once more.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{FromRow, PgConnection, Row};

use super::pgmq::{self, Message};
use crate::cloud::names::Names;
use crate::cloud::record::{Record, Records};
use crate::cloud::report::Report;
use crate::cloud::sums::Sums;
use crate::postgres::{Database, DbError, Transaction};

/// How long others do not see a message that was read. Longer than the statements that store it may take.
const HIDDEN: Duration = Duration::from_secs(30);

/// Messages of one queue that are read at once.
const MESSAGES_MAX: i32 = 20;

/// Statements of a transaction that stores aggregates: they are inserted, their messages deleted.
const REPORTS_STATEMENTS: u32 = 2;

/// Statements of a transaction that stores records, for each instance that they are of; one more deletes the messages.
const RECORDS_STATEMENTS: u32 = 3;

/// Messages by the queue that they were in.
pub(in crate::cloud) type Mail = BTreeMap<String, Vec<Message>>;

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct Intake {
    db: Database,
    names: Names,
}

impl Intake {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        let names = Names::new(db.schema());
        Self { db, names }
    }

    /// The queue of aggregates; every other one has records.
    pub fn updates(&self) -> String {
        self.names.updates()
    }

    /// Takes messages from all queues of reports, also from those of instances that are gone, in one statement.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn read(&self) -> Result<Mail, DbError> {
        let rows = sqlx::query(
            "SELECT n.name AS queue, m.msg_id, m.read_ct, m.enqueued_at, m.message::text AS body, m.headers
             FROM (SELECT queue AS name FROM report_cursors WHERE queue IS NOT NULL UNION SELECT $1::text) n
             JOIN pgmq.meta q ON q.queue_name = n.name,
             LATERAL pgmq.read(n.name, $2::int, $3::int) m
             ORDER BY n.name, m.msg_id",
        )
        .bind(self.updates())
        .bind(pgmq::seconds(HIDDEN))
        .bind(MESSAGES_MAX)
        .fetch_all(&self.db)
        .await?;
        let mut mail = Mail::new();
        for row in rows {
            mail.entry(row.try_get("queue")?).or_default().push(Message::from_row(&row)?);
        }
        Ok(mail)
    }

    /// Stores records and deletes their messages; returns how many were new, `None` when somebody else had stored them.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn store_records(&self, queue: &str, ids: &[i64], parts: &[Records]) -> Result<Option<usize>, DbError> {
        let instances = by_instance(parts);
        let statements = u32::try_from(instances.len()).unwrap_or(u32::MAX).saturating_mul(RECORDS_STATEMENTS);
        let storing = async |mut transaction: Transaction<'_>| -> Result<_, DbError> {
            let mut fresh = 0;
            for (instance_id, records) in instances {
                let new = insert(&mut transaction, instance_id, &records).await?;
                fresh += new.len();
                add_performance(&mut transaction, instance_id, &Sums::of(new.iter().copied())).await?;
                add_patterns(&mut transaction, instance_id, &new).await?;
            }
            if pgmq::delete(&mut *transaction, queue, ids).await? < ids.len() {
                return Ok(None);
            }
            transaction.commit().await?;
            Ok(Some(fresh))
        };
        self.db.transaction(statements.saturating_add(1), storing).await
    }

    /// Stores aggregates and deletes their messages; returns how many were new, `None` when somebody else had stored
    /// them.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn store_reports(
        &self,
        ids: &[i64],
        reports: &[Report],
        bodies: &[String],
    ) -> Result<Option<usize>, DbError> {
        let storing = async |mut transaction: Transaction<'_>| -> Result<_, DbError> {
            let fresh = sqlx::query!(
                "INSERT INTO central_reports (report_key, instance_id, period_start, period_end, job_count, body)
                 SELECT r.report_key, r.instance_id, r.period_start, r.period_end, r.job_count, r.body::jsonb
                 FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::text[])
                   AS r (report_key, instance_id, period_start, period_end, job_count, body)
                 ORDER BY r.report_key ON CONFLICT DO NOTHING",
                &reports.iter().map(|report| report.report_key.clone()).collect::<Vec<_>>(),
                &reports.iter().map(|report| report.instance_id.clone()).collect::<Vec<_>>(),
                &reports.iter().map(|report| report.period_start).collect::<Vec<_>>(),
                &reports.iter().map(|report| report.period_end).collect::<Vec<_>>(),
                &reports.iter().map(|report| report.job_count).collect::<Vec<_>>(),
                bodies,
            )
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            if pgmq::delete(&mut *transaction, &self.updates(), ids).await? < ids.len() {
                return Ok(None);
            }
            transaction.commit().await?;
            Ok(Some(usize::try_from(fresh).unwrap_or(usize::MAX)))
        };
        self.db.transaction(REPORTS_STATEMENTS, storing).await
    }

    /// Puts a message aside that cannot be used; `false` when somebody else has dealt with it.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn bury(&self, queue: &str, message: &Message, reason: &str) -> Result<bool, DbError> {
        pgmq::put_aside(&self.db, queue, message, reason).await
    }
}

/// Records of several messages, by the instance that they are of.
fn by_instance(parts: &[Records]) -> BTreeMap<&str, Vec<&Record>> {
    let mut instances: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for part in parts {
        instances.entry(&part.instance_id).or_default().extend(&part.records);
    }
    instances
}

/// Inserts records; returns those that were not there yet.
async fn insert<'r>(
    transaction: &mut PgConnection,
    instance_id: &str,
    records: &[&'r Record],
) -> Result<Vec<&'r Record>, DbError> {
    let inserted = sqlx::query!(
        "INSERT INTO central_results
           (job_id, attempt, hop, success, instance_id, job_type, route, provider, model, policy_version, propensity,
            outcome, simulated, cost_nanousd, tokens_input, tokens_output, duration_ms, time_to_first_token_ms, completed_at)
         SELECT job_id, attempt, hop, success, $1, job_type, route, provider, model, policy_version, propensity,
                outcome, simulated, cost_nanousd, tokens_input, tokens_output, duration_ms, time_to_first_token_ms, completed_at
         FROM jsonb_to_recordset($2::text::jsonb) AS r
           (job_id bigint, attempt integer, hop integer, success boolean, job_type text, route text, provider text,
            model text, policy_version bigint, propensity double precision, outcome text, simulated boolean, cost_nanousd bigint,
            tokens_input bigint, tokens_output bigint, duration_ms bigint, time_to_first_token_ms bigint,
            completed_at timestamptz)
         ORDER BY job_id, attempt, hop, success
         ON CONFLICT DO NOTHING
         RETURNING job_id, attempt, hop, success",
        instance_id,
        super::text(&records)?,
    )
    .fetch_all(transaction)
    .await?;
    let mut known: BTreeMap<(i64, i32, i32, bool), &Record> = BTreeMap::new();
    for record in records {
        known.entry((record.job_id, record.attempt, record.hop, record.success)).or_insert(record);
    }
    Ok(inserted.into_iter().filter_map(|row| known.remove(&(row.job_id, row.attempt, row.hop, row.success))).collect())
}

/// Adds sums to those that are there.
async fn add_performance(transaction: &mut PgConnection, instance_id: &str, sums: &[Sums]) -> Result<(), DbError> {
    if sums.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO model_performance AS m
           (job_type, route, model, instance_id, attempts, successes, failures, refusals, infrastructure, priced,
            cost_nanousd, cost_nanousd_squared, tokens_input, tokens_output, latency_ms, latency_ms_squared,
            latency_counts, first_at, last_at)
         SELECT job_type, route, model, $1, attempts, successes, failures, refusals, infrastructure, priced, cost_nanousd,
                cost_nanousd_squared, tokens_input, tokens_output, latency_ms, latency_ms_squared, latency_counts,
                first_at, last_at
         FROM jsonb_to_recordset($2::text::jsonb) AS s
           (job_type text, route text, model text, attempts bigint, successes bigint, failures bigint, refusals bigint,
            infrastructure bigint, priced bigint, cost_nanousd numeric, cost_nanousd_squared numeric,
            tokens_input numeric, tokens_output numeric, latency_ms numeric, latency_ms_squared numeric,
            latency_counts bigint[], first_at timestamptz, last_at timestamptz)
         ORDER BY job_type, route, model
         ON CONFLICT (job_type, route, model, instance_id) DO UPDATE SET
           attempts = m.attempts + excluded.attempts, successes = m.successes + excluded.successes,
           failures = m.failures + excluded.failures, refusals = m.refusals + excluded.refusals,
           infrastructure = m.infrastructure + excluded.infrastructure, priced = m.priced + excluded.priced,
           cost_nanousd = m.cost_nanousd + excluded.cost_nanousd,
           cost_nanousd_squared = m.cost_nanousd_squared + excluded.cost_nanousd_squared,
           tokens_input = m.tokens_input + excluded.tokens_input,
           tokens_output = m.tokens_output + excluded.tokens_output,
           latency_ms = m.latency_ms + excluded.latency_ms,
           latency_ms_squared = m.latency_ms_squared + excluded.latency_ms_squared,
           latency_counts = coalesce(
             (SELECT array_agg(coalesce(a.n, 0) + coalesce(b.n, 0) ORDER BY place)
              FROM unnest(m.latency_counts) WITH ORDINALITY AS a (n, place)
              FULL JOIN unnest(excluded.latency_counts) WITH ORDINALITY AS b (n, place) USING (place)), '{}'),
           first_at = least(m.first_at, excluded.first_at), last_at = greatest(m.last_at, excluded.last_at)",
        instance_id,
        super::text(&sums)?,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Counts the patterns that showed in records.
async fn add_patterns(transaction: &mut PgConnection, instance_id: &str, records: &[&Record]) -> Result<(), DbError> {
    let mut seen: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for record in records {
        for pattern in &record.patterns {
            let (occurrences, successes) = seen.entry(pattern).or_default();
            *occurrences += 1;
            *successes += i64::from(record.success);
        }
    }
    if seen.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO pattern_library AS p (name, definition, source, occurrences, successes)
         SELECT n.name, '{}', $1, n.occurrences, n.successes
         FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS n (name, occurrences, successes) ORDER BY n.name
         ON CONFLICT (name) DO UPDATE SET occurrences = p.occurrences + excluded.occurrences,
           successes = p.successes + excluded.successes, last_seen = greatest(p.last_seen, excluded.last_seen)",
        instance_id,
        &seen.keys().map(|&name| name.to_owned()).collect::<Vec<_>>(),
        &seen.values().map(|count| count.0).collect::<Vec<_>>(),
        &seen.values().map(|count| count.1).collect::<Vec<_>>(),
    )
    .execute(transaction)
    .await?;
    Ok(())
}
