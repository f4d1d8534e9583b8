//! Changing jobs that are there: one, or all that fit a filter. What is allowed in which state says
//! [`Change`](crate::queue::Change).
//!
//! One statement does one batch: it chooses rows in the order of ids, locks them, looks at their state again, writes,
//! and sends the notices, so a batch and its notices happen together or not at all. It is put together from fixed
//! pieces by what is asked (see `filter`), and planned for its values each time.

use std::collections::BTreeMap;

use sqlx::{Postgres, QueryBuilder, Row};

use super::Engine;
use super::attempts::{fewest_max_attempts, most_attempts};
use super::filter::{JobFilter, push_states};
use crate::queue::change::{Change, JobUpdate};
use crate::queue::error::QueueError;
use crate::queue::new_job::Schedule;
use crate::queue::state::State;

/// Jobs in one statement. Bounds how long others wait for the rows, and the notices of one transaction.
pub const CHANGE_BATCH_MAX: u64 = 1_000;

/// What became of one job that somebody wanted changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Changed; the state before.
    Yes(State),
    /// There, but in a state that does not allow it.
    No(State),
    /// No such job.
    NotFound,
}

/// What became of all jobs that fit a filter, by the state before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedMany {
    /// Jobs that were changed.
    pub changed: BTreeMap<State, u64>,
    /// Jobs that fit and were left: their state does not allow the change, or the limit was reached before.
    pub left: BTreeMap<State, u64>,
}

impl ChangedMany {
    /// Number of jobs that were changed.
    pub fn total(&self) -> u64 {
        self.changed.values().sum()
    }
}

/// Whether a row that somebody else has locked is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locked {
    Wait,
    Skip,
}

/// One row that a statement looked at.
struct Looked {
    id: i64,
    /// The state before; `None` when the row is locked by somebody else or fits no more.
    state: Option<State>,
    changed: bool,
}

