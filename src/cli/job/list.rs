//! `singularity job list`: the newest jobs.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use super::filter::FilterArgs;
use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::{known, output};
use crate::queue::engine::LIST_MAX;
use crate::queue::{Engine, Job, State};

/// Characters of the arguments that the table shows.
const ARGS_CHARS_MAX: usize = 48;

/// Which jobs.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only those with a lower id, for the next page: the last id of the page before
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
    before: Option<i64>,
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
    /// For `--before`, where there may be more.
    next_before: Option<i64>,
}

pub(super) async fn run(args: ListArgs, context: &Context) -> Result<(), Failure> {
    let filter = args.filter.filter()?;
    let (jobs, now) = context
        .with_tables(async |storage| {
            known::queues(storage, context, filter.queues.as_deref()).await?;
            let jobs = Engine::new(storage.db().clone()).list(&filter, args.before, args.limit).await?;
            Ok((jobs, storage.db().server_now().await?))
        })
        .await?;
    let shown = jobs.len();
    let is_full = u32::try_from(shown).is_ok_and(|shown| shown == args.limit);
    let next_before = jobs.last().filter(|_| is_full).map(|job| job.id);
    if args.json {
        return output::document("singularity.job_list.v1", &Listing { jobs: &jobs, next_before });
    }
    let head = ["id", "state", "queue", "worker", "attempt", "inserted", "last change", "args"];
    output::table(&head, jobs.iter().map(|job| row(job, now)).collect());
    match next_before {
        Some(id) => output::note(format!("the newest {shown} that fit; older ones with --before {id}")),
        None if shown == 0 => output::note("no job fits"),
        None => {}
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
        output::shortened(&job.unreadable.clone().unwrap_or_else(|| job.args.to_string()), ARGS_CHARS_MAX),
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
