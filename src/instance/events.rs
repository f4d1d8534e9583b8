//! Every statement on `supervision_events`: what supervisors and operators did, also of instances that are gone.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::event_record::EventRecord;
use crate::postgres::{Database, DbError};

/// Newest events of one instance that are kept.
pub const EVENTS_KEPT_MAX: usize = 1_000;
/// Events in one statement.
pub const EVENTS_BATCH_MAX: usize = 100;
/// Most events of one listing.
pub const EVENTS_LISTED_MAX: u32 = 1_000;
/// Old events deleted in one statement.
const FORGOTTEN_MAX: i64 = 10_000;

/// One row, as listings show it. Field names are column names.
#[derive(Debug, Clone, Serialize)]
pub struct EventRow {
    /// Rises with every row; the order of events of one process.
    pub id: i64,
    /// Whose event.
    pub instance_id: String,
    /// Of which process of that instance.
    pub process: Uuid,
    /// When, by the instance's clock.
    pub at: DateTime<Utc>,
    /// `warning` or `error`.
    pub level: String,
    /// Which actor.
    pub path: String,
    /// In which of its lives.
    pub incarnation: i64,
    /// What: `exited`, `started`, `stopped`, `start_failed`, `max_intensity`, `zombie`, `zombie_gone`, `operated`;
    /// `died`, which others wrote; `fenced`, or `events_lost`.
    pub event: String,
    /// Why; of an order, why it was refused.
    pub reason: Option<String>,
    /// What is known beside that.
    pub detail: Value,
    /// Who gave the order.
    pub by_whom: Option<String>,
    /// The reason that was given for it.
    pub why: Option<String>,
}

/// The newest events, oldest first; of `instance_id`, or of all.
///
/// # Errors
/// [`DbError`].
pub async fn events(db: &Database, instance_id: Option<&str>, limit: u32) -> Result<Vec<EventRow>, DbError> {
    let rows = sqlx::query_as!(
        EventRow,
        "SELECT id, instance_id, process, at, level, path, incarnation, event, reason, detail, by_whom, why
         FROM supervision_events WHERE $1::text IS NULL OR instance_id = $1
         ORDER BY id DESC LIMIT $2",
        instance_id,
        i64::from(limit.min(EVENTS_LISTED_MAX)),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().rev().collect())
}

/// Stores `records` of one process and deletes what is beyond [`EVENTS_KEPT_MAX`]. Writing a record again changes
/// nothing.
pub(super) async fn store(
    db: &Database,
    instance_id: &str,
    process: Uuid,
    records: &[(i64, EventRecord)],
) -> Result<(), DbError> {
    let seqs: Vec<i64> = records.iter().map(|(seq, _)| *seq).collect();
    let of = || records.iter().map(|(_, record)| record);
    let ats: Vec<DateTime<Utc>> = of().map(|record| record.at).collect();
    let levels: Vec<String> = of().map(|record| record.level.to_owned()).collect();
    let paths: Vec<String> = of().map(|record| record.path.clone()).collect();
    let incarnations: Vec<i64> = of().map(|record| record.incarnation).collect();
    let names: Vec<String> = of().map(|record| record.event.to_owned()).collect();
    let reasons: Vec<Option<String>> = of().map(|record| record.reason.clone()).collect();
    let details: Vec<Value> = of().map(|record| record.detail.clone()).collect();
    let whos: Vec<Option<String>> = of().map(|record| record.by_whom.clone()).collect();
    let whys: Vec<Option<String>> = of().map(|record| record.why.clone()).collect();
    let kept_before = i64::try_from(EVENTS_KEPT_MAX.saturating_sub(records.len())).unwrap_or(0);
    sqlx::query!(
        "WITH stored AS (
           INSERT INTO supervision_events
             (instance_id, process, seq, at, level, path, incarnation, event, reason, detail, by_whom, why)
           SELECT $1, $2, n.* FROM unnest($3::bigint[], $4::timestamptz[], $5::text[], $6::text[], $7::bigint[],
             $8::text[], $9::text[], $10::jsonb[], $11::text[], $12::text[]) AS n
           ON CONFLICT (process, seq) DO NOTHING
         )
         DELETE FROM supervision_events
         WHERE instance_id = $1
           AND id <= (SELECT id FROM supervision_events WHERE instance_id = $1 ORDER BY id DESC OFFSET $13 LIMIT 1)",
        instance_id,
        process,
        &seqs,
        &ats,
        &levels,
        &paths,
        &incarnations,
        &names,
        &reasons as &[Option<String>],
        &details,
        &whos as &[Option<String>],
        &whys as &[Option<String>],
        kept_before,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes events of all instances that are older than 30 days, some of them at a time.
pub(super) async fn forget_old(db: &Database) -> Result<(), DbError> {
    sqlx::query!(
        "DELETE FROM supervision_events WHERE id IN (
           SELECT id FROM supervision_events WHERE inserted_at < now() - interval '30 days' LIMIT $1
         )",
        FORGOTTEN_MAX,
    )
    .execute(db)
    .await?;
    Ok(())
}
