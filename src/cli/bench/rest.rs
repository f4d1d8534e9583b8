//! What a node costs that has nothing to do.

use std::time::{Duration, Instant};

use clap::{Args, value_parser};
use serde::Serialize;

use super::lab::Lab;
use super::process;
use crate::cli::exit::Failure;
use crate::cli::output;

/// Queues of the node.
pub(super) const QUEUES: usize = 4;
/// After a start sessions report what they did a little later, and each connection prepares each statement once.
const SETTLE: Duration = Duration::from_secs(20);

/// What to measure.
#[derive(Debug, Args)]
pub(in crate::cli) struct RestArgs {
    /// For so many seconds
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = value_parser!(u64).range(1..=3_600))]
    duration: u64,
    /// One JSON document
    #[arg(long)]
    pub(super) json: bool,
}

/// What it came to.
#[derive(Debug, Serialize)]
pub(super) struct Rest {
    queues: usize,
    seconds: f64,
    /// Of all sessions of the database, so others must leave it alone meanwhile.
    statements_per_second: f64,
    cpu_percent: Option<f64>,
    memory_mb: Option<f64>,
}

impl Rest {
    /// Waits beside an idle node and counts.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn measure(args: &RestArgs, lab: &mut Lab) -> Result<Self, Failure> {
        lab.prepare(0).await?;
        lab.start_node().await?;
        lab.resume();
        tokio::time::sleep(SETTLE).await;
        let (statements, cpu, began) = (lab.transactions().await?, process::cpu(), Instant::now());
        tokio::time::sleep(Duration::from_secs(args.duration)).await;
        let (seconds, cpu_after) = (began.elapsed().as_secs_f64(), process::cpu());
        // The question counts itself once.
        let statements = lab.transactions().await?.saturating_sub(statements + 1);
        let used = cpu.zip(cpu_after).map(|(before, after)| (after.saturating_sub(before)).as_secs_f64());
        Ok(Self {
            queues: QUEUES,
            seconds,
            statements_per_second: statements as f64 / seconds,
            cpu_percent: used.map(|used| used / seconds * 100.0),
            memory_mb: process::rss_mb(),
        })
    }

    /// Prints it.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            return output::document("singularity.bench_rest.v1", self);
        }
        let of = |figure: Option<f64>, unit: &str| figure.map_or("?".into(), |figure| format!("{figure:.2} {unit}"));
        output::pairs(&[
            ("queues".into(), format!("{}, for {:.0} s", self.queues, self.seconds)),
            ("statements".into(), format!("{:.2} a second, autovacuum's included", self.statements_per_second)),
            ("processor".into(), of(self.cpu_percent, "% of a core")),
            ("memory".into(), of(self.memory_mb, "MB")),
        ]);
        Ok(())
    }
}
