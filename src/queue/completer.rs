//! Stores what attempts came to: writes the results of all queues as arrays.
//!
//! While one write is under way the next batch gathers, so a busy instance writes large batches and an idle one writes
//! at once. Results wait in [`Completions`], which says which of them producers store.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::aside::Hindrance;
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

    /// Writes batches until nothing waits but what the database does not take.
    async fn flush(&self) -> Result<(), QueueError> {
        loop {
            self.try_aside().await?;
            let batch = self.completions.batch();
            if batch.is_empty() {
                return Ok(());
            }
            match self.write(&batch).await {
                Ok(accepted) => {
                    self.completions.stored(batch.len());
                    self.conclude(&batch, &accepted).await;
                }
                Err(error) if error.is_unavailable() => return Err(error),
                Err(_) => self.sort_out(batch).await?,
            }
        }
    }

    /// Writes these results and returns the jobs of those that count: now, or by a write before whose answer was lost.
    async fn write(&self, batch: &[Completion]) -> Result<HashSet<i64>, QueueError> {
        let acks: Vec<_> = batch.iter().map(|completion| completion.ack.clone()).collect();
        let mut accepted: HashSet<i64> = self.engine.complete(&acks).await?.into_iter().collect();
        let in_doubt = batch.iter().filter(|one| one.in_doubt && !accepted.contains(&one.job.id));
        let in_doubt: Vec<_> = in_doubt.map(|completion| completion.ack.clone()).collect();
        if !in_doubt.is_empty() {
            accepted.extend(self.engine.written(&in_doubt).await?);
        }
        Ok(accepted)
    }

    /// Says what became of results that are stored, and frees their slots.
    async fn conclude(&self, batch: &[Completion], accepted: &HashSet<i64>) {
        batch.iter().for_each(|completion| self.completions.tell(completion, accepted.contains(&completion.job.id)));
        // Slots are freed queue by queue, so that a producer is woken once and finds all of them.
        for same in batch.chunk_by(|one, other| Arc::ptr_eq(&one.queue, &other.queue)) {
            free(same);
        }
        self.wake_parents(batch).await;
    }

    /// After the database refused a batch: sets aside those whose rows are locked, and where none is, stores what is
    /// accepted one by one, so that a result that is not holds up no other.
    async fn sort_out(&self, batch: Vec<Completion>) -> Result<(), QueueError> {
        let locked = self.engine.locked(&ids(&batch)).await?;
        if !locked.is_empty() {
            tracing::warn!(target: "queue", jobs = ?locked, "somebody has locked the rows of jobs whose results are to be stored; they wait");
            let is_locked = |completion: &Completion| locked.contains(&completion.job.id);
            self.completions.set_aside(batch.len(), Hindrance::Locked, is_locked);
            return Ok(());
        }
        for mut completion in batch {
            // Of a batch that was refused a part may be written.
            completion.in_doubt = true;
            let one = std::slice::from_ref(&completion);
            match self.write(one).await {
                Ok(accepted) => {
                    self.completions.stored(1);
                    self.conclude(one, &accepted).await;
                }
                Err(error) if error.is_unavailable() => return Err(error),
                Err(error) => {
                    tracing::error!(target: "queue", %error, id = completion.job.id, "a result was refused by the database");
                    self.completions.set_aside(1, hindrance(&error), |_| true);
                    // What ended this one in its time would end the next ones too.
                    if error.is_transient() {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Tries again what was set aside and is due.
    async fn try_aside(&self) -> Result<(), QueueError> {
        let due = self.completions.due_aside();
        if due.is_empty() {
            return Ok(());
        }
        let locked = match self.engine.locked(&ids(&due)).await {
            Err(error) if error.is_unavailable() => return Err(error),
            locked => locked.unwrap_or_else(|_| ids(&due)),
        };
        let mut unable = false;
        for completion in &due {
            if unable || locked.contains(&completion.job.id) {
                self.completions.still_aside(completion, Hindrance::Locked);
                continue;
            }
            let one = std::slice::from_ref(completion);
            match self.write(one).await {
                Ok(accepted) => {
                    self.completions.stored_aside(completion);
                    self.conclude(one, &accepted).await;
                }
                Err(error) if error.is_unavailable() => return Err(error),
                Err(error) => {
                    let hindrance = hindrance(&error);
                    self.completions.still_aside(completion, hindrance);
                    // Each of the next ones would wait as long.
                    unable = hindrance == Hindrance::Locked;
                }
            }
        }
        Ok(())
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
        match self.completions.aside().0 {
            0 => ctx.probe().remove_label("aside"),
            count => ctx.probe().set_label("aside", count.to_string()),
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
                let next = next.into_iter().chain(self.completions.aside().1).min();
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
            Ok(Ok(())) if self.completions.is_empty() => {}
            Ok(Ok(())) => {
                tracing::error!(target: "queue", left = self.completions.len(), "results not stored: their rows are locked, or the database refuses them")
            }
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

fn hindrance(error: &QueueError) -> Hindrance {
    let sqlstate = match error {
        QueueError::Db(error) => error.sqlstate(),
        _ => None,
    };
    Hindrance::of(sqlstate.as_deref().unwrap_or_default())
}

fn ids(batch: &[Completion]) -> Vec<i64> {
    batch.iter().map(|completion| completion.job.id).collect()
}

/// Frees the slots of stored results of one queue.
fn free(stored: &[Completion]) {
    if let Some(first) = stored.first() {
        first.queue.free(stored.iter().map(|completion| completion.slot));
    }
}
