//! Statements on budgets.
//!
//! Every change of a window locks its row first, in the order of names, so callers on all instances take turns and
//! never wait for each other in a circle. The database's clock says which period it is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::postgres::{Database, DbError, Transaction};
use crate::workflow::models::budget::{Exhausted, Limited, Window, admit};

/// How long after its expiry a reservation that nobody settled is kept: a call cannot be under way for so long. One
/// that its window still counts is kept until that is given back, or is over.
const KEPT_SECS: f64 = 86_400.0;
/// Reservations that one call clears away.
const CLEARED_MAX: i64 = 100;
/// Statements of a transaction: windows are made, reservations given back and deleted, windows read, one reserved.
const STATEMENTS: u32 = 5;

/// Who reserves.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// The job.
    pub job_id: i64,
    /// The instance that runs it.
    pub instance_id: &'a str,
    /// When its attempt began, by which one attempt is told from another.
    pub attempted_at: Option<DateTime<Utc>>,
}

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// It was not made: as if nothing had been reserved.
    Nothing,
    /// It was made, at this cost; `None` where none is known.
    Call(Option<i64>),
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct Budgets {
    db: Database,
}

impl Budgets {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        Self { db }
    }

    /// The present period of each of `limits`, in their order; one that nobody has used is empty.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn windows(&self, limits: &[Limited]) -> Result<Vec<Window>, DbError> {
        let columns = Columns::of(limits);
        let rows = sqlx::query_as!(
            Window,
            r#"SELECT d.budget AS "budget!", d.starts_at AS "starts_at!", d.ends_at AS "ends_at!",
                      COALESCE(w.spent_nanousd, 0) AS "spent_nanousd!", COALESCE(w.requests, 0) AS "requests!",
                      COALESCE(w.unpriced, 0) AS "unpriced!", COALESCE(w.reserved_nanousd, 0) AS "reserved_nanousd!",
                      COALESCE(w.reserved_requests, 0) AS "reserved_requests!"
               FROM (SELECT d.budget, d.position,
                            date_trunc(d.period, now() AT TIME ZONE d.zone) AT TIME ZONE d.zone AS starts_at,
                            (date_trunc(d.period, now() AT TIME ZONE d.zone) + ('1 ' || d.period)::interval)
                              AT TIME ZONE d.zone AS ends_at
                     FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS d (budget, period, zone, position)
                    ) AS d
               LEFT JOIN budget_windows w ON w.budget = d.budget AND w.starts_at = d.starts_at
               ORDER BY d.position"#,
            &columns.names,
            &columns.periods,
            &columns.zones,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }

    /// Reserves a call that costs at most `nanousd` in all of `limits`, or in none. What an earlier attempt of the same
    /// job left, and what has expired, is given back first. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`DbError`]. The inner error is the budget that has no room, the one with the longest wait.
    pub async fn reserve(
        &self,
        limits: &[Limited],
        id: Uuid,
        nanousd: i64,
        holder: Holder<'_>,
        expires_in: Duration,
    ) -> Result<Result<(), Exhausted>, DbError> {
        let reserving = async |mut tx: Transaction<'_>| -> Result<_, DbError> {
            let columns = Columns::of(limits);
            let (starts, now) = open(&mut tx, &columns).await?;
            let is_reserved = sqlx::query_scalar!(
                r#"SELECT EXISTS (SELECT FROM budget_reservations WHERE id = $1) AS "is_reserved!""#,
                id
            );
            if is_reserved.fetch_one(&mut *tx).await? {
                // By a transaction before, whose answer was lost.
                return Ok(Ok(()));
            }
            release(&mut tx, &columns.names, &starts, holder).await?;
            let windows = locked(&mut tx, &columns.names, &starts).await?;
            let refused = limits
                .iter()
                .zip(&windows)
                .filter_map(|(limit, window)| admit(limit, window, nanousd, now).err())
                .max_by_key(|refusal| refusal.wait);
            if refused.is_none() {
                sqlx::query!(
                    "WITH mine AS (
                       INSERT INTO budget_reservations (id, budget, starts_at, nanousd, job_id, instance_id, expires_at,
                                                        attempted_at)
                       SELECT $1, d.budget, d.starts_at, $4, $5, $6, now() + $7::float8 * interval '1 second', $8
                       FROM unnest($2::text[], $3::timestamptz[]) AS d (budget, starts_at)
                       RETURNING budget, starts_at
                     )
                     UPDATE budget_windows w
                     SET reserved_nanousd = w.reserved_nanousd + $4, reserved_requests = w.reserved_requests + 1
                     FROM mine WHERE w.budget = mine.budget AND w.starts_at = mine.starts_at",
                    id,
                    &columns.names,
                    &starts,
                    nanousd,
                    holder.job_id,
                    holder.instance_id,
                    expires_in.as_secs_f64(),
                    holder.attempted_at,
                )
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            Ok(refused.map_or(Ok(()), Err))
        };
        self.db.transaction(STATEMENTS, reserving).await
    }

    /// Puts what a call cost in the place of what was reserved for it. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn settle(&self, id: Uuid, spent: Spent) -> Result<(), DbError> {
        let (requests, cost) = match spent {
            Spent::Nothing => (0_i64, Some(0)),
            Spent::Call(cost) => (1, cost),
        };
        let settling = async |mut tx: Transaction<'_>| -> Result<_, DbError> {
            sqlx::query!(
                "SELECT w.budget FROM budget_windows w
                 WHERE (w.budget, w.starts_at) IN (SELECT r.budget, r.starts_at FROM budget_reservations r WHERE r.id = $1)
                 ORDER BY w.budget FOR UPDATE",
                id,
            )
            .fetch_all(&mut *tx)
            .await?;
            sqlx::query!(
                "WITH gone AS (
                   DELETE FROM budget_reservations WHERE id = $1 RETURNING budget, starts_at, nanousd, released
                 )
                 UPDATE budget_windows w
                 SET spent_nanousd = w.spent_nanousd + $2, requests = w.requests + $3, unpriced = w.unpriced + $4,
                     reserved_nanousd = w.reserved_nanousd - CASE WHEN gone.released THEN 0 ELSE gone.nanousd END,
                     reserved_requests = w.reserved_requests - CASE WHEN gone.released THEN 0 ELSE 1 END
                 FROM gone WHERE w.budget = gone.budget AND w.starts_at = gone.starts_at",
                id,
                cost.unwrap_or(0),
                requests,
                i64::from(cost.is_none()),
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(())
        };
        self.db.transaction(STATEMENTS, settling).await
    }
}

