//! What runs in one queue on this instance: the slots behind its limit.
//!
//! A slot is taken when a job is claimed and freed when what it came to is stored, so writes that wait count as busy
//! (back-pressure). The state is shared and outlives the producer: a producer that was restarted knows what still runs.
//!
//! Stuck code may lose its slot before it ends: its job is still known here as running, but no longer counts against
//! the limit.
//!
//! Invariant: the jobs that count never exceed the limit by a claim; lowering the limit kills nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use uuid::Uuid;

use super::blocking::Blocking;
use super::pause::Pause;
use super::producer::ProducerMsg;
use super::stop::{StopCause, StopSignal};
use crate::config::{OnStuck, Queue};
use crate::supervision::{Address, DynamicHandle};

/// Mailbox of a producer. Pokes are merged, so few messages ever wait.
const PRODUCER_MAILBOX_MAX: usize = 64;

/// Limit from which on results are stored in two parts, beside the claims. Below, a statement costs more than its rows,
/// and one does both.
const SPLIT_FROM: usize = 50;

/// One claimed job's place in its queue. A job that is claimed again before its former result is known to be stored has
/// two, because both count until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    job_id: i64,
    number: u64,
}

#[derive(Debug)]
struct Held {
    stop: StopSignal,
    /// Its code is stuck, and its place is given to others.
    released: bool,
    /// Its code has ended; what it came to waits to be stored.
    finished: bool,
}

#[derive(Debug, Default)]
struct Running {
    slots: BTreeMap<Slot, Held>,
    /// Those of `slots` that are released.
    released: usize,
    last_number: u64,
}

/// One queue on this instance. Shared by its producer, its executors, the completer and the node.
#[derive(Debug)]
pub struct QueueState {
    name: String,
    producer: Uuid,
    limit: AtomicU32,
    paused: AtomicBool,
    /// Who paused it, where that is known; `None` while it is not paused. Held while `paused` is changed.
    pause: Mutex<Option<Pause>>,
    settings: Queue,
    blocking: Arc<Blocking>,
    stopping: AtomicBool,
    /// Others know its producer as one of this instance.
    announced: AtomicBool,
    poked: AtomicBool,
    /// The same for results that are kept for the producer.
    told: AtomicBool,
    /// Its producer looks at the table.
    looking: AtomicBool,
    /// Somebody offers a job to its producer.
    offered: AtomicBool,
    times: Mutex<Times>,
    running: Mutex<Running>,
    count: watch::Sender<usize>,
    address: Address<ProducerMsg>,
    executors: DynamicHandle,
}

/// Moments of a queue, by this machine's clock: for people, nothing is decided by them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) started_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
    pub(super) shutdown_started_at: Option<DateTime<Utc>>,
}

/// A look of the producer that is under way.
#[derive(Debug)]
pub(super) struct Look(Arc<QueueState>);

impl Drop for Look {
    fn drop(&mut self) {
        self.0.looking.store(false, Ordering::Release);
    }
}

/// Held by whoever offers a job.
#[derive(Debug)]
pub(super) struct OfferTurn<'a>(&'a AtomicBool);

impl Drop for OfferTurn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl QueueState {
    /// A queue with nothing running and a producer identity of its own.
    pub fn new(name: &str, settings: Queue) -> Self {
        let now = Utc::now();
        Self {
            name: name.to_owned(),
            producer: Uuid::now_v7(),
            limit: AtomicU32::new(settings.limit),
            paused: AtomicBool::new(settings.paused),
            pause: Mutex::default(),
            blocking: Arc::new(Blocking::new(settings.blocking_max.unwrap_or(settings.limit))),
            settings,
            stopping: AtomicBool::new(false),
            announced: AtomicBool::new(true),
            poked: AtomicBool::new(false),
            told: AtomicBool::new(false),
            looking: AtomicBool::new(false),
            offered: AtomicBool::new(false),
            times: Mutex::new(Times { started_at: now, updated_at: now, shutdown_started_at: None }),
            running: Mutex::default(),
            count: watch::Sender::new(0),
            address: Address::new("producer", PRODUCER_MAILBOX_MAX),
            executors: DynamicHandle::new(),
        }
    }

