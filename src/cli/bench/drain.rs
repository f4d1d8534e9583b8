//! Draining a full queue: the node, and beside it the bare overlapped loop, in turns.

use std::time::{Duration, Instant};

use super::inserts::Inserts;
use super::lab::Lab;
use super::process;
use crate::cli::exit::Failure;

/// Jobs and the time that they took in all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    pub(super) jobs: u64,
    pub(super) time: Duration,
}

impl Work {
    /// Adds a piece.
    pub(super) fn add(&mut self, jobs: u64, time: Duration) {
        self.jobs += jobs;
        self.time += time;
    }

    /// Jobs a second; 0 before anything was done.
    pub(super) fn per_second(&self) -> f64 {
        if self.time.is_zero() { 0.0 } else { self.jobs as f64 / self.time.as_secs_f64() }
    }
}

/// What draining came to.
#[derive(Debug, Default)]
pub(super) struct Drains {
    pub(super) node: Work,
    pub(super) bare: Work,
    /// Node by bare, of each round.
    pub(super) ratios: Vec<f64>,
    /// Most resident memory seen with jobs waiting, and right after a drain.
    pub(super) waiting_mb: Option<f64>,
    pub(super) running_mb: Option<f64>,
}

impl Drains {
    /// How many rounds there were.
    pub(super) fn rounds(&self) -> usize {
        self.ratios.len()
    }

    /// The ratio of the last round.
    pub(super) fn last_ratio(&self) -> Option<f64> {
        self.ratios.last().copied()
    }

    /// Fills the queue and drains it, once by each side; who begins changes from round to round.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn round(&mut self, lab: &mut Lab, inserts: &mut Inserts, jobs: u64) -> Result<(), Failure> {
        let node_first = self.rounds() % 2 == 1;
        let mut rates = (0.0, 0.0);
        for side in [node_first, !node_first] {
            if side {
                inserts.fill_by_engine(lab, jobs).await?;
                lab.settle().await?;
                let time = self.by_node(lab, jobs).await;
                self.node.add(jobs, time);
                rates.0 = jobs as f64 / time.as_secs_f64();
            } else {
                inserts.fill_barely(lab, jobs).await?;
                lab.settle().await?;
                let (done, time) = lab.bare().await?.drain(i64::from(lab.limit)).await?;
                self.bare.add(done, time);
                rates.1 = done as f64 / time.as_secs_f64();
            }
            lab.clear().await?;
        }
        self.ratios.push(rates.0 / rates.1);
        Ok(())
    }

    async fn by_node(&mut self, lab: &Lab, jobs: u64) -> Duration {
        let Some(queue) = lab.queue() else { return Duration::ZERO };
        self.waiting_mb = largest(self.waiting_mb, process::rss_mb());
        let (before, began) = (lab.meter.performed(), Instant::now());
        queue.set_paused(false);
        lab.performed(before, jobs).await;
        let time = began.elapsed();
        queue.set_paused(true);
        self.running_mb = largest(self.running_mb, process::rss_mb());
        time
    }
}

fn largest(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    [one, other].into_iter().flatten().reduce(f64::max)
}
