//! Performing one job in the caller, without a database.

use std::sync::Arc;

use chrono::Utc;
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::error::TestingError;
use crate::queue::{
    Job, JobContext, JobRuntime, NewJob, Outcome, QueueError, RECORDED_BYTES_MAX, SNOOZE_MAX, Schedule, State, Worker,
    check_args, encoded_result, performed, timed_out,
};

/// Performs a job of `worker` with `args`, as its first attempt, and returns what it came to.
///
/// Everything is checked that a node would trip over: the options of the worker, whether the arguments survive their
/// way through JSON into its `Args`, and whether the outcome can be stored as it is. The worker's time limit holds. A
/// panic of the worker goes on into the test.
///
/// # Errors
/// [`TestingError::Queue`] for options or arguments that do not fit, [`TestingError::Outcome`].
///
/// # Panics
/// As the worker does.
pub async fn perform_job<W: Worker>(worker: &W, args: impl Serialize) -> Result<Outcome, TestingError> {
    let args = serde_json::to_value(args)
        .map_err(|error| QueueError::Args { worker: W::NAME.into(), reason: error.to_string() })?;
    let job = build_job(W::OPTIONS.applied(NewJob::new(W::NAME, args)))?;
    perform_built_job(worker, job).await
}

/// The row that a node would hand to its worker for `new`: the first attempt of job 1, executing. Fields may be changed
/// before it is performed.
///
/// # Errors
/// [`QueueError`] for a job that could not be inserted.
pub fn build_job(new: NewJob) -> Result<Job, QueueError> {
    let new = new.validated()?;
    let now = Utc::now();
    let scheduled_at = match new.schedule {
        Schedule::Now => now,
        Schedule::In(delay) => now + delay,
        Schedule::At(at) => at,
    };
    Ok(Job {
        id: 1,
        state: State::Executing,
        queue: new.queue,
        worker: new.worker,
        args: new.args,
        meta: Value::Object(new.meta),
        tags: new.tags,
        errors: Vec::new(),
        attempt: 1,
        max_attempts: new.max_attempts,
        priority: new.priority,
        attempted_by: vec!["testing".into()],
        inserted_at: now,
        scheduled_at,
        attempted_at: Some(now),
        completed_at: None,
        discarded_at: None,
        cancelled_at: None,
        unreadable: None,
    })
}

/// As [`perform_job`], for a job that was built, and perhaps changed, by the test.
///
/// # Errors
/// As [`perform_job`], and [`TestingError::Worker`].
///
/// # Panics
/// As the worker does.
pub async fn perform_built_job<W: Worker>(worker: &W, job: Job) -> Result<Outcome, TestingError> {
    if job.worker != W::NAME && !W::ALIASES.contains(&job.worker.as_str()) {
        return Err(TestingError::Worker { job: job.worker, worker: W::NAME });
    }
    check_args::<W>(&job)?;
    let name = job.worker.clone();
    let outcome = run(worker, job).await;
    match unfit(&outcome) {
        Some(reason) => Err(TestingError::Outcome { worker: name, reason }),
        None => Ok(outcome),
    }
}

/// Runs a worker's code within its time.
pub(super) async fn run<W: Worker>(worker: &W, job: Job) -> Outcome {
    let (name, timeout) = (job.worker.clone(), worker.timeout(&job));
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let context = JobContext::alone(Arc::new(job), deadline, JobRuntime::new(Handle::current()));
    let cancelled = context.cancelled.clone();
    let code = performed(worker, context);
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, code).await.unwrap_or_else(|_| {
            cancelled.cancel();
            timed_out(&name, timeout.unwrap_or_default())
        }),
        None => code.await,
    }
}