    /// As one of a running instance that others do not know of yet. It claims nothing until they do: jobs of a producer
    /// that the instance's row does not name are taken over.
    #[must_use]
    pub(super) fn unannounced(mut self) -> Self {
        self.announced = AtomicBool::new(false);
        self
    }

    /// The instance's row names its producer now.
    pub fn announced(&self) {
        if !self.announced.swap(true, Ordering::AcqRel) {
            self.poke();
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

    /// Since when this instance works on it, by its own clock.
    pub fn started_at(&self) -> DateTime<Utc> {
        self.times().started_at
    }

    /// Since when it stops, by the instance's clock; `None` while it does not.
    pub fn shutdown_started_at(&self) -> Option<DateTime<Utc>> {
        self.times().shutdown_started_at
    }

    /// Longest time between two looks at the table.
    pub fn poll_interval(&self) -> Duration {
        self.settings.poll_interval.get()
    }

    /// Least time between two claims.
    pub fn dispatch_cooldown(&self) -> Duration {
        self.settings.dispatch_cooldown.get()
    }

    /// Jobs that may run at once.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Acquire)
    }

    /// Changes the limit; it holds for the next claim, and running jobs go on.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Release);
        // Without a limit of its own, blocking code has that of the queue.
        if self.settings.blocking_max.is_none() {
            self.blocking.set_max(limit);
        }
        self.touch();
        self.poke();
    }

    /// Whether claiming is paused, by a person or because there is nothing to run jobs on.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Pauses or resumes claiming. A pause that holds already stays that of whoever ordered it.
    pub fn set_paused(&self, paused: bool) {
        let mut pause = self.lock_pause();
        let was_paused = self.paused.swap(paused, Ordering::AcqRel);
        if !(paused && was_paused) {
            *pause = None;
        }
        drop(pause);
        self.touch();
        self.poke();
    }

    /// Pauses claiming, and keeps who ordered it.
    pub fn pause_by(&self, by: Pause) {
        let mut pause = self.lock_pause();
        self.paused.store(true, Ordering::Release);
        *pause = Some(by);
        drop(pause);
        self.touch();
        self.poke();
    }

    /// Who paused it, where it is paused and that is known.
    pub fn pause(&self) -> Option<Pause> {
        self.lock_pause().clone()
    }

    fn lock_pause(&self) -> MutexGuard<'_, Option<Pause>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pauses claiming because the runtime of the jobs' code is gone: each claim would be handed back and made again.
    pub(super) fn pause_without_runtime(&self) {
        if !self.is_leaving() && !self.is_paused() {
            self.set_paused(true);
            tracing::error!(
                target: "queue", queue = self.name,
                "the runtime that job code runs on has been shut down, so no job can run here: the queue is paused; keep \
                 NodeOptions::job_runtime alive for longer than the node"
            );
        }
    }

    /// Ends claiming for good, because the instance stops.
    pub fn stop_claiming(&self) {
        self.stopping.store(true, Ordering::Release);
        self.lock_times().shutdown_started_at.get_or_insert_with(Utc::now);
    }

    /// Ends claiming because this queue stops; returns whether it did not stop already.
    pub(super) fn leave(&self) -> bool {
        let first = self.lock_times().shutdown_started_at.replace(Utc::now()).is_none();
        self.poke();
        first
    }

    /// Takes a stop of this queue back.
    pub(super) fn stay(&self, limit: u32, paused: bool) {
        self.lock_times().shutdown_started_at = None;
        self.set_paused(paused);
        self.set_limit(limit);
    }

    /// Whether it stops, alone or with the instance.
    pub fn is_leaving(&self) -> bool {
        self.stopping.load(Ordering::Acquire) || self.lock_times().shutdown_started_at.is_some()
    }

    /// Notes that it was changed, or looked at the table.
    pub(super) fn touch(&self) {
        self.lock_times().updated_at = Utc::now();
    }

    pub(super) fn times(&self) -> Times {
        *self.lock_times()
    }

    fn lock_times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many jobs may be claimed now.
    pub fn demand(&self) -> u32 {
        self.demand_without(std::iter::empty())
    }

