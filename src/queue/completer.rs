//! Stores what attempts came to: collects the results of all queues and writes them as arrays.
//!
//! While one write is under way the next batch gathers, so a busy instance writes large batches and an idle one writes
//! at once. Results wait in a shared list that outlives the actor: a restart, or a database that is away, delays a
//! result and never drops it. The list is bounded by the limits of the queues, because a slot is freed only when its
//! result is stored.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::engine::{Engine, GuardedAck};
use super::error::QueueError;
use super::family::concerned;
use super::job::Job;
use super::measures::Measures;
use super::slots::{QueueState, Slot};
use super::state::State;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, ExitReason, Flow, Shutdown, Timer};

/// Results in one statement.
pub const COMPLETION_BATCH_MAX: usize = 500;
/// Mailbox of the completer; pokes are merged.
const COMPLETER_MAILBOX_MAX: usize = 16;
/// Wait before a failed write is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long a stopping completer tries to store what is left.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

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
}

/// Results that wait to be stored. Cheap to clone; all clones are one list.
#[derive(Debug, Clone)]
pub struct Completions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<VecDeque<Completion>>,
    poked: AtomicBool,
    superseded: AtomicU64,
    address: Address<CompleterMsg>,
    measures: Measures,
}

impl Default for Completions {
    fn default() -> Self {
        Self(Arc::new(Shared {
            waiting: Mutex::default(),
            poked: AtomicBool::new(false),
            superseded: AtomicU64::new(0),
            address: Address::new("completer", COMPLETER_MAILBOX_MAX),
            measures: Measures::default(),
        }))
    }
}

impl Completions {
    /// Adds a result and wakes the completer.
    pub(super) fn push(&self, completion: Completion) {
        self.waiting().push_back(completion);
        self.poke();
    }