impl Engine {
    /// Cancels a job unless it is finished. One that executes is told to stop, wherever it runs; its row is cancelled
    /// at once, so what its runner writes later no longer counts. Its children are cancelled with it.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn cancel(&self, id: i64) -> Result<Changed, QueueError> {
        self.change(&Change::Cancel, id).await
    }

    /// Makes a job available again that waits or is finished; allows one more attempt where they are used up.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn retry(&self, id: i64) -> Result<Changed, QueueError> {
        self.change(&Change::Retry, id).await
    }

    /// Deletes a job unless it executes.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn delete(&self, id: i64) -> Result<Changed, QueueError> {
        self.change(&Change::Delete, id).await
    }

    /// Gives columns of a job other values.
    ///
    /// # Errors
    /// [`QueueError::Invalid`], [`QueueError::Db`].
    pub async fn update(&self, id: i64, update: JobUpdate) -> Result<Changed, QueueError> {
        let change = Change::Update(Box::new(update)).validated()?;
        self.change(&change, id).await
    }

    async fn change(&self, change: &Change, id: i64) -> Result<Changed, QueueError> {
        let looked = self.batch(change, &JobFilter::id(id), 0, 1, Locked::Wait).await?;
        if *change == Change::Cancel && looked.iter().any(|one| one.changed) {
            self.cancel_orphans().await?;
        }
        Ok(match looked.first() {
            Some(Looked { state: Some(state), changed: true, .. }) => Changed::Yes(*state),
            Some(Looked { state: Some(state), .. }) => Changed::No(*state),
            // None: deleted while we waited for its row.
            Some(Looked { state: None, .. }) | None => Changed::NotFound,
        })
    }

    /// Cancels all jobs that fit. See [`Engine::change_all`].
    ///
    /// # Errors
    /// As [`Engine::change_all`].
    pub async fn cancel_all(&self, filter: &JobFilter) -> Result<ChangedMany, QueueError> {
        self.change_all(Change::Cancel, filter, None).await
    }

    /// Retries all jobs that fit. See [`Engine::change_all`].
    ///
    /// # Errors
    /// As [`Engine::change_all`].
    pub async fn retry_all(&self, filter: &JobFilter) -> Result<ChangedMany, QueueError> {
        self.change_all(Change::Retry, filter, None).await
    }

    /// Deletes all jobs that fit. See [`Engine::change_all`].
    ///
    /// # Errors
    /// As [`Engine::change_all`].
    pub async fn delete_all(&self, filter: &JobFilter) -> Result<ChangedMany, QueueError> {
        self.change_all(Change::Delete, filter, None).await
    }

    /// Updates all jobs that fit. See [`Engine::change_all`].
    ///
    /// # Errors
    /// As [`Engine::change_all`].
    pub async fn update_all(&self, filter: &JobFilter, update: JobUpdate) -> Result<ChangedMany, QueueError> {
        self.change_all(Change::Update(Box::new(update)), filter, None).await
    }

    /// Changes all jobs that fit and whose state allows it, the oldest first, at most `limit`, in batches of
    /// [`CHANGE_BATCH_MAX`].
    ///
    /// Every batch is a transaction of its own: after an error, or when the future is dropped, those before it are
    /// done, and calling it again goes on with what is left. A row that somebody else has locked at that moment is
    /// waited for alone, after its batch, so two that change many jobs never wait for each other.
    ///
    /// # Errors
    /// [`QueueError::Invalid`], [`QueueError::Db`].
    pub async fn change_all(
        &self,
        change: Change,
        filter: &JobFilter,
        limit: Option<u64>,
    ) -> Result<ChangedMany, QueueError> {
        let change = change.validated()?;
        let mut result = ChangedMany { left: self.count_by_state(filter).await?, ..ChangedMany::default() };
        let mut states = change.states();
        if let Some(wanted) = &filter.states {
            states.retain(|state| wanted.contains(state));
        }
        let filter = self.known_states(&JobFilter { states: Some(states), ..filter.clone() }).await?;
        let mut after = 0;
        loop {
            let size = limit.unwrap_or(u64::MAX).saturating_sub(result.total()).min(CHANGE_BATCH_MAX);
            let looked = self.batch(&change, &filter, after, size, Locked::Skip).await?;
            for one in &looked {
                result.count(one);
            }
            for one in looked.iter().filter(|one| one.state.is_none()) {
                let alone = JobFilter { ids: Some(vec![one.id]), ..filter.clone() };
                self.batch(&change, &alone, 0, 1, Locked::Wait).await?.iter().for_each(|one| result.count(one));
            }
            match looked.last() {
                Some(last) if looked.len() as u64 == size => after = last.id,
                _ => break,
            }
        }
        if change == Change::Cancel && result.total() > 0 {
            self.cancel_orphans().await?;
        }
        Ok(result)
    }

    /// How many jobs fit, by state.
    ///
    /// # Errors
    /// [`QueueError::Invalid`], [`QueueError::Db`].
    pub async fn count_by_state(&self, filter: &JobFilter) -> Result<BTreeMap<State, u64>, QueueError> {
        let filter = self.known_states(filter).await?;
        let mut sql = QueryBuilder::new("SELECT j.state::text, count(*) FROM oban_jobs j WHERE true");
        filter.push(&mut sql);
        sql.push(" GROUP BY j.state");
        let rows = sql.build().persistent(false).fetch_all(&self.db).await?;
        rows.iter()
            .map(|row| Ok((state(row.try_get(0)?)?, u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or_default())))
            .collect()
    }

    /// Changes the first `size` jobs after id `after` that fit, and returns all that it looked at.
    async fn batch(
        &self,
        change: &Change,
        filter: &JobFilter,
        after: i64,
        size: u64,
        locked: Locked,
    ) -> Result<Vec<Looked>, QueueError> {
        let mut sql = QueryBuilder::new("WITH fit AS MATERIALIZED (SELECT j.id FROM oban_jobs j WHERE j.id > ");
        sql.push_bind(after);
        filter.push(&mut sql);
        sql.push(" ORDER BY j.id LIMIT ").push_bind(i64::try_from(size).unwrap_or(i64::MAX));
        // The row as it is when it is locked may fit no more. A subquery that locks is planned by itself, for one id.
        sql.push(
            "), held AS MATERIALIZED (
               SELECT h.id, h.state FROM fit, LATERAL (SELECT j.id, j.state FROM oban_jobs j WHERE j.id = fit.id",
        );
        filter.push(&mut sql);
        sql.push(match locked {
            Locked::Wait => " FOR UPDATE) h",
            Locked::Skip => " FOR UPDATE SKIP LOCKED) h",
        });
        sql.push("), changed AS (");
        match change {
            Change::Delete => sql.push("DELETE FROM oban_jobs j USING held"),
            _ => sql.push("UPDATE oban_jobs j SET "),
        };
        match change {
            Change::Delete => &mut sql,
            Change::Cancel => sql.push("state = 'cancelled', cancelled_at = timezone('UTC', clock_timestamp())"),
            // Where the column holds no more attempts, the last one is given back: a row without one left would be
            // available for ever, and one whose number does not fit would stop the whole statement.
            Change::Retry => sql.push(concat!(
                "state = 'available', scheduled_at = timezone('UTC', clock_timestamp()),
                 attempt = LEAST(j.attempt, ",
                most_attempts!(),
                " - 1), max_attempts = GREATEST(j.max_attempts, LEAST(j.attempt, ",
                most_attempts!(),
                " - 1) + 1), completed_at = NULL, cancelled_at = NULL, discarded_at = NULL",
            )),
            Change::Update(update) => push_update(&mut sql, update),
        };
        if *change != Change::Delete {
            sql.push(" FROM held");
        }
        sql.push(" WHERE j.id = held.id AND ");
        // As text, so that no index on the state fits: a row is found by its id.
        push_states(&mut sql, "held.state::text", &change.states());
        sql.push(" RETURNING j.id, held.state::text AS was, j.state::text AS state, j.queue), told AS (");
        match change {
            // Oban's form: one notice a job, for whoever runs it.
            Change::Cancel => sql
                .push("SELECT count(pg_notify(")
                .push_bind(self.db.channel("signal"))
                .push(", json_build_object('action', 'pkill', 'job_id', id)::text)) AS notes")
                .push(" FROM changed WHERE was = 'executing'"),
            Change::Retry | Change::Update(_) => sql
                .push("SELECT count(pg_notify(")
                .push_bind(self.db.channel("insert"))
                .push(", json_build_object('queue', queue)::text)) AS notes")
                .push(" FROM (SELECT DISTINCT queue FROM changed WHERE state = 'available') q"),
            Change::Delete => sql.push("SELECT 0 AS notes"),
        };
        sql.push(
            ") SELECT fit.id, held.state::text, changed.id IS NOT NULL
               FROM fit LEFT JOIN held ON held.id = fit.id LEFT JOIN changed ON changed.id = fit.id, told
               WHERE told.notes >= 0 ORDER BY fit.id",
        );
        let rows = sql.build().persistent(false).fetch_all(&self.db).await?;
        rows.iter()
            .map(|row| {
                let state = row.try_get::<Option<&str>, _>(1)?.map(state).transpose()?;
                Ok(Looked { id: row.try_get(0)?, state, changed: row.try_get(2)? })
            })
            .collect()
    }
}

impl ChangedMany {
    fn count(&mut self, one: &Looked) {
        let Looked { state: Some(state), changed: true, .. } = one else { return };
        *self.changed.entry(*state).or_default() += 1;
        if let Some(left) = self.left.get_mut(state) {
            *left -= 1;
            if *left == 0 {
                self.left.remove(state);
            }
        }
    }
}

/// Appends the assignments of an update, on alias `j`.
fn push_update<'sql>(sql: &'sql mut QueryBuilder<Postgres>, update: &JobUpdate) -> &'sql mut QueryBuilder<Postgres> {
    let mut set = sql.separated(", ");
    if let Some(args) = &update.args {
        set.push("args = ").push_bind_unseparated(args.clone());
    }
    if let Some(max_attempts) = update.max_attempts {
        set.push("max_attempts = GREATEST(").push_bind_unseparated(max_attempts).push_unseparated(concat!(
            ", ",
            fewest_max_attempts!(),
            ")"
        ));
    }
    if let Some(meta) = &update.meta {
        set.push("meta = ").push_bind_unseparated(serde_json::Value::Object(meta.clone()));
    }
    if let Some(priority) = update.priority {
        set.push("priority = ").push_bind_unseparated(priority);
    }
    if let Some(queue) = &update.queue {
        set.push("queue = ").push_bind_unseparated(queue.clone());
    }
    if let Some(tags) = &update.tags {
        set.push("tags = ").push_bind_unseparated(tags.clone());
    }
    if let Some(worker) = &update.worker {
        set.push("worker = ").push_bind_unseparated(worker.clone());
    }
    match update.schedule.map(Schedule::columns) {
        None => {}
        Some((_, Some(at))) => {
            set.push("state = 'scheduled', scheduled_at = timezone('UTC', ")
                .push_bind_unseparated(at)
                .push_unseparated("::timestamptz)");
        }
        Some((delay_ms, None)) => {
            set.push("state = 'scheduled', scheduled_at = timezone('UTC', clock_timestamp()) + ")
                .push_bind_unseparated(delay_ms.unwrap_or_default())
                .push_unseparated("::bigint * interval '1 millisecond'");
        }
    }
    sql
}

fn state(word: &str) -> Result<State, QueueError> {
    word.parse().map_err(|error: String| sqlx::Error::Decode(error.into()).into())
}
