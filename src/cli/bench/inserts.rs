//! Inserting: in bulk and one by one, by the engine and barely.

use std::time::Instant;

use futures_util::future::try_join_all;

use super::drain::Work;
use super::lab::Lab;
use crate::cli::exit::Failure;
use crate::queue::QueueError;
use crate::queue::engine::BareInserts;

/// Jobs of one bulk insert.
pub(super) const BATCH: u64 = 1_000;
/// Tasks that insert single jobs at once.
const TASKS: usize = 8;
/// Single inserts of one task in one turn; fewer where fewer than a hundred times as many jobs are drained.
const SINGLES: usize = 250;
const SINGLES_MIN: usize = 10;
/// Turns of each side.
const TURNS: usize = 4;

/// What inserting came to.
#[derive(Debug, Default)]
pub(super) struct Inserts {
    pub(super) bulk: Work,
    pub(super) bare_bulk: Work,
    pub(super) single: Work,
    pub(super) bare_single: Work,
}

impl Inserts {
    /// Inserts single jobs from several tasks at once, in turns with bare statements.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn measure_single(&mut self, lab: &mut Lab, jobs: u64) -> Result<(), Failure> {
        let singles = usize::try_from(jobs / 100).unwrap_or(SINGLES).clamp(SINGLES_MIN, SINGLES);
        let (queue, worker) = Lab::names();
        let mut bare = BareInserts::open(lab.db(), queue, worker, TASKS).await?;
        let count = (TASKS * singles) as u64;
        // The first turn, which prepares statements and opens connections, is not counted.
        for turn in 0..=TURNS {
            let began = Instant::now();
            bare.insert(singles, &Lab::args(0)).await?;
            let bare_time = began.elapsed();
            let began = Instant::now();
            let engine = &lab.engine;
            try_join_all((0..TASKS).map(|_| async move {
                for number in 0..singles {
                    engine.insert(Lab::job(number as u64)).await?;
                }
                Ok::<_, QueueError>(())
            }))
            .await?;
            if turn > 0 {
                self.single.add(count, began.elapsed());
                self.bare_single.add(count, bare_time);
            }
            lab.clear_all().await?;
        }
        Ok(())
    }

    /// Fills the queue through the engine.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn fill_by_engine(&mut self, lab: &Lab, jobs: u64) -> Result<(), Failure> {
        for batch in batches(jobs) {
            let batch: Vec<_> = batch.map(Lab::job).collect();
            let (count, began) = (batch.len() as u64, Instant::now());
            lab.engine.insert_many(batch).await?;
            self.bulk.add(count, began.elapsed());
        }
        Ok(())
    }

    /// Fills the queue by `unnest` alone.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn fill_barely(&mut self, lab: &Lab, jobs: u64) -> Result<(), Failure> {
        let mut bare = lab.bare().await?;
        for batch in batches(jobs) {
            let batch: Vec<_> = batch.map(Lab::args).collect();
            let (count, began) = (batch.len() as u64, Instant::now());
            bare.insert(batch).await?;
            self.bare_bulk.add(count, began.elapsed());
        }
        Ok(())
    }
}

/// The numbers of so many jobs, batch by batch.
fn batches(jobs: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..jobs).step_by(BATCH as usize).map(move |from| from..(from + BATCH).min(jobs))
}
