//! Results on their way to the database: a list that outlives whoever stores them.
//!
//! A restart, or a database that is away, delays a result and never drops it. The list is bounded by the limits of the
//! queues, because a slot is freed only when its result is stored.
//!
//! The completer stores them, with one exception. A queue with a small limit is held up by round trips and commits, not
//! by rows, so its producer stores what succeeded and claims the next jobs in one statement. What is kept for a
//! producer that does not come for it within [`KEPT_FOR`], because it waits, is suspended or is gone, goes to the
//! completer. What the database does not take is set [`aside`](super::aside).

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::aside::{Aside, Hindrance};
use super::completer::CompleterMsg;
use super::engine::GuardedAck;
use super::family::concerned;
use super::job::Job;
use super::measures::Measures;
use super::slots::{QueueState, Slot};
use super::state::State;
use crate::supervision::Address;

/// Results in one statement.
pub const COMPLETION_BATCH_MAX: usize = 500;
/// Mailbox of the completer; pokes are merged.
const COMPLETER_MAILBOX_MAX: usize = 16;
/// How long results are kept for a producer: longer than a statement takes mostly, shorter than anybody notices.
pub(super) const KEPT_FOR: Duration = Duration::from_millis(20);

/// One result on its way to the database.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The guarded write.
    pub ack: GuardedAck,
    /// The job it is about.
    pub job: Arc<Job>,
    /// The queue whose slot it holds.
    pub queue: Arc<QueueState>,
    /// The slot.
    pub slot: Slot,
    /// Time from claim to result.
    pub duration: Duration,
    /// A write of it was begun. If that came to no answer, nobody knows whether it was done.
    pub in_doubt: bool,
}

/// Results that wait to be stored. Cheap to clone; all clones are one list.
#[derive(Debug, Clone)]
pub struct Completions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    lists: Mutex<Lists>,
    poked: AtomicBool,
    superseded: AtomicU64,
    address: Address<CompleterMsg>,
    measures: Measures,
}

#[derive(Debug, Default)]
struct Lists {
    /// For the completer.
    waiting: VecDeque<Completion>,
    /// For producers, oldest first.
    kept: VecDeque<(Instant, Completion)>,
    /// For the completer, later.
    aside: Aside,
    /// The completer will look whether producers come.
    watched: bool,
    /// Some were kept since it looked. It looks once more when nothing is left, so that a busy queue does not wake it
    /// for each batch.
    fresh: bool,
}

impl Default for Completions {
    fn default() -> Self {
        Self(Arc::new(Shared {
            lists: Mutex::default(),
            poked: AtomicBool::new(false),
            superseded: AtomicU64::new(0),
            address: Address::new("completer", COMPLETER_MAILBOX_MAX),
            measures: Measures::default(),
        }))
    }
}

/// Results that a producer stores. Those that it does not say to be [`Taken::stored`] go to the completer when this is
/// dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    completions: &'a Completions,
    batch: Vec<Completion>,
}

impl Completions {
    /// Adds a result and wakes who stores it.
    pub(super) fn push(&self, completion: Completion) {
        // The completer also wakes whoever waits for a job.
        let needs_completer = !completion.ack.has_plainly_succeeded() || concerned(&completion).is_some();
        if needs_completer || !completion.queue.exchanges() {
            self.lists().waiting.push_back(completion);
            return self.poke();
        }
        let queue = Arc::clone(&completion.queue);
        let watched = {
            let mut lists = self.lists();
            lists.kept.push_back((Instant::now(), completion));
            lists.fresh = true;
            std::mem::replace(&mut lists.watched, true)
        };
        queue.poke_finished();
        if !watched {
            self.poke();
        }
    }

