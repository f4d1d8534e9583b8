//! Returns jobs of dead instances to their queues.
//!
//! Oban's lifeline looks only at a job's age; this one looks at its owner: an instance whose heartbeat is stale, or
//! whose process is gone from this machine, is marked offline, and what it had executing is available again. A long job
//! on a live instance is never run twice. Every instance runs it; the statements exclude each other row by row.
//!
//! Of nodes of other runtimes nothing tells whether they live. Their jobs are returned by age, as Oban does it, by the
//! leader alone.

use std::time::Duration;

use tokio::time::Instant;

use super::engine::Engine;
use super::error::QueueError;
use super::leadership::Leadership;
use super::queues::Queues;
use crate::instance::{Presence, Sightings};
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};
use crate::telemetry::oban::{Plugin, Rescued, plugin_failed};

/// Mailbox of the lifeline; only its own timer writes to it.
const LIFELINE_MAILBOX_MAX: usize = 4;

/// Runs between two looks for children whose parent other runtimes have ended: rare, so an idle node asks seldom.
const ORPHANS_EVERY: u32 = 6;

/// What the lifeline works with.
#[derive(Debug, Clone)]
pub struct LifelineArgs {
    /// Statements.
    pub engine: Engine,
    /// Who is there.
    pub presence: Presence,
    /// Queues to wake.
    pub queues: Queues,
    /// Whether the jobs of other runtimes are this instance's business.
    pub leadership: Leadership,
    /// After how long jobs of other runtimes are returned; never with `None`.
    pub rescue_after: Option<Duration>,
    /// Time between two runs.
    pub interval: Duration,
}

/// The actor.
#[derive(Debug)]
pub struct Lifeline {
    args: LifelineArgs,
    timer: Timer,
    /// Runs that failed since the last one that did not.
    failed: u32,
    /// Heartbeats of the others, as this process saw them.
    sightings: Sightings,
    /// Runs so far.
    runs: u32,
}

/// Its only message.
#[derive(Debug)]
pub struct Rescue;

impl Lifeline {
    /// The child that rescues.
    pub fn child(args: LifelineArgs) -> ChildSpec {
        let address = Address::new("lifeline", LIFELINE_MAILBOX_MAX);
        ChildSpec::actor::<Self>("lifeline", &address, move || args.clone())
    }

    async fn rescue(&mut self) -> Result<(), QueueError> {
        let begun = Instant::now();
        for instance_id in self.args.presence.mark_dead(&mut self.sightings, begun).await? {
            tracing::warn!(target: "instance", instance = %instance_id, "instance is dead; its jobs are taken over");
        }
        let mut rescued = self.args.engine.rescue().await?;
        if let Some(rescue_after) = self.args.rescue_after.filter(|_| self.args.leadership.is_held()) {
            rescued.extend(self.args.engine.rescue_by_age(rescue_after).await?);
        }
        for job in &rescued {
            tracing::warn!(
                target: "queue", id = job.id, queue = %job.queue, instance = %job.instance_id,
                discarded = job.discarded, "job rescued"
            );
            if let Some(queue) = self.args.queues.get(&job.queue) {
                queue.poke();
            }
        }
        let discarded_count = rescued.iter().filter(|job| job.discarded).count();
        Rescued { rescued_count: rescued.len() - discarded_count, discarded_count }.emit(begun.elapsed());
        for id in self.args.engine.discard_exhausted(&self.args.queues.names()).await? {
            tracing::warn!(target: "queue", id, "job discarded: it was available with all its attempts used up");
        }
        if self.runs.is_multiple_of(ORPHANS_EVERY) {
            match self.args.engine.cancel_orphans().await? {
                0 => {}
                count => tracing::info!(target: "queue", count, "jobs cancelled: the job that waited for them is gone"),
            }
        }
        self.runs = self.runs.wrapping_add(1);
        Ok(())
    }
}

impl Actor for Lifeline {
    type Msg = Rescue;
    type Args = LifelineArgs;

    async fn init(ctx: &Ctx<Rescue>, args: LifelineArgs) -> Result<Self, ActorError> {
        let timer = ctx.send_after(Duration::ZERO, Rescue);
        Ok(Self { args, timer, failed: 0, sightings: Sightings::default(), runs: 0 })
    }

    async fn handle(&mut self, ctx: &Ctx<Rescue>, _msg: Rescue) -> Result<Flow, ActorError> {
        match self.rescue().await {
            Ok(()) => self.failed = 0,
            Err(error) => {
                plugin_failed(Plugin::Lifeline, &error, &mut self.failed);
            }
        }
        self.timer = ctx.send_after(self.args.interval, Rescue);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &Rescue) -> &'static str {
        "rescue"
    }
}
