//! `singularity job list`: the newest jobs.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::queue::engine::{JobFilter, LIST_MAX};
use crate::queue::{Engine, Job, State};

/// Characters of the arguments that the table shows.
const ARGS_CHARS_MAX: usize = 48;

/// Which jobs.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Only those in this state: suspended, scheduled, available, executing, retryable, completed, discarded or
    /// cancelled
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Only those of this worker
    #[arg(long, value_name = "WORKER")]
    worker: Option<String>,
    /// Only those with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// At most so many, the newest first
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(LIST_MAX)))]
    limit: u32,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing<'a> {
    jobs: &'a [Job],
}

pub(super) async fn run(args: ListArgs, context: &Context) -> Result<(), Failure> {
    let filter = JobFilter {
        state: args.state,
        queue: args.queue,
        worker: args.worker,
        // Tags are stored in lower case.
        tag: args.tag.map(|tag| tag.trim().to_lowercase()),
        limit: args.limit,
    };
    let (jobs, now) = context
        .with_tables(async |storage| {
            let jobs = Engine::new(storage.db().clone()).list(&filter).await?;
            Ok((jobs, storage.db().server_now().await?))
        })
        .await?;
    if args.json {
        return output::document("singularity.job_list.v1", &Listing { jobs: &jobs });
    }
    let shown = jobs.len();
    let head = ["id", "state", "queue", "worker", "attempt", "inserted", "last change", "args"];
    output::table(&head, jobs.iter().map(|job| row(job, now)).collect());
    match shown {
        0 => output::note("no job fits"),
        _ if u32::try_from(shown).is_ok_and(|shown| shown == args.limit) => {
            output::note(format!("the newest {shown}; more with --limit"));
        }
        _ => {}
    }
    Ok(())
}

fn row(job: &Job, now: DateTime<Utc>) -> Vec<String> {
    vec![
        job.id.to_string(),
        job.state.to_string(),
        job.queue.clone(),
        job.worker.clone(),
        format!("{}/{}", job.attempt, job.max_attempts),
        output::relative(job.inserted_at, now),
        last_change(job).map(|at| output::relative(at, now)).unwrap_or_default(),
        output::shortened(&job.args.to_string(), ARGS_CHARS_MAX),
    ]
}

/// The moment that its state is about: when it is due, was claimed, or ended.
fn last_change(job: &Job) -> Option<DateTime<Utc>> {
    match job.state {
        State::Scheduled | State::Retryable => Some(job.scheduled_at),
        State::Executing => job.attempted_at,
        State::Completed => job.completed_at,
        State::Discarded => job.discarded_at,
        State::Cancelled => job.cancelled_at,
        State::Suspended | State::Available => None,
    }
}
