//! Inserting jobs that are unique: the lock, the look, and what is written into the job that is there.
//!
//! All inserts of the same job take one transaction lock, look after they have it, and keep it until they are
//! committed. Statements carry the schema's name, because the connection may be the caller's, and are put together from
//! fixed pieces by what is compared, so that each one has only conditions that an index can serve.

use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::Engine;
use super::attempts::fewest_max_attempts;
use crate::queue::error::QueueError;
use crate::queue::new_job::{NewJob, Schedule};
use crate::queue::state::State;
use crate::queue::unique::{Replace, ReplaceField, Unique, UniqueField, UniqueTimestamp, Wanted};

/// Unique jobs in one call: each may hold a lock of its own, and a server has room for some thousands in all.
pub const UNIQUE_BATCH_MAX: usize = 1_000;
/// Longest period that is looked back, a hundred years in milliseconds; timestamps end somewhere.
const PERIOD_MS_MAX: i64 = 100 * 366 * 86_400_000;

/// A job that a new one repeats.
pub(super) struct Found {
    pub(super) id: i64,
    pub(super) replaced: bool,
}

impl Engine {
    /// Waits for everybody who inserts one of the unique jobs among `jobs` and has not committed; others wait for us
    /// from here on.
    ///
    /// The locks of one call are taken in their order, so that two calls never wait for each other. Several calls in
    /// one transaction may; PostgreSQL then ends one of the two.
    ///
    /// Returns the states that this database has, because it refuses a statement with the word of another.
    ///
    /// # Errors
    /// [`QueueError::TooMany`], [`QueueError::UniqueUnguarded`], [`QueueError::Db`].
    pub(super) async fn lock_unique(
        &self,
        connection: &mut PgConnection,
        jobs: &[NewJob],
    ) -> Result<Vec<State>, QueueError> {
        let schema = self.db.schema().as_str();
        let mut keys: Vec<i64> =
            jobs.iter().filter_map(|job| job.unique.as_ref().map(|unique| unique.lock_key(schema, job))).collect();
        if keys.len() > UNIQUE_BATCH_MAX {
            return Err(QueueError::TooMany { count: keys.len(), max: UNIQUE_BATCH_MAX });
        }
        keys.sort_unstable();
        keys.dedup();
        // The mark lives exactly as long as the locks do.
        let (isolation, states): (String, Vec<String>) = sqlx::query_as(
            "SELECT current_setting('transaction_isolation'),
                    ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = to_regtype($2)) FROM
               (SELECT count(pg_advisory_xact_lock(key)) AS locks,
                       set_config('singularity.unique', 'locked', true) AS mark
                FROM unnest($1::bigint[]) AS key) AS done
             WHERE done.locks >= 0 AND done.mark IS NOT NULL",
        )
        .bind(keys)
        .bind(format!(r#""{schema}".oban_job_state"#))
        .fetch_one(connection)
        .await?;
        if matches!(isolation.as_str(), "repeatable read" | "serializable") {
            return Err(QueueError::UniqueUnguarded {
                place: "in a transaction of level repeatable read or serializable, which does not see what others commit",
                way_out: "insert them in a transaction of isolation level READ COMMITTED",
            });
        }
        Ok(State::ALL.into_iter().filter(|state| states.iter().any(|known| known == state.as_str())).collect())
    }

    /// The oldest job that `job` would repeat, after the replacement that it asks for. Call it with the lock held, and
    /// the states that are `known` to the database.
    pub(super) async fn find_unique(
        &self,
        connection: &mut PgConnection,
        job: &NewJob,
        unique: &Unique,
        known: &[State],
    ) -> Result<Option<Found>, QueueError> {
        let row = self.look(connection, job, unique, known).await?;
        let (guarded, id): (bool, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        if !guarded {
            return Err(QueueError::UniqueUnguarded {
                place: "outside of a transaction",
                way_out: "begin a transaction on the connection first, or use Engine::insert",
            });
        }
        let Some(id) = id else { return Ok(None) };
        if job.replace.is_empty() {
            return Ok(Some(Found { id, replaced: false }));
        }
        // Gone meanwhile, the job is not there to be repeated.
        let replaced = self.replace(connection, id, job).await?;
        Ok(replaced.map(|replaced| Found { id, replaced }))
    }

    async fn look(
        &self,
        connection: &mut PgConnection,
        job: &NewJob,
        unique: &Unique,
        known: &[State],
    ) -> Result<sqlx::postgres::PgRow, QueueError> {
        let schema = self.db.schema().as_str();
        let states: Vec<State> = unique.states.iter().copied().filter(|state| known.contains(state)).collect();
        let mut conditions = vec![format!(r#"j.state = ANY($1::text[]::"{schema}".oban_job_state[])"#)];
        if unique.compares(UniqueField::Worker) {
            conditions.push("j.worker = $2".into());
        }
        if unique.compares(UniqueField::Queue) {
            conditions.push("j.queue = $3".into());
        }
        let empty = Map::new();
        let args = column(unique, UniqueField::Args, job.args.as_object().unwrap_or(&empty), &mut conditions);
        let meta = column(unique, UniqueField::Meta, &job.meta, &mut conditions);
        let period =
            unique.period.map(|period| i64::try_from(period.as_millis()).unwrap_or(i64::MAX).min(PERIOD_MS_MAX));
        if period.is_some() {
            let since = "timezone('UTC', clock_timestamp()) - $6::bigint * interval '1 millisecond'";
            conditions.push(match unique.timestamp {
                UniqueTimestamp::InsertedAt => format!("j.inserted_at >= {since}"),
                UniqueTimestamp::ScheduledAt => format!("j.scheduled_at >= {since}"),
            });
        }
        let sql = format!(
            r#"SELECT COALESCE(current_setting('singularity.unique', true), '') = 'locked',
                      (SELECT j.id FROM "{schema}".oban_jobs j WHERE {} ORDER BY j.id LIMIT 1)"#,
            conditions.join(" AND ")
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(words(&states))
            .bind(&job.worker)
            .bind(&job.queue)
            .bind(args)
            .bind(meta)
            .bind(period)
            .fetch_one(connection)
            .await?;
        Ok(row)
    }

    /// Writes what `job` replaces into job `id`, by the state that it has at this moment. `None` when it is gone.
    async fn replace(&self, connection: &mut PgConnection, id: i64, job: &NewJob) -> Result<Option<bool>, QueueError> {
        let schema = self.db.schema().as_str();
        // A new time counts only where one is given; the state stays, as in Oban.
        let (delay_ms, at) = job.schedule.columns();
        let fewest = fewest_max_attempts!();
        let sql = format!(
            r#"WITH old AS (SELECT id, state::text AS state FROM "{schema}".oban_jobs WHERE id = $1 FOR UPDATE),
               changed AS (
                 UPDATE "{schema}".oban_jobs j
                 SET args = CASE WHEN old.state = ANY($2) THEN $3 ELSE j.args END,
                     max_attempts = CASE WHEN old.state = ANY($4) THEN GREATEST($5, {fewest}) ELSE j.max_attempts END,
                     meta = CASE WHEN old.state = ANY($6) THEN $7 ELSE j.meta END,
                     priority = CASE WHEN old.state = ANY($8) THEN $9 ELSE j.priority END,
                     queue = CASE WHEN old.state = ANY($10) THEN $11 ELSE j.queue END,
                     scheduled_at = CASE WHEN old.state = ANY($12) THEN COALESCE(
                       timezone('UTC', $13::timestamptz),
                       timezone('UTC', clock_timestamp()) + $14::bigint * interval '1 millisecond', j.scheduled_at)
                       ELSE j.scheduled_at END,
                     tags = CASE WHEN old.state = ANY($15) THEN ARRAY(SELECT jsonb_array_elements_text($16)) ELSE j.tags END,
                     worker = CASE WHEN old.state = ANY($17) THEN $18 ELSE j.worker END
                 FROM old WHERE j.id = old.id AND old.state = ANY($19)
                 RETURNING j.queue, old.state
               ), told AS (
                 SELECT count(pg_notify($20, json_build_object('queue', queue)::text)) AS notes
                 FROM changed WHERE state = 'available'
               )
               SELECT EXISTS (SELECT FROM changed) FROM old, told WHERE told.notes >= 0"#
        );
        let of = |field| words(&job.replace.states_of(field));
        let replaced = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(id)
            .bind(of(ReplaceField::Args))
            .bind(&job.args)
            .bind(of(ReplaceField::MaxAttempts))
            .bind(job.max_attempts)
            .bind(of(ReplaceField::Meta))
            .bind(Value::Object(job.meta.clone()))
            .bind(of(ReplaceField::Priority))
            .bind(job.priority)
            .bind(of(ReplaceField::Queue))
            .bind(&job.queue)
            .bind(if job.schedule == Schedule::Now { Vec::new() } else { of(ReplaceField::ScheduledAt) })
            .bind(at)
            .bind(delay_ms)
            .bind(of(ReplaceField::Tags))
            .bind(Value::from(job.tags.clone()))
            .bind(of(ReplaceField::Worker))
            .bind(&job.worker)
            .bind(any_state(&job.replace))
            .bind(self.db.channel("insert"))
            .fetch_optional(connection)
            .await?;
        Ok(replaced)
    }
}

/// The condition on a JSON column, and what is bound to it.
fn column(unique: &Unique, field: UniqueField, own: &Map<String, Value>, conditions: &mut Vec<String>) -> Value {
    if !unique.compares(field) {
        return Value::Null;
    }
    let (name, number) = if field == UniqueField::Args { ("j.args", 4) } else { ("j.meta", 5) };
    match unique.wanted(own) {
        Wanted::Contains(map) => {
            conditions.push(format!("{name} @> ${number}"));
            map.into()
        }
        Wanted::Equal(map) => {
            conditions.push(format!("COALESCE({name}, '{{}}') = ${number}"));
            if !map.is_empty() {
                // Says nothing new, but an index answers it.
                conditions.push(format!("{name} @> ${number}"));
            }
            map.into()
        }
    }
}

fn words(states: &[State]) -> Vec<String> {
    states.iter().map(|state| state.as_str().to_owned()).collect()
}

fn any_state(replace: &Replace) -> Vec<String> {
    words(&State::ALL.into_iter().filter(|state| replace.writes_in(*state)).collect::<Vec<_>>())
}