    /// The results that are kept for the producer of `queue`, at most `max`.
    pub(super) fn take_of(&self, queue: &Arc<QueueState>, max: usize) -> Taken<'_> {
        let mut batch = Vec::new();
        self.lists().kept.retain(|(_, completion)| {
            let takes = batch.len() < max && Arc::ptr_eq(&completion.queue, queue);
            if takes {
                batch.push(completion.clone());
            }
            !takes
        });
        Taken { completions: self, batch }
    }

    /// Gives to the completer what producers did not come for, or all. Returns when to look again.
    pub(super) fn overdue(&self, all: bool) -> Option<Duration> {
        let mut lists = self.lists();
        let now = Instant::now();
        while let Some((_, completion)) = lists.kept.pop_front_if(|(since, _)| all || now - *since >= KEPT_FOR) {
            lists.waiting.push_back(completion);
        }
        if all {
            lists.aside.hurry(now);
        }
        let fresh = std::mem::take(&mut lists.fresh).then_some(KEPT_FOR);
        let next = lists.kept.front().map(|(since, _)| (*since + KEPT_FOR) - now).or(fresh);
        lists.watched = next.is_some();
        next
    }

    /// Results that are not stored yet, but for those that a producer is just storing.
    pub fn len(&self) -> usize {
        let lists = self.lists();
        lists.waiting.len() + lists.kept.len() + lists.aside.len()
    }

    /// Whether everything is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the stored results say about times and numbers.
    pub fn measures(&self) -> &Measures {
        &self.0.measures
    }

    /// Results that did not count since the start, because somebody had taken the job meanwhile.
    pub fn superseded(&self) -> u64 {
        self.0.superseded.load(Ordering::Relaxed)
    }

    /// Where the completer listens.
    pub(super) fn address(&self) -> &Address<CompleterMsg> {
        &self.0.address
    }

    fn poke(&self) {
        if !self.0.poked.swap(true, Ordering::AcqRel) && self.0.address.cast(CompleterMsg::Flush).is_err() {
            // Not running: it flushes when it starts.
            self.0.poked.store(false, Ordering::Release);
        }
    }

    pub(super) fn clear_poke(&self) {
        self.0.poked.store(false, Ordering::Release);
    }

    /// The oldest results; they stay in the list until [`Completions::stored`], and are in doubt there from now on.
    /// Of one queue at most its share, so that its producer claims while the rest is written.
    pub(super) fn batch(&self) -> Vec<Completion> {
        let mut lists = self.lists();
        let mut batch: Vec<Completion> = Vec::with_capacity(lists.waiting.len().min(COMPLETION_BATCH_MAX));
        let mut taken: Vec<(&Arc<QueueState>, usize)> = Vec::new();
        for completion in lists.waiting.iter().take(COMPLETION_BATCH_MAX) {
            let known = taken.iter_mut().find(|(queue, _)| Arc::ptr_eq(queue, &completion.queue));
            match known {
                Some((queue, count)) if *count >= queue.share() => break,
                Some((_, count)) => *count += 1,
                None => taken.push((&completion.queue, 1)),
            }
            batch.push(completion.clone());
        }
        lists.waiting.iter_mut().take(batch.len()).for_each(|completion| completion.in_doubt = true);
        batch
    }

    /// The oldest of those that wait for the completer are stored.
    pub(super) fn stored(&self, count: usize) {
        self.lists().waiting.drain(..count);
    }

    /// Sets those of the oldest `count` that wait for the completer aside that `is_hindered`.
    pub(super) fn set_aside(&self, count: usize, hindrance: Hindrance, is_hindered: impl Fn(&Completion) -> bool) {
        let lists = &mut *self.lists();
        let (now, oldest) = (Instant::now(), lists.waiting.drain(..count).collect::<Vec<_>>());
        let (hindered, others): (Vec<_>, Vec<_>) = oldest.into_iter().partition(is_hindered);
        hindered.iter().for_each(|completion| lists.aside.put(completion, hindrance, now));
        others.into_iter().rev().for_each(|completion| lists.waiting.push_front(completion));
    }

    /// Those that were set aside and are to be tried again; they stay in the list.
    pub(super) fn due_aside(&self) -> Vec<Completion> {
        self.lists().aside.due(Instant::now())
    }

    /// One that was set aside has to wait longer.
    pub(super) fn still_aside(&self, completion: &Completion, hindrance: Hindrance) {
        self.lists().aside.put(completion, hindrance, Instant::now());
    }

    /// One that was set aside is stored.
    pub(super) fn stored_aside(&self, completion: &Completion) {
        self.lists().aside.remove(completion);
    }

    /// How many are set aside, and when the next of them is to be tried.
    pub(super) fn aside(&self) -> (usize, Option<Duration>) {
        let aside = &self.lists().aside;
        (aside.len(), aside.next().map(|due| due.saturating_duration_since(Instant::now())))
    }

    /// Says what became of a result that is stored, or superseded.
    pub(super) fn tell(&self, completion: &Completion, accepted: bool) {
        if accepted {
            self.measure(completion);
        } else {
            self.0.superseded.fetch_add(1, Ordering::Relaxed);
        }
        log(completion, accepted);
    }

    /// What was handed back did not end.
    fn measure(&self, completion: &Completion) {
        let (job, state) = (&completion.job, completion.ack.ack.state);
        if state != State::Available {
            let waited = job.attempted_at.map(|claimed| claimed - job.scheduled_at);
            let waited = waited.and_then(|waited| waited.to_std().ok()).unwrap_or_default();
            self.measures().add(state, &job.queue, &job.worker, completion.duration, waited);
        }
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// What is to be written; in doubt from now on.
    pub(super) fn acks(&mut self) -> Vec<GuardedAck> {
        self.batch.iter_mut().for_each(|completion| completion.in_doubt = true);
        self.batch.iter().map(|completion| completion.ack.clone()).collect()
    }

    /// Their slots.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.batch.iter().map(|completion| completion.slot)
    }

    /// Says that all of them are written but for those that were superseded, whose ids are not in `accepted`, and frees
    /// their slots.
    pub(super) fn stored(mut self, accepted: &[i64]) {
        let accepted: HashSet<i64> = accepted.iter().copied().collect();
        let batch = std::mem::take(&mut self.batch);
        batch.iter().for_each(|completion| self.completions.tell(completion, accepted.contains(&completion.job.id)));
        if let Some(first) = batch.first() {
            first.queue.free_quietly(batch.iter().map(|completion| completion.slot));
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.batch.is_empty() {
            self.completions.lists().waiting.extend(self.batch.drain(..));
            self.completions.poke();
        }
    }
}

