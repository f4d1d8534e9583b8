//! `singularity job`: what a person does with jobs.

mod change;
mod enqueue;
mod list;
mod show;
mod unique;
mod wait;

use clap::Subcommand;

use super::codes;
use super::context::Context;
use super::exit::{Exit, Failure};

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
    /// Cancels jobs that are not finished; running ones are stopped: `job cancel 17`
    Cancel(change::ChangeArgs),
    /// Makes jobs available again that wait or are finished: `job retry 17`
    Retry(change::ChangeArgs),
    /// Deletes jobs that do not run: `job delete 17`
    Delete(change::ChangeArgs),
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
        JobCommand::Cancel(args) => change::run(change::Verb::Cancel, args, context).await,
        JobCommand::Retry(args) => change::run(change::Verb::Retry, args, context).await,
        JobCommand::Delete(args) => change::run(change::Verb::Delete, args, context).await,
    }
}

/// There is no job with any of these ids.
fn not_found(ids: &[i64]) -> Failure {
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

/// Text of the last element of `errors`, which other runtimes may write in forms of their own.
fn last_error(errors: &[serde_json::Value]) -> Option<String> {
    let last = errors.last()?;
    Some(last.get("error").and_then(|error| error.as_str()).map_or_else(|| last.to_string(), str::to_owned))
}