    /// Results that are not stored yet.
    pub fn len(&self) -> usize {
        self.waiting().len()
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

    fn poke(&self) {
        if !self.0.poked.swap(true, Ordering::AcqRel) && self.0.address.cast(CompleterMsg::Flush).is_err() {
            // Not running: it flushes when it starts.
            self.0.poked.store(false, Ordering::Release);
        }
    }

    /// The oldest results; they stay in the list until [`Completions::stored`].
    /// Of one queue at most its share, so that its producer claims while the rest is written.
    fn batch(&self) -> Vec<Completion> {
        let waiting = self.waiting();
        let mut batch: Vec<Completion> = Vec::with_capacity(waiting.len().min(COMPLETION_BATCH_MAX));
        let mut taken: Vec<(&Arc<QueueState>, usize)> = Vec::new();
        for completion in waiting.iter().take(COMPLETION_BATCH_MAX) {
            let known = taken.iter_mut().find(|(queue, _)| Arc::ptr_eq(queue, &completion.queue));
            match known {
                Some((queue, count)) if *count >= queue.share() => break,
                Some((_, count)) => *count += 1,
                None => taken.push((&completion.queue, 1)),
            }
            batch.push(completion.clone());
        }
        batch
    }

    fn stored(&self, count: usize) {
        self.waiting().drain(..count);
    }

    /// Moves the oldest result to the end.
    fn postpone(&self) {
        let mut waiting = self.waiting();
        if !waiting.is_empty() {
            waiting.rotate_left(1);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Completion>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The actor. One an instance.
#[derive(Debug)]
pub struct Completer {
    engine: Engine,
    completions: Completions,
    retry: Option<Timer>,
    failing: bool,
}

/// What the completer is told.
#[derive(Debug)]
pub enum CompleterMsg {
    /// Results are waiting.
    Flush,
}

impl Completer {
    /// The child that stores `completions`.
    pub fn child(engine: Engine, completions: Completions) -> ChildSpec {
        let address = completions.0.address.clone();
        ChildSpec::actor::<Self>("completer", &address, move || (engine.clone(), completions.clone()))
            .shutdown(Shutdown::Timeout(FLUSH_LIMIT + Duration::from_secs(1)))
    }

    /// Writes batches until nothing waits.
    async fn flush(&self) -> Result<(), QueueError> {
        loop {
            let batch = self.completions.batch();
            if batch.is_empty() {
                return Ok(());
            }
            let acks: Vec<_> = batch.iter().map(|completion| completion.ack.clone()).collect();
            match self.engine.complete(&acks).await {
                Ok(accepted) => {
                    self.completions.stored(batch.len());
                    let accepted: HashSet<i64> = accepted.into_iter().collect();
                    batch.iter().for_each(|completion| self.tell(completion, accepted.contains(&completion.job.id)));
                    // Slots are freed queue by queue, so that a producer is woken once and finds all of them.
                    for same in batch.chunk_by(|one, other| Arc::ptr_eq(&one.queue, &other.queue)) {
                        free(same);
                    }
                    self.wake_parents(&batch).await;
                }
                Err(error) if error.is_unavailable() => return Err(error),
                Err(_) => self.flush_one_by_one(batch).await?,
            }
        }
    }

    /// After the database refused a batch: stores what it accepts, so that one result that it does not accept holds up
    /// no other. What is refused goes to the end of the list and is tried again.
    async fn flush_one_by_one(&self, batch: Vec<Completion>) -> Result<(), QueueError> {
        let mut refused = Ok(());
        for completion in batch {
            let accepted = match self.engine.complete(std::slice::from_ref(&completion.ack)).await {
                Ok(accepted) => accepted,
                Err(error) if error.is_unavailable() => return Err(error),
                Err(error) => {
                    tracing::error!(target: "queue", %error, id = completion.job.id, "a result was refused by the database");
                    self.completions.postpone();
                    refused = Err(error);
                    continue;
                }
            };
            self.completions.stored(1);
            self.tell(&completion, !accepted.is_empty());
            free(std::slice::from_ref(&completion));
            self.wake_parents(std::slice::from_ref(&completion)).await;
        }
        refused
    }

    /// Wakes jobs that wait for these. What is missed here they find by looking.
    async fn wake_parents(&self, stored: &[Completion]) {
        let ids: Vec<i64> = stored.iter().filter_map(concerned).collect();
        if !ids.is_empty()
            && let Err(error) = self.engine.wake_parents(&ids).await
        {
            tracing::warn!(target: "queue", %error, "jobs that wait were not woken; they look by themselves");
        }
    }

    /// Says what became of a result that is stored.
    fn tell(&self, completion: &Completion, accepted: bool) {
        if accepted {
            self.measure(completion);
        } else {
            self.completions.0.superseded.fetch_add(1, Ordering::Relaxed);
        }
        log(completion, accepted);
    }

    /// What the tree tells of it.
    fn show(&self, ctx: &Ctx<CompleterMsg>) {
        let superseded = self.completions.superseded();
        if superseded > 0 {
            ctx.probe().set_label("superseded", superseded.to_string());
        }
    }

    /// What was handed back did not end.
    fn measure(&self, completion: &Completion) {
        let (job, state) = (&completion.job, completion.ack.ack.state);
        if state != State::Available {
            let waited = job.attempted_at.map(|claimed| claimed - job.scheduled_at);
            let waited = waited.and_then(|waited| waited.to_std().ok()).unwrap_or_default();
            self.completions.measures().add(state, &job.queue, &job.worker, completion.duration, waited);
        }
    }
}

impl Actor for Completer {
    type Msg = CompleterMsg;
    type Args = (Engine, Completions);

    async fn init(ctx: &Ctx<CompleterMsg>, (engine, completions): Self::Args) -> Result<Self, ActorError> {
        // What a former incarnation left.
        let retry = Some(ctx.send_after(Duration::ZERO, CompleterMsg::Flush));
        Ok(Self { engine, completions, retry, failing: false })
    }

    async fn handle(&mut self, ctx: &Ctx<CompleterMsg>, msg: CompleterMsg) -> Result<Flow, ActorError> {
        let CompleterMsg::Flush = msg;
        self.completions.0.poked.store(false, Ordering::Release);
        match self.flush().await {
            Ok(()) => {
                ctx.probe().remove_label("waiting");
                self.failing = false;
            }
            Err(error) => {
                ctx.probe().set_label("waiting", self.completions.len().to_string());
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(target: "queue", %error, waiting = self.completions.len(), "results wait to be stored");
                }
                self.retry = Some(ctx.send_after(RETRY_AFTER, CompleterMsg::Flush));
            }
        }
        self.show(ctx);
        Ok(Flow::Continue)
    }

    async fn stopped(&mut self, _ctx: &Ctx<CompleterMsg>, _reason: &ExitReason) {
        match tokio::time::timeout(FLUSH_LIMIT, self.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(target: "queue", %error, left = self.completions.len(), "results not stored")
            }
            Err(_) => tracing::error!(target: "queue", left = self.completions.len(), "results not stored in time"),
        }
    }

    fn message_kind(_msg: &CompleterMsg) -> &'static str {
        "flush"
    }
}

/// Frees the slots of stored results of one queue.
fn free(stored: &[Completion]) {
    if let Some(first) = stored.first() {
        first.queue.free(stored.iter().map(|completion| completion.slot));
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