/// Makes the windows of the present period, and locks them. Returns their beginnings, in the order of `columns`, and
/// the time.
async fn open(tx: &mut PgConnection, columns: &Columns) -> Result<(Vec<DateTime<Utc>>, DateTime<Utc>), DbError> {
    let rows = sqlx::query!(
        r#"INSERT INTO budget_windows (budget, starts_at, ends_at)
           SELECT d.budget, date_trunc(d.period, now() AT TIME ZONE d.zone) AT TIME ZONE d.zone,
                  (date_trunc(d.period, now() AT TIME ZONE d.zone) + ('1 ' || d.period)::interval) AT TIME ZONE d.zone
           FROM unnest($1::text[], $2::text[], $3::text[]) AS d (budget, period, zone)
           ORDER BY d.budget
           ON CONFLICT (budget, starts_at) DO UPDATE SET ends_at = excluded.ends_at
           RETURNING budget, starts_at, now() AS "now!""#,
        &columns.names,
        &columns.periods,
        &columns.zones,
    )
    .fetch_all(tx)
    .await?;
    let starts = columns.names.iter().filter_map(|name| rows.iter().find(|row| row.budget == *name));
    Ok((starts.map(|row| row.starts_at).collect(), rows.first().map(|row| row.now).unwrap_or_default()))
}

/// Gives back what nobody will settle: reservations of these windows that have expired or are an earlier attempt's.
async fn release(
    tx: &mut PgConnection,
    names: &[String],
    starts: &[DateTime<Utc>],
    holder: Holder<'_>,
) -> Result<(), DbError> {
    sqlx::query!(
        "WITH given_back AS (
           UPDATE budget_reservations r SET released = true
           FROM unnest($1::text[], $2::timestamptz[]) AS d (budget, starts_at)
           WHERE r.budget = d.budget AND r.starts_at = d.starts_at
             AND NOT r.released
             AND (r.job_id = $3 AND r.attempted_at IS DISTINCT FROM $4 OR r.expires_at <= now())
           RETURNING r.budget, r.starts_at, r.nanousd
         ), sums AS (
           SELECT budget, starts_at, SUM(nanousd)::bigint AS nanousd, COUNT(*) AS requests
           FROM given_back GROUP BY budget, starts_at
         )
         UPDATE budget_windows w
         SET reserved_nanousd = w.reserved_nanousd - sums.nanousd, reserved_requests = w.reserved_requests - sums.requests
         FROM sums WHERE w.budget = sums.budget AND w.starts_at = sums.starts_at",
        names,
        starts,
        holder.job_id,
        holder.attempted_at,
    )
    .execute(&mut *tx)
    .await?;
    // A row that somebody is settling is left to them.
    sqlx::query!(
        "DELETE FROM budget_reservations WHERE (id, budget) IN (
           SELECT id, budget FROM budget_reservations r WHERE r.expires_at < now() - $1::float8 * interval '1 second'
             AND (r.released OR NOT EXISTS (
               SELECT FROM budget_windows w
               WHERE w.budget = r.budget AND w.starts_at = r.starts_at AND w.ends_at > now()))
           LIMIT $2 FOR UPDATE SKIP LOCKED)",
        KEPT_SECS,
        CLEARED_MAX,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// The windows as they stand under the lock, in the order of `names`.
async fn locked(tx: &mut PgConnection, names: &[String], starts: &[DateTime<Utc>]) -> Result<Vec<Window>, DbError> {
    let windows = sqlx::query_as!(
        Window,
        "SELECT w.budget, w.starts_at, w.ends_at, w.spent_nanousd, w.requests, w.unpriced, w.reserved_nanousd,
                w.reserved_requests
         FROM unnest($1::text[], $2::timestamptz[]) WITH ORDINALITY AS d (budget, starts_at, position)
         JOIN budget_windows w ON w.budget = d.budget AND w.starts_at = d.starts_at
         ORDER BY d.position",
        names,
        starts,
    )
    .fetch_all(tx)
    .await?;
    Ok(windows)
}

/// Budgets as one array a column.
struct Columns {
    names: Vec<String>,
    periods: Vec<String>,
    zones: Vec<String>,
}

impl Columns {
    fn of(limits: &[Limited]) -> Self {
        Self {
            names: limits.iter().map(|limit| limit.name.clone()).collect(),
            periods: limits.iter().map(|limit| limit.budget.period.as_str().to_owned()).collect(),
            zones: limits.iter().map(|limit| limit.budget.timezone.clone()).collect(),
        }
    }
}