    /// How many jobs may be claimed by a statement that stores the results that hold these slots.
    pub(super) fn demand_without(&self, stored: impl Iterator<Item = Slot>) -> u32 {
        if !self.is_claiming() {
            return 0;
        }
        let occupied = {
            let running = self.lock();
            // One whose slot was released does not count already.
            let counted = |slot: &Slot| running.slots.get(slot).is_some_and(|held| !held.released);
            running.slots.len() - running.released - stored.filter(counted).count()
        };
        self.limit().saturating_sub(u32::try_from(occupied).unwrap_or(u32::MAX))
    }

    /// Whether it claims at all.
    pub(super) fn is_claiming(&self) -> bool {
        !self.is_paused() && !self.is_leaving() && self.announced.load(Ordering::Acquire)
    }

    /// Whether its producer stores what succeeded, together with its claims.
    pub(super) fn exchanges(&self) -> bool {
        (self.limit() as usize) < SPLIT_FROM && self.is_claiming()
    }

    /// How many results are stored at once: half of the limit, because the freed half is claimed for while the other is
    /// stored; all of a small limit, where a statement costs more than its rows.
    pub(super) fn share(&self) -> usize {
        let limit = self.limit() as usize;
        if limit < SPLIT_FROM { limit.max(1) } else { limit.div_ceil(2) }
    }

    /// Slots that are taken: all that run but those whose slot was released.
    pub fn occupied(&self) -> usize {
        let running = self.lock();
        running.slots.len() - running.released
    }

    /// Jobs that run or whose result is not stored yet, with those whose slot was released.
    pub fn running(&self) -> usize {
        self.lock().slots.len()
    }

    /// Their ids, in rising order.
    pub fn running_ids(&self) -> Vec<i64> {
        let mut ids: Vec<_> = self.lock().slots.keys().map(|slot| slot.job_id).collect();
        ids.dedup();
        ids
    }

    /// Those whose code has not ended, in rising order.
    pub(crate) fn unfinished_ids(&self) -> Vec<i64> {
        let running = self.lock();
        let mut ids: Vec<_> =
            running.slots.iter().filter(|(_, held)| !held.finished).map(|(slot, _)| slot.job_id).collect();
        ids.dedup();
        ids
    }

    /// Says that the code of a job has ended.
    pub(super) fn finished(&self, slot: Slot) {
        if let Some(held) = self.lock().slots.get_mut(&slot) {
            held.finished = true;
        }
    }

    /// The number of running jobs, to wait on.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Takes a slot for each of these claimed jobs, in their order, with the signal that stops it.
    pub(super) fn occupy(&self, job_ids: impl Iterator<Item = i64>) -> Vec<(Slot, StopSignal)> {
        let mut running = self.lock();
        let mut taken = Vec::with_capacity(job_ids.size_hint().0);
        for job_id in job_ids {
            running.last_number += 1;
            let (slot, stop) = (Slot { job_id, number: running.last_number }, StopSignal::default());
            running.slots.insert(slot, Held { stop: stop.clone(), released: false, finished: false });
            taken.push((slot, stop));
        }
        self.count.send_replace(running.slots.len());
        taken
    }

    /// Frees the slots of jobs whose results are stored or superseded, and wakes the producer.
    pub(super) fn free(&self, slots: impl Iterator<Item = Slot>) {
        self.free_quietly(slots);
        self.poke();
    }

    /// The same by the producer itself.
    pub(super) fn free_quietly(&self, slots: impl Iterator<Item = Slot>) {
        let mut running = self.lock();
        for slot in slots {
            let held = running.slots.remove(&slot);
            running.released -= usize::from(held.is_some_and(|held| held.released));
        }
        self.count.send_replace(running.slots.len());
    }

    /// Gives the place of a job whose code is stuck to others, if this queue does so; the job stays known until
    /// [`QueueState::free`]. At most as many as the limit are released at a time, which bounds what piles up. Returns
    /// whether it was.
    pub(super) fn release_stuck(&self, slot: Slot) -> bool {
        if self.settings.on_stuck == OnStuck::Hold {
            return false;
        }
        {
            let mut running = self.lock();
            if running.released >= self.limit() as usize {
                return false;
            }
            match running.slots.get_mut(&slot) {
                Some(held) if !held.released => held.released = true,
                _ => return false,
            }
            running.released += 1;
        }
        self.poke();
        true
    }

