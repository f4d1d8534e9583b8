//! Tells dashboards about the queues of this instance.
//!
//! Oban's dashboard shows a node as soon as its gossip arrives. Nothing is sent while no Elixir node is there, unless
//! the configuration asks for it.

use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use super::error::QueueError;
use super::foreign::Foreign;
use super::queues::Queues;
use super::slots::QueueState;
use crate::config::Tell;
use crate::postgres::notifier::gossip::{Check, messages};
use crate::postgres::notifier::{self, PAYLOADS_MAX, unsendable};
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};

/// Mailbox of the actor; only its own timer writes to it.
const GOSSIP_MAILBOX_MAX: usize = 4;

/// What the gossip works with.
#[derive(Debug, Clone)]
pub struct GossipArgs {
    /// Statements.
    pub engine: Engine,
    /// What it tells of.
    pub queues: Queues,
    /// Beside whom a dashboard may run.
    pub foreign: Foreign,
    /// Name of the Oban that this instance belongs to.
    pub name: Arc<str>,
    /// This instance.
    pub node: Arc<str>,
    /// When to send.
    pub send: Tell,
    /// Time between two messages.
    pub interval: Duration,
}

/// The actor.
#[derive(Debug)]
pub struct Gossip {
    args: GossipArgs,
    timer: Timer,
    failing: bool,
}

/// Its only message.
#[derive(Debug)]
pub struct Talk;

impl Gossip {
    /// The child that gossips.
    pub fn child(args: GossipArgs) -> ChildSpec {
        let address = Address::new("gossip", GOSSIP_MAILBOX_MAX);
        ChildSpec::actor::<Self>("gossip", &address, move || args.clone())
    }

    async fn talk(&mut self) -> Result<bool, QueueError> {
        if !self.args.send.is_wanted(self.args.foreign.is_there()) {
            return Ok(false);
        }
        let queues = self.args.queues.clone();
        let checks = queues.iter().map(|queue| self.check(&queue)).collect();
        let channel = notifier::GOSSIP;
        let payloads = messages(checks).map_err(|error| unsendable(channel, &error))?;
        for payloads in payloads.chunks(PAYLOADS_MAX) {
            self.args.engine.tell(channel, payloads).await?;
        }
        Ok(true)
    }

    fn check(&self, queue: &QueueState) -> Check {
        let stopping = queue.shutdown_started_at();
        Check {
            name: self.args.name.to_string(),
            node: self.args.node.to_string(),
            queue: queue.name().to_owned(),
            uuid: queue.producer(),
            local_limit: queue.limit(),
            // As in Oban a queue that stops is paused too.
            paused: queue.is_paused() || stopping.is_some(),
            running: queue.running_ids(),
            started_at: queue.started_at(),
            shutdown_started_at: stopping,
        }
    }
}

impl Actor for Gossip {
    type Msg = Talk;
    type Args = GossipArgs;

    async fn init(ctx: &Ctx<Talk>, args: GossipArgs) -> Result<Self, ActorError> {
        let timer = ctx.send_after(Duration::ZERO, Talk);
        Ok(Self { args, timer, failing: false })
    }

    async fn handle(&mut self, ctx: &Ctx<Talk>, _msg: Talk) -> Result<Flow, ActorError> {
        match self.talk().await {
            Ok(sends) => {
                self.failing = false;
                ctx.probe().set_label("sends", self.args.send.describe(sends));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(target: "oban", %error, "dashboards are not told about the queues");
                }
            }
        }
        self.timer = ctx.send_after(self.args.interval, Talk);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &Talk) -> &'static str {
        "talk"
    }
}
