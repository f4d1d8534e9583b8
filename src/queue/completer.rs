//! Stores what attempts came to: writes the results of all queues as arrays.
//!
//! While one write is under way the next batch gathers, so a busy instance writes large batches and an idle one writes
//! at once. Results wait in [`Completions`], which says which of them producers store.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::completions::{Completion, Completions};
use super::engine::Engine;
use super::error::QueueError;
use super::family::concerned;
use crate::supervision::{Actor, ActorError, ChildSpec, Ctx, ExitReason, Flow, Shutdown, Timer};

/// Wait before a failed write is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long a stopping completer tries to store what is left.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// The actor. One an instance.
#[derive(Debug)]
pub struct Completer {
    engine: Engine,
    completions: Completions,
    /// When it looks next by itself: after a failed write, or whether producers come for what is kept for them.
    next: Option<Timer>,
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
        let address = completions.address().clone();
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
                    batch.iter().for_each(|completion| {
                        self.completions.tell(completion, accepted.contains(&completion.job.id))
                    });
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
            self.completions.tell(&completion, !accepted.is_empty());
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

    /// What the tree tells of it.
    fn show(&self, ctx: &Ctx<CompleterMsg>) {
        let superseded = self.completions.superseded();
        if superseded > 0 {
            ctx.probe().set_label("superseded", superseded.to_string());
        }
    }
}

impl Actor for Completer {
    type Msg = CompleterMsg;
    type Args = (Engine, Completions);

    async fn init(ctx: &Ctx<CompleterMsg>, (engine, completions): Self::Args) -> Result<Self, ActorError> {
        // What a former incarnation left.
        let next = Some(ctx.send_after(Duration::ZERO, CompleterMsg::Flush));
        Ok(Self { engine, completions, next, failing: false })
    }

    async fn handle(&mut self, ctx: &Ctx<CompleterMsg>, msg: CompleterMsg) -> Result<Flow, ActorError> {
        let CompleterMsg::Flush = msg;
        self.completions.clear_poke();
        let next = self.completions.overdue(false);
        match self.flush().await {
            Ok(()) => {
                self.next = next.map(|wait| ctx.send_after(wait, CompleterMsg::Flush));
                ctx.probe().remove_label("waiting");
                self.failing = false;
            }
            Err(error) => {
                ctx.probe().set_label("waiting", self.completions.len().to_string());
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(target: "queue", %error, waiting = self.completions.len(), "results wait to be stored");
                }
                self.next = Some(ctx.send_after(RETRY_AFTER, CompleterMsg::Flush));
            }
        }
        self.show(ctx);
        Ok(Flow::Continue)
    }

    async fn stopped(&mut self, _ctx: &Ctx<CompleterMsg>, _reason: &ExitReason) {
        self.completions.overdue(true);
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
