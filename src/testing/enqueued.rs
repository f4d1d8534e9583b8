//! Whether jobs were enqueued.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::error::TestingError;
use crate::queue::engine::Enqueued;
use crate::queue::{Engine, Job, QueueError};

/// Time between two looks at the table while a job is waited for; Oban's.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Jobs that a failed assertion shows.
const SHOWN_MAX: usize = 10;

/// All jobs that wait to run (`available`, `scheduled`, `suspended`) and fit `wanted`, oldest first; at most
/// [`LIST_MAX`](crate::queue::engine::LIST_MAX).
///
/// # Errors
/// [`QueueError::Db`].
pub async fn all_enqueued(engine: &Engine, wanted: &Enqueued) -> Result<Vec<Job>, QueueError> {
    engine.enqueued(wanted).await
}

/// As [`all_enqueued`], when there is at least one.
///
/// # Errors
/// [`TestingError::Assertion`] when there is none, with the jobs that do wait.
pub async fn assert_enqueued(engine: &Engine, wanted: &Enqueued) -> Result<Vec<Job>, TestingError> {
    assert_enqueued_within(engine, wanted, Duration::ZERO).await
}

/// As [`assert_enqueued`], for jobs that come within `wait`.
///
/// # Errors
/// As [`assert_enqueued`].
pub async fn assert_enqueued_within(
    engine: &Engine,
    wanted: &Enqueued,
    wait: Duration,
) -> Result<Vec<Job>, TestingError> {
    let found = looking(wait, || all_enqueued(engine, wanted)).await?;
    if !found.is_empty() {
        return Ok(found);
    }
    let waiting = shown(&all_enqueued(engine, &Enqueued::any()).await?);
    Err(TestingError::Assertion(format!("expected a job that fits {wanted:?}\nthere is {waiting}")))
}

/// That no job fits `wanted`.
///
/// # Errors
/// [`TestingError::Assertion`] with the jobs that do.
pub async fn refute_enqueued(engine: &Engine, wanted: &Enqueued) -> Result<(), TestingError> {
    refute_enqueued_within(engine, wanted, Duration::ZERO).await
}

/// As [`refute_enqueued`], also of jobs that come within `wait`.
///
/// # Errors
/// As [`refute_enqueued`].
pub async fn refute_enqueued_within(engine: &Engine, wanted: &Enqueued, wait: Duration) -> Result<(), TestingError> {
    let found = looking(wait, || all_enqueued(engine, wanted)).await?;
    if found.is_empty() {
        return Ok(());
    }
    Err(TestingError::Assertion(format!("expected no job that fits {wanted:?}\nthere is {}", shown(&found))))
}

/// Looks until something is found or the time is over; at least once.
async fn looking<F>(wait: Duration, mut look: impl FnMut() -> F) -> Result<Vec<Job>, QueueError>
where
    F: Future<Output = Result<Vec<Job>, QueueError>>,
{
    let begun = Instant::now();
    loop {
        let found = look().await?;
        if !found.is_empty() || begun.elapsed() >= wait {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn shown(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "none at all".into();
    }
    let lines = jobs.iter().take(SHOWN_MAX).map(|job| {
        let Job { id, state, worker, queue, args, meta, tags, scheduled_at, .. } = job;
        format!("\n  {id} {state} {worker} in {queue}, due {scheduled_at}, args {args}, meta {meta}, tags {tags:?}")
    });
    let more = jobs.len().saturating_sub(SHOWN_MAX);
    let rest = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    lines.collect::<String>() + &rest
}
