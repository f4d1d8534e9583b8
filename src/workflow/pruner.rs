//! Deletes runs of workflows that ended long ago, with their checkpoints. What came out stays in `job_results`.
//!
//! The leader does it. A run is younger than its job's results and mostly outlives its job: it tells what was done,
//! step by step, for as long as somebody may ask.

use std::time::Duration;

use super::store::Store;
use crate::queue::Leadership;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};

/// Mailbox of the pruner; only its own timer writes to it.
const PRUNER_MAILBOX_MAX: usize = 4;
/// Runs in one statement. Each may have thousands of checkpoints.
const RUNS_BATCH: u32 = 500;

/// What it works with.
#[derive(Debug, Clone)]
pub struct RunPrunerArgs {
    /// Statements.
    pub store: Store,
    /// It works while this instance leads.
    pub leadership: Leadership,
    /// How long after its end a run is deleted.
    pub max_age: Duration,
    /// Time between two looks.
    pub interval: Duration,
}

/// The actor.
#[derive(Debug)]
pub struct RunPruner {
    args: RunPrunerArgs,
    timer: Timer,
    failing: bool,
}

/// Its only message.
#[derive(Debug)]
pub struct PruneRuns;

impl RunPruner {
    /// The child that prunes.
    pub fn child(args: RunPrunerArgs) -> ChildSpec {
        let address = Address::new("run_pruner", PRUNER_MAILBOX_MAX);
        ChildSpec::actor::<Self>("run_pruner", &address, move || args.clone())
    }

    /// One statement; whether there may be more to delete at once.
    async fn prune(&mut self) -> bool {
        match self.args.store.prune_runs(self.args.max_age, RUNS_BATCH).await {
            Ok(count) => {
                self.failing = false;
                if count > 0 {
                    tracing::info!(target: "workflow", count, "runs pruned");
                }
                count >= u64::from(RUNS_BATCH)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(target: "workflow", %error, "runs are not pruned");
                }
                false
            }
        }
    }
}

impl Actor for RunPruner {
    type Msg = PruneRuns;
    type Args = RunPrunerArgs;

    async fn init(ctx: &Ctx<PruneRuns>, args: RunPrunerArgs) -> Result<Self, ActorError> {
        Ok(Self { timer: ctx.send_after(args.interval, PruneRuns), args, failing: false })
    }

    async fn handle(&mut self, ctx: &Ctx<PruneRuns>, _msg: PruneRuns) -> Result<Flow, ActorError> {
        let more = self.args.leadership.is_held() && self.prune().await;
        self.timer = ctx.send_after(if more { Duration::ZERO } else { self.args.interval }, PruneRuns);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &PruneRuns) -> &'static str {
        "prune_runs"
    }
}
