//! What runs in one queue on this instance: the slots behind its limit.
//!
//! A slot is taken when a job is claimed and freed when what it came to is stored, so writes that wait count as busy
//! (back-pressure). The state is shared and outlives the producer: a producer that was restarted knows what still runs.
//!
//! Invariant: `running` never exceeds the limit by a claim; lowering the limit kills nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use super::producer::ProducerMsg;
use super::stop::StopSignal;
use crate::supervision::Address;

/// Mailbox of a producer. Pokes are merged, so few messages ever wait.
const PRODUCER_MAILBOX_MAX: usize = 64;

/// One queue on this instance. Shared by its producer, its executors, the completer and the node.
#[derive(Debug)]
pub struct QueueState {
    name: String,
    producer: Uuid,
    limit: AtomicU32,
    paused: AtomicBool,
    stopping: AtomicBool,
    poked: AtomicBool,
    running: Mutex<HashMap<i64, StopSignal>>,
    count: watch::Sender<usize>,
    address: Address<ProducerMsg>,
}

impl QueueState {
    /// A queue with nothing running and a producer identity of its own.
    pub fn new(name: &str, limit: u32, paused: bool) -> Self {
        Self {
            name: name.to_owned(),
            producer: Uuid::now_v7(),
            limit: AtomicU32::new(limit),
            paused: AtomicBool::new(paused),
            stopping: AtomicBool::new(false),
            poked: AtomicBool::new(false),
            running: Mutex::new(HashMap::new()),
            count: watch::Sender::new(0),
            address: Address::new("producer", PRODUCER_MAILBOX_MAX),
        }
    }

    /// Name of the queue.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Second element of `attempted_by` of the jobs that are claimed here.
    pub fn producer(&self) -> Uuid {
        self.producer
    }

    /// Jobs that may run at once.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Acquire)
    }

    /// Changes the limit; it holds for the next claim, and running jobs go on.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Release);
        self.poke();
    }

    /// Whether claiming is paused by a person.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Pauses or resumes claiming.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
        self.poke();
    }

    /// Ends claiming for good, because the instance stops.
    pub fn stop_claiming(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// How many jobs may be claimed now.
    pub fn demand(&self) -> u32 {
        if self.is_paused() || self.stopping.load(Ordering::Acquire) {
            return 0;
        }
        let running = u32::try_from(self.lock().len()).unwrap_or(u32::MAX);
        self.limit().saturating_sub(running)
    }

    /// Jobs that run or whose result is not stored yet.
    pub fn running(&self) -> usize {
        self.lock().len()
    }

    /// Their ids, in rising order.
    pub fn running_ids(&self) -> Vec<i64> {
        let mut ids: Vec<_> = self.lock().keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// The number of running jobs, to wait on.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Takes a slot for a claimed job.
    pub(super) fn occupy(&self, job_id: i64, stop: StopSignal) {
        let mut running = self.lock();
        running.insert(job_id, stop);
        self.count.send_replace(running.len());
    }

    /// Frees the slot of a job whose result is stored or superseded, and wakes the producer.
    pub(super) fn free(&self, job_id: i64) {
        {
            let mut running = self.lock();
            running.remove(&job_id);
            self.count.send_replace(running.len());
        }
        self.poke();
    }

    /// The stop signal of a job that runs here.
    pub fn stop_signal(&self, job_id: i64) -> Option<StopSignal> {
        self.lock().get(&job_id).cloned()
    }

    /// The stop signals of all jobs that run here.
    pub fn stop_signals(&self) -> Vec<StopSignal> {
        self.lock().values().cloned().collect()
    }

    /// Where the producer listens.
    pub fn address(&self) -> &Address<ProducerMsg> {
        &self.address
    }

    /// Tells the producer to look at the table. Pokes that arrive before it looks are one.
    pub fn poke(&self) {
        if !self.poked.swap(true, Ordering::AcqRel) && self.address.cast(ProducerMsg::Poke).is_err() {
            // Down or flooded: its own poll will look.
            self.poked.store(false, Ordering::Release);
        }
    }

    pub(super) fn clear_poke(&self) {
        self.poked.store(false, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, StopSignal>> {
        // The map is consistent after every single operation, so a panic elsewhere does not spoil it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
