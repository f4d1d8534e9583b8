//! Deletes jobs that finished long ago, so that the table stays as small as the work.
//!
//! As Oban's pruner: the leader does it, every job of the schema is its business whoever made it, and the age of a
//! completed job counts from `scheduled_at`. Where Oban deletes one batch a run, a full batch here is followed by the
//! next at once, so that pruning keeps up with any pace. What jobs left in other tables (`job_results`, `request_keys`,
//! `supervision_events`) is no business of it: a result outlives its job.

use std::time::Duration;

use tokio::time::Instant;

use super::engine::Engine;
use super::leadership::Leadership;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};
use crate::telemetry::oban::{Plugin, plugin_failed};

/// Mailbox of the pruner; only its own timer writes to it.
const PRUNER_MAILBOX_MAX: usize = 4;

/// What the pruner works with.
#[derive(Debug, Clone)]
pub struct PrunerArgs {
    /// Statements.
    pub engine: Engine,
    /// It works while this instance leads.
    pub leadership: Leadership,
    /// How long after its end a job is deleted.
    pub max_age: Duration,
    /// Jobs in one statement.
    pub limit: u32,
    /// Time between two runs.
    pub interval: Duration,
}

/// The actor.
#[derive(Debug)]
pub struct Pruner {
    args: PrunerArgs,
    timer: Timer,
    /// Runs that failed since the last one that did not.
    failed: u32,
}

/// Its only message.
#[derive(Debug)]
pub struct Prune;

impl Pruner {
    /// The child that prunes.
    pub fn child(args: PrunerArgs) -> ChildSpec {
        let address = Address::new("pruner", PRUNER_MAILBOX_MAX);
        ChildSpec::actor::<Self>("pruner", &address, move || args.clone())
    }

    /// One statement; whether there may be more to delete at once.
    async fn prune(&mut self) -> bool {
        let begun = Instant::now();
        match self.args.engine.prune(self.args.max_age, self.args.limit).await {
            Ok(pruned) => {
                self.failed = 0;
                pruned.emit(begun.elapsed());
                pruned.count() >= u64::from(self.args.limit)
            }
            Err(error) => {
                plugin_failed(Plugin::Pruner, &error, &mut self.failed);
                false
            }
        }
    }
}

impl Actor for Pruner {
    type Msg = Prune;
    type Args = PrunerArgs;

    async fn init(ctx: &Ctx<Prune>, args: PrunerArgs) -> Result<Self, ActorError> {
        Ok(Self { timer: ctx.send_after(args.interval, Prune), args, failed: 0 })
    }

    async fn handle(&mut self, ctx: &Ctx<Prune>, _msg: Prune) -> Result<Flow, ActorError> {
        let more = self.args.leadership.is_held() && self.prune().await;
        self.timer = ctx.send_after(if more { Duration::ZERO } else { self.args.interval }, Prune);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &Prune) -> &'static str {
        "prune"
    }
}
