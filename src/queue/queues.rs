//! The queues of this instance by name. They come and go while it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::slots::QueueState;
use super::stop::StopCause;

/// Queues of one instance at a time; a start that would make more is refused.
pub const QUEUES_MAX: usize = 1_000;

/// All queues of this instance. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Queues(Arc<RwLock<Table>>);

#[derive(Debug, Default)]
struct Table {
    queues: BTreeMap<String, Arc<QueueState>>,
    /// The instance stops: no queue is added any more.
    closed: bool,
}

/// Why a queue is not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// One of this name is here.
    #[error("it runs here already")]
    Present,
    /// There are too many.
    #[error("this instance has {QUEUES_MAX} queues already, which is the most")]
    TooMany,
    /// The instance stops.
    #[error("this instance stops")]
    Closed,
}

impl Queues {
    /// The given queues.
    pub fn new(queues: impl IntoIterator<Item = QueueState>) -> Self {
        let queues = queues.into_iter().map(|queue| (queue.name().to_owned(), Arc::new(queue))).collect();
        Self(Arc::new(RwLock::new(Table { queues, closed: false })))
    }

    /// The queue of this name.
    pub fn get(&self, name: &str) -> Option<Arc<QueueState>> {
        self.read().queues.get(name).cloned()
    }

    /// All of them, by name, as they are now.
    pub fn iter(&self) -> impl Iterator<Item = Arc<QueueState>> + use<> {
        let queues: Vec<_> = self.read().queues.values().cloned().collect();
        queues.into_iter()
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.read().queues.keys().cloned().collect()
    }

    /// Whether the instance stops, so that no queue is added any more.
    pub(super) fn is_closed(&self) -> bool {
        self.read().closed
    }

    /// Adds a queue.
    pub(super) fn add(&self, queue: QueueState) -> Result<Arc<QueueState>, AddError> {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if table.closed {
            return Err(AddError::Closed);
        }
        if table.queues.contains_key(queue.name()) {
            return Err(AddError::Present);
        }
        if table.queues.len() >= QUEUES_MAX {
            return Err(AddError::TooMany);
        }
        let queue = Arc::new(queue);
        table.queues.insert(queue.name().to_owned(), Arc::clone(&queue));
        Ok(queue)
    }

    /// Forgets a queue, unless it has made room for another one of its name.
    pub(super) fn remove(&self, queue: &Arc<QueueState>) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if table.queues.get(queue.name()).is_some_and(|present| Arc::ptr_eq(present, queue)) {
            table.queues.remove(queue.name());
        }
    }

    /// Jobs that run, in all queues.
    pub fn running(&self) -> usize {
        self.iter().map(|queue| queue.running()).sum()
    }

    /// Makes every producer look at the table.
    pub fn poke_all(&self) {
        self.iter().for_each(|queue| queue.poke());
    }

    /// Ends claiming for good, also that of queues which would still be added.
    pub fn stop_claiming(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.iter().for_each(|queue| queue.stop_claiming());
    }

    /// Asks every running job to stop.
    pub fn stop_jobs(&self, cause: StopCause) {
        self.iter().for_each(|queue| queue.stop_jobs(cause));
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
            queue.idle().await;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        // Every single operation leaves the table consistent, so a panic elsewhere does not spoil it.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
