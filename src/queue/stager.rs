//! Makes scheduled and retryable jobs available when their time has come.
//!
//! Every instance stages the queues that it runs, as Oban for Python does; rows are locked and checked again, so that
//! instances do not disturb each other, and no leader is needed for a job to become due. The leader stages all queues,
//! because Elixir nodes leave that to whoever leads.

use std::time::Duration;

use super::engine::Engine;
use super::leadership::Leadership;
use super::queues::Queues;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};

/// Mailbox of the stager; only its own timer writes to it.
const STAGER_MAILBOX_MAX: usize = 4;

/// What the stager works with.
#[derive(Debug, Clone)]
pub struct StagerArgs {
    /// Statements.
    pub engine: Engine,
    /// Queues that it stages and wakes.
    pub queues: Queues,
    /// Whether all queues are this instance's business.
    pub leadership: Leadership,
    /// Time between two runs.
    pub interval: Duration,
    /// Jobs in one run.
    pub limit: u32,
}

/// The actor.
#[derive(Debug)]
pub struct Stager {
    args: StagerArgs,
    names: Vec<String>,
    timer: Timer,
    failing: bool,
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
}

impl Actor for Stager {
    type Msg = Stage;
    type Args = StagerArgs;

    async fn init(ctx: &Ctx<Stage>, args: StagerArgs) -> Result<Self, ActorError> {
        let names = args.queues.names();
        Ok(Self { args, names, timer: ctx.send_after(Duration::ZERO, Stage), failing: false })
    }

    async fn handle(&mut self, ctx: &Ctx<Stage>, _msg: Stage) -> Result<Flow, ActorError> {
        let queues = (!self.args.leadership.is_held()).then_some(self.names.as_slice());
        match self.args.engine.stage(queues, self.args.limit).await {
            Ok(staged) => {
                self.failing = false;
                staged.iter().filter_map(|name| self.args.queues.get(name)).for_each(|queue| queue.poke());
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(target: "queue", %error, "staging waits for the database");
                }
            }
        }
        self.timer = ctx.send_after(self.args.interval, Stage);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &Stage) -> &'static str {
        "stage"
    }
}
