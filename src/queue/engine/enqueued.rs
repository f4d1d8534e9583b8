//! Which jobs wait to run, by what a test says about them; and making waiting ones available for it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::Engine;
use super::read::LIST_MAX;
use super::row::job_query;
use crate::queue::error::QueueError;
use crate::queue::job::Job;
use crate::queue::worker::Worker;

/// How far a due time may be from the one that is named, unless said otherwise; Oban's.
const WITHIN_DEFAULT: Duration = Duration::from_secs(1);

/// What is known about a job that should, or should not, wait to run. Everything that is said must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Enqueued {
    worker: Option<String>,
    queue: Option<String>,
    priority: Option<i32>,
    args: Map<String, Value>,
    arg_keys: Vec<String>,
    meta: Map<String, Value>,
    tags: Vec<String>,
    due: Option<Due>,
    within: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Due {
    At(DateTime<Utc>),
    In(Duration),
}

impl Enqueued {
    /// Any job.
    pub fn any() -> Self {
        Self {
            worker: None,
            queue: None,
            priority: None,
            args: Map::new(),
            arg_keys: Vec::new(),
            meta: Map::new(),
            tags: Vec::new(),
            due: None,
            within: WITHIN_DEFAULT,
        }
    }

    /// One of this worker, under its present name.
    pub fn of<W: Worker>() -> Self {
        Self::any().worker(W::NAME)
    }

    /// One of the worker of this name.
    #[must_use]
    pub fn worker(mut self, name: impl Into<String>) -> Self {
        self.worker = Some(name.into());
        self
    }

    /// One in this queue.
    #[must_use]
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queue = Some(name.into());
        self
    }

    /// One of this priority.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// One whose arguments contain this pair, whatever else they have. Objects may say less than the job's; an array is
    /// contained when each of its elements is.
    #[must_use]
    pub fn arg(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.args.insert(key.into(), value.into());
        self
    }

    /// One whose arguments have this key, with any value.
    #[must_use]
    pub fn any_arg(mut self, key: impl Into<String>) -> Self {
        self.arg_keys.push(key.into());
        self
    }

    /// One whose `meta` contains this pair, as [`Enqueued::arg`].
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.meta.insert(key.into(), value.into());
        self
    }

    /// One that has this tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// One that is due at this moment, give or take [`Enqueued::within`].
    #[must_use]
    pub fn scheduled_at(mut self, moment: DateTime<Utc>) -> Self {
        self.due = Some(Due::At(moment));
        self
    }

    /// One that is due so long from now, by the database's clock, give or take [`Enqueued::within`].
    #[must_use]
    pub fn scheduled_in(mut self, delay: Duration) -> Self {
        self.due = Some(Due::In(delay));
        self
    }

    /// How far a due time may be off; 1 s unless set.
    #[must_use]
    pub fn within(mut self, delta: Duration) -> Self {
        self.within = delta;
        self
    }
}

impl Engine {
    /// Jobs that wait to run (`available`, `scheduled`, `suspended`) and fit, oldest first, at most [`LIST_MAX`].
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn enqueued(&self, wanted: &Enqueued) -> Result<Vec<Job>, QueueError> {
        let (at, in_ms) = match wanted.due {
            Some(Due::At(at)) => (Some(at), None),
            Some(Due::In(delay)) => (None, Some(millis(delay))),
            None => (None, None),
        };
        let rows = job_query!(
            "SELECT ",
            "FROM oban_jobs j
             WHERE j.state::text IN ('available', 'scheduled', 'suspended')
               AND ($1::text IS NULL OR j.worker = $1) AND ($2::text IS NULL OR j.queue = $2)
               AND ($3::int IS NULL OR j.priority = $3)
               AND COALESCE(j.args, '{}') @> $4::jsonb AND COALESCE(j.args, '{}') ?& $5::text[]
               AND COALESCE(j.meta, '{}') @> $6::jsonb AND COALESCE(j.tags, '{}') @> $7::text[]
               AND (($8::timestamptz IS NULL AND $9::bigint IS NULL)
                    OR abs(extract(epoch FROM j.scheduled_at - timezone('UTC',
                         COALESCE($8, clock_timestamp() + $9 * interval '1 millisecond')))) * 1000 <= $10::bigint)
             ORDER BY j.id LIMIT $11",
            wanted.worker.as_deref(),
            wanted.queue.as_deref(),
            wanted.priority,
            Value::Object(wanted.args.clone()),
            &wanted.arg_keys,
            Value::Object(wanted.meta.clone()),
            &wanted.tags,
            at,
            in_ms,
            millis(wanted.within),
            i64::from(LIST_MAX),
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows.into_iter().map(Job::try_from).collect::<Result<_, _>>()?)
    }

    /// Makes scheduled and retryable jobs of one queue available: all, or those that are due at `until`. Returns how
    /// many. Sends no notice: who drains a queue looks by himself.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn make_available(&self, queue: &str, until: Option<DateTime<Utc>>) -> Result<u64, QueueError> {
        let done = sqlx::query!(
            "UPDATE oban_jobs SET state = 'available'
             WHERE state IN ('scheduled', 'retryable') AND queue = $1
               AND ($2::timestamptz IS NULL OR scheduled_at <= timezone('UTC', $2))",
            queue,
            until,
        )
        .execute(&self.db)
        .await?;
        Ok(done.rows_affected())
    }
}

fn millis(duration: Duration) -> i64 {
    // A thousand years: far enough for any job, and within what a timestamp can be moved by.
    const FURTHEST: i64 = 1_000 * 365 * 86_400_000;
    i64::try_from(duration.as_millis()).map_or(FURTHEST, |millis| millis.min(FURTHEST))
}
