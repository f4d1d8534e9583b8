//! What a person does to jobs that are there (cancel, retry, delete, update), and in which states: a pure table.
//!
//! The table is Oban's, with one difference: Oban's update wakes up whatever it gives a new time, finished jobs and
//! running ones too. Here a job's time can be changed only while it waits for it, and what a running attempt depends on
//! only while none runs. The rows are written by [`super::engine`].

use serde_json::{Map, Value};

use super::error::QueueError;
use super::new_job::{NewJob, Schedule};
use super::state::State;

/// What is done to jobs.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Cancelled for good, and told to stop where they run.
    Cancel,
    /// Available again, with one more attempt where they are used up; where the column cannot hold one more (32,767 in
    /// the table of Oban for Python), with the last one again. Releases suspended jobs.
    Retry,
    /// Gone.
    Delete,
    /// With other columns.
    Update(Box<JobUpdate>),
}

/// New values of columns of a job; what is `None` stays. The rules are those of [`NewJob`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobUpdate {
    /// Arguments, a JSON object, instead of the old ones.
    pub args: Option<Value>,
    /// Attempts allowed; never stored lower than those begun, nor, of a job that waits, so low that none is left.
    pub max_attempts: Option<i32>,
    /// All of `meta` instead of the old.
    pub meta: Option<Map<String, Value>>,
    /// 0 (most urgent) to 9.
    pub priority: Option<i32>,
    /// Queue; not while the job runs.
    pub queue: Option<String>,
    /// When it is due. The job is scheduled then, whatever it waited for; one that does not wait is left alone.
    pub schedule: Option<Schedule>,
    /// All tags instead of the old.
    pub tags: Option<Vec<String>>,
    /// Worker; not while the job runs.
    pub worker: Option<String>,
}

impl Change {
    /// Its name in Oban's words.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Delete => "delete",
            Self::Update(_) => "update",
        }
    }

    /// Whether a job in this state is changed.
    pub fn allows(&self, state: State) -> bool {
        match self {
            Self::Cancel => !state.is_terminal(),
            Self::Retry => !matches!(state, State::Available | State::Executing),
            Self::Delete => state != State::Executing,
            Self::Update(update) => {
                let waits = matches!(state, State::Scheduled | State::Available | State::Retryable);
                (waits || update.schedule.is_none())
                    && (state != State::Executing || (update.queue.is_none() && update.worker.is_none()))
            }
        }
    }

    /// All states in which a job is changed.
    pub fn states(&self) -> Vec<State> {
        State::ALL.into_iter().filter(|state| self.allows(*state)).collect()
    }

    /// The state of a changed job afterwards; `None` when it is gone.
    pub fn after(&self, before: State) -> Option<State> {
        match self {
            Self::Cancel => Some(State::Cancelled),
            Self::Retry => Some(State::Available),
            Self::Delete => None,
            Self::Update(update) if update.schedule.is_some() => Some(State::Scheduled),
            Self::Update(_) => Some(before),
        }
    }

    /// Checks every rule and brings tags into stored form.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] naming the field, the value and what is allowed.
    pub fn validated(self) -> Result<Self, QueueError> {
        match self {
            Self::Update(update) => Ok(Self::Update(Box::new(update.validated()?))),
            other => Ok(other),
        }
    }
}

impl JobUpdate {
    /// As [`Change::validated`].
    fn validated(self) -> Result<Self, QueueError> {
        if self == Self::default() {
            return Err(QueueError::Invalid {
                field: "update",
                value: "nothing".into(),
                allowed: "at least one of args, max_attempts, meta, priority, queue, scheduled_at, tags, worker",
            });
        }
        // The rules stand in one place: a new job with these values must be allowed. What is not changed is harmless.
        let mut job = NewJob::new("unchanged", Value::Object(Map::new()));
        job.worker = self.worker.clone().unwrap_or(job.worker);
        job.queue = self.queue.clone().unwrap_or(job.queue);
        job.args = self.args.clone().unwrap_or(job.args);
        job.meta = self.meta.clone().unwrap_or(job.meta);
        job.tags = self.tags.clone().unwrap_or(job.tags);
        job.priority = self.priority.unwrap_or(job.priority);
        job.max_attempts = self.max_attempts.unwrap_or(job.max_attempts);
        let job = job.validated()?;
        Ok(Self { tags: self.tags.is_some().then_some(job.tags), ..self })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn update(update: JobUpdate) -> Change {
        Change::Update(Box::new(update))
    }

    /// Oban's matrix, with the states in the order of a job's life: suspended, scheduled, available, executing,
    /// retryable, completed, discarded, cancelled.
    #[test]
    fn each_change_allows_the_states_of_the_matrix() {
        let priority = JobUpdate { priority: Some(1), ..JobUpdate::default() };
        let queue = JobUpdate { queue: Some("q".into()), ..JobUpdate::default() };
        let worker = JobUpdate { worker: Some("w".into()), ..JobUpdate::default() };
        let time = JobUpdate { schedule: Some(Schedule::Now), ..JobUpdate::default() };
        for (change, allowed) in [
            (Change::Cancel, [1, 1, 1, 1, 1, 0, 0, 0]),
            (Change::Retry, [1, 1, 0, 0, 1, 1, 1, 1]),
            (Change::Delete, [1, 1, 1, 0, 1, 1, 1, 1]),
            (update(priority), [1, 1, 1, 1, 1, 1, 1, 1]),
            (update(queue), [1, 1, 1, 0, 1, 1, 1, 1]),
            (update(worker), [1, 1, 1, 0, 1, 1, 1, 1]),
            (update(time), [0, 1, 1, 0, 1, 0, 0, 0]),
        ] {
            let found = State::ALL.map(|state| i32::from(change.allows(state)));
            assert_eq!(found, allowed, "{change:?}");
        }
    }

    #[test]
    fn an_update_keeps_the_rules_of_new_jobs() {
        let empty = JobUpdate::default();
        for (bad, field) in [
            (JobUpdate::default(), "update"),
            (JobUpdate { args: Some(json!([])), ..empty.clone() }, "args"),
            (JobUpdate { max_attempts: Some(0), ..empty.clone() }, "max_attempts"),
            (JobUpdate { priority: Some(10), ..empty.clone() }, "priority"),
            (JobUpdate { queue: Some(String::new()), ..empty.clone() }, "queue"),
            (JobUpdate { worker: Some("w".repeat(128)), ..empty.clone() }, "worker"),
        ] {
            let error = update(bad).validated().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
        let tags = Some(vec![" A".into(), "a".into()]);
        let stored = JobUpdate { tags, ..empty }.validated().unwrap();
        assert_eq!((stored.tags, stored.queue), (Some(vec!["a".to_owned()]), None));
    }
}
