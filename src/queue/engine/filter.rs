//! Which jobs: the conditions of listing and of changing many.
//!
//! Only conditions that are asked for stand in a statement, put together from fixed pieces, and states stand in it as
//! words. A condition that a parameter switches off (`$1 IS NULL OR …`) would keep a plan from using an index.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::{Postgres, QueryBuilder};

use super::Engine;
use crate::queue::error::QueueError;
use crate::queue::state::State;

/// Values of one field of a filter.
pub const FILTER_VALUES_MAX: usize = 10_000;

/// Which jobs: those that fit every field that is set, each with any of its values. Without a field all jobs fit; a
/// field without values fits none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobFilter {
    /// With these ids.
    pub ids: Option<Vec<i64>>,
    /// In these states.
    pub states: Option<Vec<State>>,
    /// Of these queues.
    pub queues: Option<Vec<String>>,
    /// Of these workers.
    pub workers: Option<Vec<String>>,
    /// With any of these tags, which are stored in lower case.
    pub tags: Option<Vec<String>>,
    /// Whose arguments contain these, as `jsonb` contains: the same values at least under the same keys.
    pub args: Option<Map<String, Value>>,
    /// That were inserted, claimed or finished at this time or later.
    pub since: Option<DateTime<Utc>>,
}

impl JobFilter {
    /// One job.
    pub fn id(id: i64) -> Self {
        Self { ids: Some(vec![id]), ..Self::default() }
    }

    /// # Errors
    /// [`QueueError::Invalid`] for a field with more than [`FILTER_VALUES_MAX`] values.
    pub(super) fn check(&self) -> Result<(), QueueError> {
        let count = |values: &Option<Vec<String>>| values.as_ref().map_or(0, Vec::len);
        for (field, values) in [
            ("ids", self.ids.as_ref().map_or(0, Vec::len)),
            ("queues", count(&self.queues)),
            ("workers", count(&self.workers)),
            ("tags", count(&self.tags)),
        ] {
            if values > FILTER_VALUES_MAX {
                let value = format!("{values} values");
                return Err(QueueError::Invalid { field, value, allowed: "at most 10000 values" });
            }
        }
        Ok(())
    }

    /// Appends ` AND …` for each field that is set, on alias `j`.
    pub(super) fn push(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some(ids) = &self.ids {
            sql.push(" AND j.id = ANY(").push_bind(ids.clone()).push(")");
        }
        if let Some(states) = &self.states {
            push_states(sql, " AND j.state", states);
        }
        if let Some(queues) = &self.queues {
            sql.push(" AND j.queue = ANY(").push_bind(queues.clone()).push(")");
        }
        if let Some(workers) = &self.workers {
            sql.push(" AND j.worker = ANY(").push_bind(workers.clone()).push(")");
        }
        if let Some(tags) = &self.tags {
            sql.push(" AND j.tags && ").push_bind(tags.clone());
        }
        if let Some(args) = &self.args {
            sql.push(" AND j.args @> ").push_bind(Value::Object(args.clone()));
        }
        if let Some(since) = self.since {
            // Without those that are NULL.
            sql.push(
                " AND greatest(j.inserted_at, j.attempted_at, j.completed_at, j.discarded_at, j.cancelled_at) >= ",
            );
            sql.push_bind(since.naive_utc());
        }
    }
}

/// Appends `column IN (states)`; without states a condition that nothing fits.
pub(super) fn push_states(sql: &mut QueryBuilder<Postgres>, column: &str, states: &[State]) {
    sql.push(column).push(" IN (");
    if states.is_empty() {
        sql.push("NULL");
    }
    let mut list = sql.separated(", ");
    for state in states {
        list.push(format_args!("'{state}'"));
    }
    sql.push(")");
}

impl Engine {
    /// The filter as a statement takes it.
    ///
    /// With a queue it names states, all if need be, because the index that finds a queue begins with the state. Only
    /// states that this database has: versions before 14 do not know `suspended`, and refuse a statement with the word.
    pub(super) async fn known_states(&self, filter: &JobFilter) -> Result<JobFilter, QueueError> {
        filter.check()?;
        let mut filter = filter.clone();
        if filter.queues.is_some() && filter.states.is_none() {
            filter.states = Some(State::ALL.to_vec());
        }
        if let Some(states) = &mut filter.states
            && states.contains(&State::Suspended)
        {
            let known = sqlx::query_scalar!(
                r#"SELECT EXISTS (SELECT FROM pg_enum WHERE enumtypid = 'oban_job_state'::regtype
                                  AND enumlabel = 'suspended') AS "known!""#
            )
            .fetch_one(&self.db)
            .await?;
            states.retain(|state| known || *state != State::Suspended);
        }
        Ok(filter)
    }
}
