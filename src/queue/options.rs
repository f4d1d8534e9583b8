//! What the jobs of one worker have in common.

use std::time::Duration;

use super::new_job::{MAX_ATTEMPTS_DEFAULT, NewJob};
use super::unique::{Replace, Unique};

/// What jobs of a worker have unless one says otherwise: the options of `use Oban.Worker`.
///
/// ```
/// use std::time::Duration;
/// use singularity::queue::{Unique, WorkerOptions};
///
/// const OPTIONS: WorkerOptions = WorkerOptions {
///     queue: "mail",
///     max_attempts: 3,
///     timeout: Some(Duration::from_secs(30)),
///     unique: Some(|| Unique { keys: vec!["user_id".into()], ..Unique::forever() }),
///     ..WorkerOptions::DEFAULT
/// };
/// ```
#[derive(Debug, Clone, Copy)]
pub struct WorkerOptions {
    /// Queue.
    pub queue: &'static str,
    /// Attempts, 1 to 32,767.
    pub max_attempts: i32,
    /// 0 (most urgent) to 9.
    pub priority: i32,
    /// Words to find its jobs by.
    pub tags: &'static [&'static str],
    /// When two of its jobs are the same; never by default. A job changes single keys of it with
    /// [`NewJob::unique_with`], and the whole with [`NewJob::unique`].
    pub unique: Option<fn() -> Unique>,
    /// What a new job that is the same as another writes into that one; nothing by default.
    pub replace: Option<fn() -> Replace>,
    /// Limit of one attempt; none by default. Running over it is a failure.
    pub timeout: Option<Duration>,
    /// Wait after an attempt that failed; by default Oban's formula.
    pub backoff: Option<Duration>,
}

impl WorkerOptions {
    /// Oban's: queue `default`, 20 attempts, priority 0, no tags, not unique, no limit of time.
    pub const DEFAULT: Self = Self {
        queue: "default",
        max_attempts: MAX_ATTEMPTS_DEFAULT,
        priority: 0,
        tags: &[],
        unique: None,
        replace: None,
        timeout: None,
        backoff: None,
    };

    /// `job` with these options.
    pub(crate) fn applied(&self, job: NewJob) -> NewJob {
        NewJob {
            queue: self.queue.into(),
            max_attempts: self.max_attempts,
            priority: self.priority,
            tags: self.tags.iter().map(|tag| (*tag).to_owned()).collect(),
            unique: self.unique.map(|unique| unique()),
            replace: self.replace.map_or_else(Replace::default, |replace| replace()),
            ..job
        }
    }
}