/// One line a finished attempt. Never arguments: they may be prompts.
fn log(completion: &Completion, accepted: bool) {
    let job = &completion.job;
    let ack = &completion.ack.ack;
    let duration_ms = u64::try_from(completion.duration.as_millis()).unwrap_or(u64::MAX);
    let waited = job.attempted_at.unwrap_or(job.scheduled_at) - job.scheduled_at;
    let queue_time_ms = waited.num_milliseconds().max(0);
    if !accepted {
        tracing::warn!(
            target: "job", id = job.id, worker = %job.worker, queue = %job.queue, attempt = job.attempt,
            state = %ack.state, "job superseded: it was cancelled, rescued or retried elsewhere, and what this attempt came to does not count"
        );
        return;
    }
    let error = ack.error.as_deref().map(|error| error.lines().next().unwrap_or_default());
    match ack.state {
        State::Completed => tracing::info!(
            target: "job", id = job.id, worker = %job.worker, queue = %job.queue, attempt = job.attempt, queue_time_ms,
            duration_ms, "job completed"
        ),
        State::Discarded | State::Retryable => tracing::warn!(
            target: "job", id = job.id, worker = %job.worker, queue = %job.queue, attempt = job.attempt, duration_ms,
            state = %ack.state, error, "job failed"
        ),
        State::Suspended | State::Scheduled | State::Available | State::Executing | State::Cancelled => tracing::info!(
            target: "job", id = job.id, worker = %job.worker, queue = %job.queue, attempt = job.attempt, duration_ms,
            state = %ack.state, error, "job stopped"
        ),
    }
}
