//! `singularity bench`: what this machine and this database make of the queue, beside what bare SQL makes of them.
//!
//! Everything happens in a schema of its own, which is dropped in the end, also after an error or a signal.

mod drain;
mod inserts;
mod lab;
mod latency;
mod process;
mod report;
mod rest;
mod steady;
mod worker;

use std::time::{Duration, Instant};

use clap::{Args, Subcommand, value_parser};
use tokio::runtime::Handle;

use self::drain::Drains;
use self::inserts::Inserts;
use self::lab::Lab;
use self::latency::Latencies;
use self::report::Report;
use self::rest::{Rest, RestArgs};
use self::steady::{Steady, SteadyArgs};
use self::worker::Work;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::output;
use super::signals::Stops;
use crate::config::Queue;

/// Jobs that each side drains, unless something else is asked for.
const JOBS_DEFAULT: u64 = 90_000;
/// Most jobs that may be asked for.
const JOBS_MAX: u64 = 100_000_000;
/// Jobs of one round. The two sides take turns, so that a machine that slows down slows both.
const ROUND_JOBS_MAX: u64 = 30_000;

/// Measurements.
#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Inserts, jobs a second and latency of a node in this process, beside bare SQL in the same run: `bench run`
    Run(RunArgs),
    /// A steady stream of jobs: whether claims stay fast: `bench steady --rate 3000 --duration 60`
    Steady(SteadyArgs),
    /// Statements and processor time of a node with four queues that has nothing to do: `bench rest`
    Rest(RestArgs),
}

/// What to measure.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Jobs that each side drains; default 90,000
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = value_parser!(u64).range(1..=JOBS_MAX))]
    jobs: Option<u64>,
    /// Goes on until each side has drained jobs for so many seconds
    #[arg(long, value_name = "S", value_parser = value_parser!(u64).range(1..=86_400))]
    duration: Option<u64>,
    /// Limit of the queue, and the batch of the bare loop
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = value_parser!(u32).range(1..=10_000))]
    queue_limit: u32,
    /// What each job does: nothing, or sleeping for so many milliseconds
    #[arg(long, value_name = "noop|sleep:MS", default_value = "noop")]
    workers: Work,
    /// Finished jobs that are in the table beforehand, as a long history leaves them
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u64).range(0..=100_000_000))]
    history: u64,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Does it.
///
/// # Errors
/// Those of the database and of a node's start; exit 130 after a signal.
pub(super) async fn run(command: BenchCommand, context: &Context, job_runtime: Handle) -> Result<(), Failure> {
    let (queues, limit, work, json) = match &command {
        BenchCommand::Run(args) => (1, args.queue_limit, args.workers, args.json),
        BenchCommand::Steady(args) => (1, args.queue_limit, Work::Noop, args.json),
        BenchCommand::Rest(args) => (rest::QUEUES, Queue::default().limit, Work::Noop, args.json),
    };
    let mut stops = Stops::listen()?;
    let mut lab = Box::pin(Lab::open(context, queues, limit, work, job_runtime)).await?;
    let measured = async {
        Ok(match &command {
            BenchCommand::Run(args) => Figures::Run(Box::new(measure(args, &mut lab).await?)),
            BenchCommand::Steady(args) => Figures::Steady(Steady::measure(args, &mut lab).await?),
            BenchCommand::Rest(args) => Figures::Rest(Rest::measure(args, &mut lab).await?),
        })
    };
    let measured = tokio::select! {
        measured = Box::pin(measured) => measured,
        () = stops.next() => Err(Failure::silent(Exit::Interrupted)),
    };
    let removed = Box::pin(lab.close(stops.next())).await;
    let figures = measured?;
    removed?;
    if cfg!(debug_assertions) {
        output::note("this build is not optimised; figures are meant for `cargo build --release`");
    }
    match figures {
        Figures::Run(report) => report.print(json),
        Figures::Steady(steady) => steady.print(json),
        Figures::Rest(rest) => rest.print(json),
    }
}

/// What a measurement came to.
enum Figures {
    Run(Box<Report>),
    Steady(Steady),
    Rest(Rest),
}

async fn measure(args: &RunArgs, lab: &mut Lab) -> Result<Report, Failure> {
    let load_before = process::load();
    lab.prepare(args.history).await?;
    lab.start_node().await?;
    let idle_mb = process::rss_mb();

    output::note("single inserts, 8 tasks");
    let mut inserts = Inserts::default();
    inserts.measure_single(lab, args.jobs.unwrap_or(JOBS_DEFAULT)).await?;

    let mut drains = Drains::default();
    let wanted = args.jobs.unwrap_or(JOBS_DEFAULT);
    let limit = args.duration.map(Duration::from_secs);
    let began = Instant::now();
    loop {
        let (done, spent) = (drains.node.jobs, drains.node.time.min(drains.bare.time));
        let left = match limit {
            Some(limit) if spent >= limit => break,
            Some(_) => ROUND_JOBS_MAX,
            None if done >= wanted => break,
            None => (wanted - done).min(ROUND_JOBS_MAX),
        };
        drains.round(lab, &mut inserts, left).await?;
        if let Some(ratio) = drains.last_ratio() {
            output::note(format!(
                "round {}: {left} jobs, node / bare = {ratio:.2}, {:.0} s so far",
                drains.rounds(),
                began.elapsed().as_secs_f64()
            ));
        }
    }

    output::note("latency on an idle node");
    let latencies = Latencies::measure(lab, args.jobs.unwrap_or(JOBS_DEFAULT)).await?;
    let settings = lab.settings().await?;
    Ok(Report {
        inserts,
        drains,
        latencies,
        settings,
        idle_mb,
        queue_limit: args.queue_limit,
        work: args.workers,
        history: args.history,
        embedded: lab.is_embedded(),
        load: (load_before, process::load()),
    })
}
