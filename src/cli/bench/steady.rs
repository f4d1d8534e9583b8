//! A steady stream of jobs: whether claims stay fast while dead rows pile up at the head of the queue.

use std::time::{Duration, Instant};

use clap::{Args, value_parser};
use serde::Serialize;

use super::lab::Lab;
use super::latency::percentile_ms;
use super::process;
use crate::cli::exit::Failure;
use crate::cli::output;

/// Time between two inserts.
const TICK: Duration = Duration::from_millis(10);
/// How long jobs that are inserted may take to be performed after the last insert.
const REST_LIMIT: Duration = Duration::from_secs(30);

/// What to measure.
#[derive(Debug, Args)]
pub(in crate::cli) struct SteadyArgs {
    /// Jobs a second
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = value_parser!(u32).range(100..=100_000))]
    pub(super) rate: u32,
    /// For so many seconds
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = value_parser!(u64).range(10..=3_600))]
    pub(super) duration: u64,
    /// Limit of the queue
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(super) queue_limit: u32,
    /// Finished jobs that are in the table beforehand
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u64).range(0..=100_000_000))]
    pub(super) history: u64,
    /// One JSON document
    #[arg(long)]
    pub(super) json: bool,
}

/// What it came to.
#[derive(Debug, Serialize)]
pub(super) struct Steady {
    rate: u32,
    queue_limit: u32,
    history: u64,
    /// Load average of the machine at the end.
    load: Option<f64>,
    windows: Vec<Window>,
}

/// Ten seconds of it.
#[derive(Debug, Serialize)]
struct Window {
    from_s: usize,
    jobs_per_second: f64,
    /// From insert to claim, by the clock of the database.
    claimed_after_ms_p50: f64,
    claimed_after_ms_p99: f64,
}

/// Length of a window, in seconds.
const WINDOW: usize = 10;

impl Steady {
    /// Inserts at a steady pace while the node works.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn measure(args: &SteadyArgs, lab: &mut Lab) -> Result<Self, Failure> {
        lab.prepare(args.history).await?;
        lab.start_node().await?;
        let (began, length) = (Instant::now(), Duration::from_secs(args.duration));
        lab.meter.keep_waits(began);
        if let Some(queue) = lab.queue() {
            queue.set_paused(false);
        }
        let mut inserted = 0;
        while began.elapsed() < length {
            let due = (began.elapsed().as_secs_f64() * f64::from(args.rate)) as u64;
            if due > inserted {
                let jobs: Vec<_> = (inserted..due.min(inserted + 1_000)).map(Lab::job).collect();
                inserted += jobs.len() as u64;
                lab.engine.insert_many(jobs).await?;
            }
            tokio::time::sleep(TICK).await;
        }
        let all = tokio::time::timeout(REST_LIMIT, lab.performed(0, inserted)).await;
        if all.is_err() {
            output::note(format!("{} of {inserted} jobs were performed in time", lab.meter.performed()));
        }
        let mut windows: Vec<Vec<Duration>> = Vec::new();
        for (at, wait) in lab.meter.waits() {
            let number = at.as_secs() as usize / WINDOW;
            windows.resize_with(windows.len().max(number + 1), Vec::new);
            windows[number].push(wait);
        }
        let windows = windows.into_iter().enumerate().map(|(number, mut waits)| {
            waits.sort_unstable();
            Window {
                from_s: number * WINDOW,
                jobs_per_second: (waits.len() as f64 / WINDOW as f64).round(),
                claimed_after_ms_p50: percentile_ms(&waits, 50),
                claimed_after_ms_p99: percentile_ms(&waits, 99),
            }
        });
        let windows = windows.collect();
        Ok(Self {
            rate: args.rate,
            queue_limit: args.queue_limit,
            history: args.history,
            load: process::load(),
            windows,
        })
    }

    /// Prints it.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            return output::document("singularity.bench_steady.v1", self);
        }
        let rows = self.windows.iter().map(|window| {
            vec![
                format!("{} s", window.from_s),
                format!("{:.0}/s", window.jobs_per_second),
                format!("{:.1} ms", window.claimed_after_ms_p50),
                format!("{:.1} ms", window.claimed_after_ms_p99),
            ]
        });
        output::table(&["from", "jobs", "claimed after, p50", "p99"], rows.collect());
        Ok(())
    }
}
