//! From insert to start and to finish on a node that has nothing else to do, beside a bare notice, and beside the chain
//! of insert, notice and claim in bare SQL. A job that the node itself inserts it starts with that; one that comes from
//! elsewhere it hears of and claims.

use std::time::{Duration, Instant};

use super::lab::Lab;
use crate::cli::exit::Failure;
use crate::queue::Engine;
use crate::queue::engine::BareNotices;

/// The queue of the bare chain, which no node has.
const BARE_QUEUE: &str = "bare";
/// Samples of each kind; fewer where fewer than a hundred times as many jobs are drained.
const SAMPLES: usize = 300;
const SAMPLES_MIN: usize = 20;
/// Samples before those, which prepare statements.
const WARM_UP: usize = 10;
/// Pause before each sample, in which everything falls idle.
const PAUSE: Duration = Duration::from_millis(10);
/// A job that starts later than this was lost.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Sorted times of each kind.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    pub(super) notice: Vec<Duration>,
    pub(super) chain: Vec<Duration>,
    /// Of jobs that were inserted through the node.
    pub(super) start: Vec<Duration>,
    pub(super) finish: Vec<Duration>,
    /// Of jobs that were inserted by others.
    pub(super) notified_start: Vec<Duration>,
    pub(super) notified_finish: Vec<Duration>,
}

impl Latencies {
    /// Takes the samples in turns. A job counts as finished when its result is stored.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn measure(lab: &mut Lab, jobs: u64) -> Result<Self, Failure> {
        let samples = usize::try_from(jobs / 100).unwrap_or(SAMPLES).clamp(SAMPLES_MIN, SAMPLES);
        let mut bare = BareNotices::open(lab.db()).await?;
        lab.settle().await?;
        let mut all = Self::default();
        let (Some(queue), Some(own)) = (lab.queue(), lab.node_engine()) else { return Ok(all) };
        let (_, worker) = Lab::names();
        queue.set_paused(false);
        for sample in 0..WARM_UP + samples {
            let args = Lab::args(sample as u64);
            tokio::time::sleep(PAUSE).await;
            let notice = bare.once().await?;
            tokio::time::sleep(PAUSE).await;
            let chain = bare.chain(BARE_QUEUE, worker, &args).await?;
            let direct = one(lab, &own, sample).await?;
            let notified = one(lab, &lab.engine, sample).await?;
            let (Some(direct), Some(notified)) = (direct, notified) else { continue };
            if sample >= WARM_UP {
                all.notice.push(notice);
                all.chain.push(chain);
                all.start.push(direct.start);
                all.finish.push(direct.finish);
                all.notified_start.push(notified.start);
                all.notified_finish.push(notified.finish);
            }
        }
        queue.set_paused(true);
        let ours = [&mut all.start, &mut all.finish, &mut all.notified_start, &mut all.notified_finish];
        for times in ours.into_iter().chain([&mut all.notice, &mut all.chain]) {
            times.sort_unstable();
        }
        Ok(all)
    }
}

/// One job's times since its insert began.
struct Times {
    start: Duration,
    finish: Duration,
}

/// Inserts a job by `engine` and waits for its end; `None` where it was lost.
async fn one(lab: &Lab, engine: &Engine, number: usize) -> Result<Option<Times>, Failure> {
    tokio::time::sleep(PAUSE).await;
    let mut starts = lab.meter.starts();
    let before = lab.meter.performed();
    let job = Lab::job(number as u64);
    let began = Instant::now();
    engine.insert(job).await?;
    let done = tokio::time::timeout(LOST_AFTER, lab.performed(before, 1)).await;
    let finish = began.elapsed();
    let started = *starts.borrow_and_update();
    let start = started.filter(|_| done.is_ok()).map(|started| started.saturating_duration_since(began));
    Ok(start.map(|start| Times { start, finish }))
}

/// The value that `percent` of `sorted` do not exceed, by nearest rank, in milliseconds; 0 without any.
pub(super) fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert!((percentile_ms(&times, 50) - 100.0).abs() < 1e-9);
        assert!((percentile_ms(&times, 99) - 198.0).abs() < 1e-9);
        assert!((percentile_ms(&times[..1], 99) - 1.0).abs() < 1e-9);
        assert!(percentile_ms(&[], 50).abs() < 1e-9);
    }
}
