//! `singularity job`: what a person does with jobs.

mod change;
mod change_many;
pub(super) mod enqueue;
mod filter;
mod list;
mod show;
mod unique;
mod update;
pub(super) mod wait;

use clap::Subcommand;

use super::codes;
use super::context::Context;
use super::exit::{Exit, Failure};
use crate::queue::Change;

/// Jobs.
#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// Stores a job: `job enqueue llm_request --args '{"prompt": "hello"}'`
    Enqueue(Box<enqueue::EnqueueArgs>),
    /// The newest jobs: `job list`
    List(list::ListArgs),
    /// Everything that is known of a job: `job show 17`
    Show(show::ShowArgs),
    /// Waits until jobs are finished: `job wait 17`
    Wait(wait::WaitArgs),
    /// Cancels jobs that are not finished; running ones are stopped: `job cancel 17`, `job cancel --queue mail`
    Cancel(change::WhichArgs),
    /// Makes jobs available again that wait or are finished: `job retry 17`, `job retry --state discarded`; of many,
    /// those that are retryable, discarded or cancelled, unless --state names others
    Retry(change::WhichArgs),
    /// Deletes jobs that do not run: `job delete 17`, `job delete --state cancelled --yes`
    Delete(change::DeleteArgs),
    /// Gives jobs other values: `job update 17 --set-priority 0`, `job update --queue a --set-queue b`
    Update(Box<update::UpdateArgs>),
}

/// Does it.
///
/// # Errors
/// Exit 2 for bad arguments, 3 where there is no such job, 4 where its state does not allow it, and those of the
/// database. Waiting: 1 when a job failed, 5 when the time is over.
pub(super) async fn run(command: JobCommand, context: &Context) -> Result<(), Failure> {
    match command {
        JobCommand::Enqueue(args) => enqueue::run(*args, context).await,
        JobCommand::List(args) => list::run(args, context).await,
        JobCommand::Show(args) => show::run(args, context).await,
        JobCommand::Wait(args) => wait::run(args, context).await,
        JobCommand::Cancel(which) => change::run(Change::Cancel, which, context).await,
        JobCommand::Retry(which) => change::run(Change::Retry, which, context).await,
        JobCommand::Delete(args) => change::delete(args, context).await,
        JobCommand::Update(args) => {
            let (change, which) = args.change()?;
            change::run(change, which, context).await
        }
    }
}

/// There is no job with any of these ids.
pub(super) fn not_found(ids: &[i64]) -> Failure {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    let text = match ids.as_slice() {
        [id] => format!("there is no job {id}"),
        ids => format!("there are no jobs {}", ids.join(", ")),
    };
    Failure::new(Exit::NotFound, codes::NO_JOB, text)
        .hint("see `singularity job list`; finished jobs may have been deleted")
}

/// Ids in the order given, each once.
fn distinct(ids: &[i64]) -> Vec<i64> {
    let mut seen = std::collections::HashSet::new();
    ids.iter().copied().filter(|id| seen.insert(*id)).collect()
}

/// Why a job waits for another attempt: what its last one said of it, or failed with.
pub(super) fn why_it_waits(job: &crate::queue::Job) -> Option<String> {
    show::waiting(job).or_else(|| last_error(&job.errors))
}

/// Text of the last element of `errors`, which other runtimes may write in forms of their own.
fn last_error(errors: &[serde_json::Value]) -> Option<String> {
    let last = errors.last()?;
    Some(last.get("error").and_then(|error| error.as_str()).map_or_else(|| last.to_string(), str::to_owned))
}
