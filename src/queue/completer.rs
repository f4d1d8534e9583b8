//! Stores what attempts came to: collects the results of all queues and writes them as arrays.
//!
//! While one write is under way the next batch gathers, so a busy instance writes large batches and an idle one writes
//! at once. Results wait in a shared list that outlives the actor: a restart, or a database that is away, delays a
//! result and never drops it. The list is bounded by the limits of the queues, because a slot is freed only when its
//! result is stored. A result that the database refuses (a trigger or an index of somebody else) waits apart, so that it
//! holds up no other; it keeps its slot and is tried again.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::engine::{Engine, GuardedAck};
use super::error::QueueError;
use super::job::Job;
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
    refused: Mutex<VecDeque<Completion>>,
    poked: AtomicBool,
    address: Address<CompleterMsg>,
}

impl Default for Completions {
    fn default() -> Self {
        Self(Arc::new(Shared {
            waiting: Mutex::default(),
            refused: Mutex::default(),
            poked: AtomicBool::new(false),
            address: Address::new("completer", COMPLETER_MAILBOX_MAX),
        }))
    }
}

impl Completions {
    /// Adds a result and wakes the completer.
    pub(super) fn push(&self, completion: Completion) {
        lock(&self.0.waiting).push_back(completion);
        self.poke();
    }

    /// Results that are not stored yet.
    pub fn len(&self) -> usize {
        lock(&self.0.waiting).len() + lock(&self.0.refused).len()
    }

    /// Whether everything is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn poke(&self) {
        if !self.0.poked.swap(true, Ordering::AcqRel) && self.0.address.cast(CompleterMsg::Flush).is_err() {
            // Not running: it flushes when it starts.
            self.0.poked.store(false, Ordering::Release);
        }
    }

    /// The oldest results; they stay in the list until they are stored or refused.
    fn batch(&self) -> Vec<Completion> {
        lock(&self.0.waiting).iter().take(COMPLETION_BATCH_MAX).cloned().collect()
    }

    fn stored(&self, count: usize) {
        lock(&self.0.waiting).drain(..count);
    }

    /// Puts the oldest result apart.
    fn refuse(&self) {
        let mut refused = lock(&self.0.refused);
        refused.extend(lock(&self.0.waiting).pop_front());
    }

    fn refused(&self) -> Vec<Completion> {
        lock(&self.0.refused).iter().cloned().collect()
    }

    fn stored_refused(&self, slot: Slot) {
        lock(&self.0.refused).retain(|completion| completion.slot != slot);
    }
}

/// The lists are consistent after every single operation.
fn lock(list: &Mutex<VecDeque<Completion>>) -> MutexGuard<'_, VecDeque<Completion>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The actor. One an instance.
#[derive(Debug)]
pub struct Completer {
    engine: Engine,
    completions: Completions,
    retry: Option<Timer>,
}

/// What the completer is told.
#[derive(Debug)]
pub enum CompleterMsg {
    /// Results are waiting.
    Flush,
    /// What could not be stored is tried again.
    Retry,
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
            match self.store(&batch).await {
                Ok(()) => self.completions.stored(batch.len()),
                Err(error) if error.is_unavailable() => return Err(error),
                Err(_) => self.store_singly(&batch).await?,
            }
        }
    }

    /// One of `batch`, the oldest results, is refused: finds out which and puts it apart.
    async fn store_singly(&self, batch: &[Completion]) -> Result<(), QueueError> {
        for completion in batch {
            match self.store(std::slice::from_ref(completion)).await {
                Ok(()) => self.completions.stored(1),
                Err(error) if error.is_unavailable() => return Err(error),
                Err(error) => {
                    let job = &completion.job;
                    tracing::error!(
                        target: "queue", id = job.id, worker = %job.worker, queue = %job.queue, %error,
                        "the database refuses this job's result; its slot stays busy until it is stored"
                    );
                    self.completions.refuse();
                }
            }
        }
        Ok(())
    }

    /// Tries the refused ones again. Whether the database is away is for [`Completer::flush`] to say.
    async fn retry_refused(&self) {
        for completion in self.completions.refused() {
            if self.store(std::slice::from_ref(&completion)).await.is_ok() {
                self.completions.stored_refused(completion.slot);
            }
        }
    }

    async fn store(&self, batch: &[Completion]) -> Result<(), QueueError> {
        let acks: Vec<_> = batch.iter().map(|completion| completion.ack.clone()).collect();
        let accepted: HashSet<i64> = self.engine.complete(&acks).await?.into_iter().collect();
        for completion in batch {
            log(completion, accepted.contains(&completion.job.id));
            completion.queue.free(completion.slot);
        }
        Ok(())
    }
}

impl Actor for Completer {
    type Msg = CompleterMsg;
    type Args = (Engine, Completions);

    async fn init(ctx: &Ctx<CompleterMsg>, (engine, completions): Self::Args) -> Result<Self, ActorError> {
        // What a former incarnation left.
        let retry = Some(ctx.send_after(Duration::ZERO, CompleterMsg::Retry));
        Ok(Self { engine, completions, retry })
    }

    async fn handle(&mut self, ctx: &Ctx<CompleterMsg>, msg: CompleterMsg) -> Result<Flow, ActorError> {
        self.completions.0.poked.store(false, Ordering::Release);
        ctx.probe().set_label("waiting", self.completions.len().to_string());
        let flushed = self.flush().await;
        if let Err(error) = &flushed {
            tracing::warn!(target: "queue", %error, waiting = self.completions.len(), "results wait to be stored");
        } else if matches!(msg, CompleterMsg::Retry) {
            self.retry_refused().await;
        }
        let waits_for_retry = self.retry.as_ref().is_some_and(|timer| !timer.is_finished());
        if !self.completions.is_empty() && (flushed.is_err() || !waits_for_retry) {
            self.retry = Some(ctx.send_after(RETRY_AFTER, CompleterMsg::Retry));
        }
        Ok(Flow::Continue)
    }

    async fn stopped(&mut self, _ctx: &Ctx<CompleterMsg>, _reason: &ExitReason) {
        match tokio::time::timeout(FLUSH_LIMIT, self.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(target: "queue", %error, left = self.completions.len(), "results not stored"),
            Err(_) => tracing::error!(target: "queue", left = self.completions.len(), "results not stored in time"),
        }
    }

    fn message_kind(msg: &CompleterMsg) -> &'static str {
        match msg {
            CompleterMsg::Flush => "flush",
            CompleterMsg::Retry => "retry",
        }
    }
}

/// One line a finished attempt. Never arguments: they may be prompts.
fn log(completion: &Completion, accepted: bool) {
    let job = &completion.job;
    let ack = &completion.ack.ack;
    let duration_ms = u64::try_from(completion.duration.as_millis()).unwrap_or(u64::MAX);
    if !accepted {
        tracing::warn!(
            target: "job", id = job.id, worker = %job.worker, queue = %job.queue, attempt = job.attempt, state = %ack.state,
            "job superseded: it was cancelled, rescued or retried elsewhere, and what this attempt came to does not count"
        );
        return;
    }
    let error = ack.error.as_deref().map(|error| error.lines().next().unwrap_or_default());
    match ack.state {
        State::Completed => tracing::info!(
            target: "job", id = job.id, worker = %job.worker, queue = %job.queue, attempt = job.attempt, duration_ms,
            "job completed"
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
