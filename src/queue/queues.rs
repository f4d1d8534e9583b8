//! The queues of this instance by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::slots::QueueState;
use super::stop::StopCause;

/// All queues of this instance. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Queues(Arc<BTreeMap<String, Arc<QueueState>>>);

impl Queues {
    /// The given queues.
    pub fn new(queues: impl IntoIterator<Item = QueueState>) -> Self {
        Self(Arc::new(queues.into_iter().map(|queue| (queue.name().to_owned(), Arc::new(queue))).collect()))
    }

    /// The queue of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<QueueState>> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<QueueState>> {
        self.0.values()
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Jobs that run, in all queues.
    pub fn running(&self) -> usize {
        self.iter().map(|queue| queue.running()).sum()
    }

    /// Makes every producer look at the table.
    pub fn poke_all(&self) {
        self.iter().for_each(|queue| queue.poke());
    }

    /// Ends claiming for good.
    pub fn stop_claiming(&self) {
        self.iter().for_each(|queue| queue.stop_claiming());
    }

    /// Asks every running job to stop.
    pub fn stop_jobs(&self, cause: StopCause) {
        for queue in self.iter() {
            queue.stop_signals().iter().for_each(|signal| signal.stop(cause));
        }
    }

    /// Asks one job to stop if it runs here.
    pub fn stop_job(&self, job_id: i64, cause: StopCause) {
        for queue in self.iter() {
            queue.stop_signals_of(job_id).iter().for_each(|signal| signal.stop(cause));
        }
    }

    /// Resolves when nothing runs and every result is stored. Cancel safe.
    pub async fn idle(&self) {
        for queue in self.iter() {
            // The sender lives as long as the queue that is borrowed here.
            drop(queue.watch().wait_for(|running| *running == 0).await);
        }
    }
}