    /// The stop signals of a job that runs here.
    pub fn stop_signals_of(&self, job_id: i64) -> Vec<StopSignal> {
        let (first, last) = (Slot { job_id, number: 0 }, Slot { job_id, number: u64::MAX });
        self.lock().slots.range(first..=last).map(|(_, held)| held.stop.clone()).collect()
    }

    /// The stop signals of those of `job_ids` whose code has not ended, with the job.
    pub(super) fn unfinished_among(&self, job_ids: impl Iterator<Item = i64>) -> Vec<(i64, StopSignal)> {
        let running = self.lock();
        let mut found = Vec::new();
        for job_id in job_ids {
            let (first, last) = (Slot { job_id, number: 0 }, Slot { job_id, number: u64::MAX });
            let of_job = running.slots.range(first..=last).filter(|(_, held)| !held.finished);
            found.extend(of_job.map(|(_, held)| (job_id, held.stop.clone())));
        }
        found
    }

    /// Asks all jobs that run here to stop.
    pub fn stop_jobs(&self, cause: StopCause) {
        let signals: Vec<StopSignal> = self.lock().slots.values().map(|held| held.stop.clone()).collect();
        signals.iter().for_each(|signal| signal.stop(cause));
    }

    /// Resolves when nothing runs and every result is stored. Cancel safe.
    pub async fn idle(&self) {
        // The sender lives as long as the queue that is borrowed here.
        drop(self.watch().wait_for(|running| *running == 0).await);
    }

    /// The supervisor of its executors.
    pub fn executors(&self) -> &DynamicHandle {
        &self.executors
    }

    pub(super) fn blocking(&self) -> &Arc<Blocking> {
        &self.blocking
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

    /// Tells the producer that results are kept for it.
    pub(super) fn poke_finished(&self) {
        if !self.told.swap(true, Ordering::AcqRel) && self.address.cast(ProducerMsg::Finished).is_err() {
            // Down or flooded: the completer sees that nobody comes for them.
            self.told.store(false, Ordering::Release);
        }
    }

    /// Whether it was told so since [`QueueState::clear_finished_poke`].
    pub(super) fn has_finished(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    pub(super) fn clear_finished_poke(&self) {
        self.told.store(false, Ordering::Release);
    }

    /// Says that the producer looks at the table, until what is returned is dropped.
    pub(super) fn look(self: &Arc<Self>) -> Look {
        self.looking.store(true, Ordering::Release);
        Look(Arc::clone(self))
    }

    /// The turn to offer a job to the producer, for one inserter at a time: where the queue has room, and the producer
    /// nothing to do.
    pub(super) fn turn_to_offer(&self) -> Option<OfferTurn<'_>> {
        let is_idle = [&self.looking, &self.poked, &self.told].iter().all(|busy| !busy.load(Ordering::Acquire));
        let has_turn = is_idle && self.demand() > 0 && !self.offered.swap(true, Ordering::AcqRel);
        has_turn.then(|| OfferTurn(&self.offered))
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        // The map is consistent after every single operation, so a panic elsewhere does not spoil it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_whose_results_are_stored_by_a_claim_are_free_for_it_once() {
        let queue = QueueState::new("q", Queue { limit: 3, on_stuck: OnStuck::Release, ..Queue::default() });
        let slots: Vec<Slot> = queue.occupy(1..=3).into_iter().map(|(slot, _)| slot).collect();
        let demand = |stored: &[Slot]| queue.demand_without(stored.iter().copied());
        assert_eq!((queue.demand(), demand(&slots[..1]), demand(&slots)), (0, 1, 3));
        // The place of stuck code is given away already.
        assert!(queue.release_stuck(slots[0]));
        assert_eq!((queue.demand(), demand(&slots[..1]), demand(&slots[1..])), (1, 1, 3));
        queue.set_limit(1);
        assert_eq!((queue.demand(), demand(&slots[1..2]), demand(&slots[1..])), (0, 0, 1));
        // Nor does one count that is free again.
        queue.free_quietly(slots[1..2].iter().copied());
        assert_eq!((queue.demand(), demand(&slots[1..2]), demand(&slots[2..])), (0, 0, 1));
        queue.set_paused(true);
        assert_eq!(demand(&slots[2..]), 0);
    }
}
