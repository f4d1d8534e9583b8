//! `singularity job list`: the newest jobs.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use super::enqueue;
use super::filter::FilterArgs;
use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::{known, output};
use crate::config::Period;
use crate::queue::engine::LIST_MAX;
use crate::queue::{Engine, Job, State};

/// Characters of the arguments that the table shows.
const ARGS_CHARS_MAX: usize = 48;
/// Characters of the last error that it shows.
const ERROR_CHARS_MAX: usize = 60;

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Since {
    /// So long before now.
    Ago(Period),
    /// This moment.
    At(DateTime<Utc>),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Every moment has one, no period does.
        if text.contains('-') {
            return enqueue::moment(text).map(Self::At);
        }
        text.parse().map(Self::Ago).map_err(|error| format!("{error}, or a moment as RFC 3339"))
    }
}

impl Since {
    fn moment(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Ago(period) => now - period.get(),
            Self::At(at) => at,
        }
    }
}

/// Which jobs.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only those that were inserted, claimed or finished since then: a period before now by the database's clock, for
    /// example 2h, or a moment (RFC 3339)
    #[arg(long, value_name = "PERIOD|TIME")]
    since: Option<Since>,
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
    let mut filter = args.filter.filter()?;
    let (jobs, now) = context
        .with_tables(async |storage| {
            known::queues(storage, context, filter.queues.as_deref()).await?;
            let now = storage.db().server_now().await?;
            filter.since = args.since.map(|since| since.moment(now));
            let jobs = Engine::new(storage.db().clone()).list(&filter, args.before, args.limit).await?;
            Ok((jobs, now))
        })
        .await?;
    let shown = jobs.len();
    let is_full = u32::try_from(shown).is_ok_and(|shown| shown == args.limit);
    let next_before = jobs.last().filter(|_| is_full).map(|job| job.id);
    if args.json {
        return output::document("singularity.job_list.v1", &Listing { jobs: &jobs, next_before });
    }
    let mut head = vec!["id", "state", "queue", "worker", "attempt", "inserted", "last change", "args"];
    let has_errors = jobs.iter().any(|job| !job.errors.is_empty());
    if has_errors {
        head.push("last error");
    }
    output::table(&head, jobs.iter().map(|job| row(job, now, has_errors)).collect());
    match next_before {
        Some(id) => output::note(format!("the newest {shown} that fit; older ones with --before {id}")),
        None if shown == 0 => output::note("no job fits"),
        None => {}
    }
    Ok(())
}

fn row(job: &Job, now: DateTime<Utc>, has_errors: bool) -> Vec<String> {
    let mut row = vec![
        job.id.to_string(),
        job.state.to_string(),
        job.queue.clone(),
        job.worker.clone(),
        format!("{}/{}", job.attempt, job.max_attempts),
        output::relative(job.inserted_at, now),
        last_change(job).map(|at| output::relative(at, now)).unwrap_or_default(),
        output::shortened(&job.unreadable.clone().unwrap_or_else(|| job.args.to_string()), ARGS_CHARS_MAX),
    ];
    if has_errors {
        let error = super::last_error(&job.errors).unwrap_or_default();
        row.push(output::shortened(&error, ERROR_CHARS_MAX));
    }
    row
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_period_before_now_or_a_moment() {
        let now: DateTime<Utc> = "2030-01-31T08:00:00Z".parse().unwrap();
        let moment = |text: &str| text.parse::<Since>().unwrap().moment(now).to_rfc3339();
        assert_eq!(moment("2h"), "2030-01-31T06:00:00+00:00");
        assert_eq!(moment("2030-01-30T08:00:00+01:00"), "2030-01-30T07:00:00+00:00");
        for wrong in ["yesterday", "2030-01-30", "5x", ""] {
            let error = wrong.parse::<Since>().unwrap_err();
            assert!(error.contains("RFC 3339"), "{wrong}: {error}");
        }
    }
}
