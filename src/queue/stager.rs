//! Makes scheduled and retryable jobs available when their time has come.
//!
//! Every instance stages the queues that it runs, as Oban for Python does; rows are locked and checked again, so that
//! instances do not disturb each other, and no leader is needed for a job to become due. The leader stages all queues
//! and tells each run which have available jobs, because Elixir nodes leave that to whoever leads. While an Elixir node
//! leads, nobody stages beside it: its statement does not check a row again that it waited for, and would revive one
//! that was staged and claimed meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::engine::{self, Engine};
use super::error::QueueError;
use super::foreign::Foreign;
use super::leadership::Leadership;
use super::looks::Looks;
use super::queues::Queues;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};
use crate::telemetry::oban::{Plugin, Staged, StagerMode, plugin_failed};

/// Mailbox of the stager; only its own timer writes to it.
const STAGER_MAILBOX_MAX: usize = 4;

/// What the stager works with.
#[derive(Debug, Clone)]
pub struct StagerArgs {
    /// Statements.
    pub engine: Engine,
    /// Queues that it stages and wakes.
    pub queues: Queues,
    /// Who need not poll for what was found here.
    pub looks: Looks,
    /// Whether all queues are this instance's business.
    pub leadership: Leadership,
    /// Whether a node of another runtime stages for all.
    pub foreign: Foreign,
    /// Time between two runs.
    pub interval: Duration,
    /// Jobs in one run.
    pub limit: u32,
}

/// The actor.
#[derive(Debug)]
pub struct Stager {
    args: StagerArgs,
    mode: Option<StagerMode>,
    timer: Timer,
    /// Runs that failed since the last one that did not.
    failed: u32,
}

/// Its only message.
#[derive(Debug)]
pub struct Stage;

impl Stager {
    /// The child that stages.
    pub fn child(args: StagerArgs) -> ChildSpec {
        let address = Address::new("stager", STAGER_MAILBOX_MAX);
        ChildSpec::actor::<Self>("stager", &address, move || args.clone())
    }

    /// Stages, and wakes the producers of this instance that have something to claim.
    async fn stage(&mut self, ctx: &Ctx<Stage>) -> Result<engine::Staged, QueueError> {
        let (leads, foreign) = (self.args.leadership.is_held(), self.args.foreign.stages());
        let mode = if leads || foreign { StagerMode::Global } else { StagerMode::Local };
        let scope = match (leads, foreign) {
            (true, _) => "all queues",
            (false, true) => "nothing, a node of another runtime does",
            (false, false) => "its own queues",
        };
        ctx.probe().set_label("stages", scope);
        if self.mode.replace(mode).is_some_and(|before| before != mode) {
            mode.switched();
        }
        if foreign && !leads {
            return Ok(engine::Staged::default());
        }
        let queues = (!leads).then(|| self.args.queues.names());
        let at = Instant::now();
        let staged = self.args.engine.stage(queues.as_deref(), self.args.limit).await?;
        staged.queues.iter().filter_map(|name| self.args.queues.get(name)).for_each(|queue| queue.poke());
        self.args.looks.have_been_woken(at, queues);
        Ok(staged)
    }
}

impl Actor for Stager {
    type Msg = Stage;
    type Args = StagerArgs;

    async fn init(ctx: &Ctx<Stage>, args: StagerArgs) -> Result<Self, ActorError> {
        Ok(Self { args, mode: None, timer: ctx.send_after(Duration::ZERO, Stage), failed: 0 })
    }

    async fn handle(&mut self, ctx: &Ctx<Stage>, _msg: Stage) -> Result<Flow, ActorError> {
        let begun = Instant::now();
        match self.stage(ctx).await {
            Ok(staged) => {
                self.failed = 0;
                let leader = self.args.leadership.is_held();
                Staged { leader, staged_count: staged.jobs }.emit(begun.elapsed());
            }
            Err(error) => plugin_failed(Plugin::Stager, &error, &mut self.failed),
        }
        self.timer = ctx.send_after(self.args.interval, Stage);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &Stage) -> &'static str {
        "stage"
    }
}