/// Why an outcome would not be stored as it is.
fn unfit(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Recorded(value) => {
            let bytes = encoded_result(value).len();
            (bytes > RECORDED_BYTES_MAX)
                .then(|| format!("the result has {bytes} bytes when encoded; at most {RECORDED_BYTES_MAX} are kept"))
        }
        Outcome::Snoozed(wait) | Outcome::Failed { retry_in: Some(wait), .. } if *wait > SNOOZE_MAX => {
            Some(format!("it waits for {} s; at most {} s are allowed", wait.as_secs(), SNOOZE_MAX.as_secs()))
        }
        Outcome::HandedBack => {
            Some("it hands the job back, which a node does when it stops; snooze the job instead".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::error::Coded;
    use crate::queue::{JobError, WorkerOptions};

    /// Does as its arguments say.
    struct Obeys;

    impl Worker for Obeys {
        type Args = (String, u64);
        const NAME: &'static str = "obeys";
        const ALIASES: &'static [&'static str] = &["MyApp.Obeys"];
        const OPTIONS: WorkerOptions =
            WorkerOptions { timeout: Some(Duration::from_secs(60)), max_attempts: 2, ..WorkerOptions::DEFAULT };

        async fn perform(&self, (what, number): Self::Args, context: JobContext) -> Result<Outcome, JobError> {
            Ok(match what.as_str() {
                "record" => Outcome::Recorded(json!("x".repeat(number as usize))),
                "snooze" => Outcome::Snoozed(Duration::from_secs(number)),
                "sleep" => {
                    assert_eq!(context.time_left(), Some(Duration::from_secs(60)));
                    tokio::time::sleep(Duration::from_secs(number)).await;
                    Outcome::Completed
                }
                "last" => Outcome::Recorded(json!(context.is_last_attempt())),
                "block" => {
                    context.progress("nobody sees it");
                    Outcome::Recorded(json!(context.run_blocking(move || number + 1).await?))
                }
                "back" => Outcome::HandedBack,
                "fail" => return Err("x".parse::<u8>().unwrap_err().into()),
                _ => panic!("it cannot {what}"),
            })
        }
    }

    /// A job whose arguments are the array that is given: no job of a table has such.
    async fn obeyed(what: &str, number: u64) -> Result<Outcome, TestingError> {
        perform_built_job(&Obeys, job(what, number)).await
    }

    fn job(what: &str, number: u64) -> Job {
        Job {
            args: json!([what, number]),
            ..build_job(Obeys::OPTIONS.applied(NewJob::new("obeys", json!({})))).unwrap()
        }
    }

    #[tokio::test]
    async fn a_worker_is_performed_with_its_context_and_its_outcome_is_returned() {
        assert_eq!(obeyed("last", 0).await.unwrap(), Outcome::Recorded(json!(false)));
        let again = Job { attempt: 2, worker: "MyApp.Obeys".into(), ..job("last", 0) };
        assert_eq!(perform_built_job(&Obeys, again).await.unwrap(), Outcome::Recorded(json!(true)));
        assert_eq!(obeyed("block", 1).await.unwrap(), Outcome::Recorded(json!(2)));
        let error = "** (ParseIntError) invalid digit found in string".into();
        assert_eq!(obeyed("fail", 0).await.unwrap(), Outcome::Failed { error, retry_in: None });
    }

    #[tokio::test]
    async fn what_a_node_would_trip_over_is_an_error() {
        let code = |result: Result<Outcome, TestingError>| result.unwrap_err().code();
        assert_eq!(code(perform_job(&Obeys, json!({"what": 1})).await), "E0441");
        assert_eq!(code(perform_job(&Obeys, json!(["last", 1])).await), "E0401", "not an object");
        assert_eq!(code(obeyed("snooze", SNOOZE_MAX.as_secs() + 1).await), "E0452");
        assert_eq!(code(obeyed("record", RECORDED_BYTES_MAX as u64).await), "E0452");
        assert_eq!(code(obeyed("back", 0).await), "E0452");
        assert!(obeyed("snooze", SNOOZE_MAX.as_secs()).await.is_ok());
        let other = Job { worker: "other".into(), ..job("last", 0) };
        assert_eq!(code(perform_built_job(&Obeys, other).await), "E0451");
        assert_eq!(build_job(NewJob::new("w", json!({})).priority(10)).unwrap_err().code(), "E0401");
    }

    #[tokio::test(start_paused = true)]
    async fn its_time_is_limited_by_the_clock_that_the_test_has() {
        assert_eq!(obeyed("sleep", 59).await.unwrap(), Outcome::Completed);
        assert_eq!(obeyed("sleep", 61).await.unwrap(), timed_out("obeys", Duration::from_secs(60)));
    }

    #[tokio::test]
    #[should_panic(expected = "it cannot fly")]
    async fn its_panic_goes_on_into_the_test() {
        drop(obeyed("fly", 0).await);
    }
}
