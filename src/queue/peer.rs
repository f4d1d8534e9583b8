//! Campaigns for the leader's lease, as every Oban node does, so that one instance of all runs what only one should.
//!
//! Oban's rhythm: a follower asks once a lease, a leader prolongs twice, each up to a tenth earlier. Beside that a
//! follower asks when the lease that it saw runs out, and when a leader says that it leaves. Any doubt ends a belief:
//! an error, or a row of somebody else's.
//!
//! Before each election it looks who else is there ([`Role`]): a guest does not campaign, and gives back what it had
//! when it becomes one. Where the tables of Oban for Python are, it leads only with the lease there too, so that nobody
//! else does a leader's work beside it.

use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDateTime;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::engine::{Election, Engine};
use super::error::QueueError;
use super::foreign::Foreign;
use super::leadership::Leadership;
use super::role::{Foreigner, Role};
use crate::config::Mode;
use crate::instance::Lease;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, ExitReason, Flow, Timer};
use crate::telemetry::oban::{Elected, election_failed};

/// Mailbox of the peer; notices are merged by it.
const PEER_MAILBOX_MAX: usize = 4;
/// How much sooner than its time an election may be: instances that started together drift apart.
const JITTER_SHARE: f64 = 0.1;
/// Least time between two elections, also when the lease just changed hands.
const ELECTION_WAIT_MIN: Duration = Duration::from_millis(50);
/// Longest wait for one election, as a share of the lease: a connection that hangs must not hide its end.
const ELECTION_LIMIT_SHARE: f64 = 0.25;
/// Longest wait for the goodbye; without it the lease runs out by itself.
const RESIGN_LIMIT: Duration = Duration::from_secs(2);
/// For how many leases a foreign node is remembered: Oban forgets one that it does not hear for 120 s.
pub const FOREIGN_MEMORY_LEASES: u32 = 4;

/// What the peer works with.
#[derive(Debug, Clone)]
pub struct PeerArgs {
    /// Statements.
    pub engine: Engine,
    /// What it keeps.
    pub leadership: Leadership,
    /// Whether this instance is registered: before, its row would look like a foreign node's to others.
    pub alive: Lease,
    /// What it knows of nodes of other runtimes.
    pub foreign: Foreign,
    /// Name of the Oban that is led: the key of the lease.
    pub name: Arc<str>,
    /// This instance.
    pub node: Arc<str>,
    /// How long a lease lasts.
    pub lease: Duration,
    /// What the operator says about campaigning.
    pub mode: Mode,
}

/// The actor.
#[derive(Debug)]
pub struct Peer {
    args: PeerArgs,
    rng: StdRng,
    timer: Timer,
    leads: bool,
    failing: bool,
    has_python: bool,
    role: Role,
    /// The foreign node beside which it takes its role, and for how long it is remembered.
    foreigner: Option<(Foreigner, Duration)>,
    /// The foreign leader that was never heard.
    silent: Option<String>,
}

/// What the peer is told.
#[derive(Debug)]
pub enum PeerMsg {
    /// An election is due, a leader left, or a foreign node was heard.
    Elect,
}

impl Peer {
    /// Where notices are sent to.
    pub fn address() -> Address<PeerMsg> {
        Address::new("peer", PEER_MAILBOX_MAX)
    }

    /// The child that campaigns.
    pub fn child(args: PeerArgs, address: &Address<PeerMsg>) -> ChildSpec {
        ChildSpec::actor::<Self>("peer", address, move || args.clone())
    }

    /// One election; returns how long to wait until the next.
    async fn elect(&mut self) -> Duration {
        let (begun, was_leader, lease) = (Instant::now(), self.leads, self.args.lease);
        let limit = lease.mul_f64(ELECTION_LIMIT_SHARE);
        let answer = tokio::time::timeout(limit, self.campaign(begun)).await;
        let (rhythm, expiry) = match answer {
            Ok(Ok(Election::Won { started_at })) => {
                self.args.leadership.hold(started_at, begun, lease);
                (self.leads, self.failing) = (true, false);
                (lease / 2, None)
            }
            Ok(Ok(Election::Lost { node, remaining })) => {
                self.args.leadership.give_up();
                (self.leads, self.failing) = (false, false);
                tracing::debug!(target: "oban", leader = node, "this instance does not lead");
                (lease, Some(remaining))
            }
            Ok(Err(error)) => (self.failed(&error.to_string()), None),
            Err(_) => (self.failed("the database did not answer in time"), None),
        };
        if !self.failing {
            let (name, node) = (&*self.args.name, &*self.args.node);
            Elected { name, node, leader: self.leads, was_leader }.emit(begun.elapsed());
        }
        let wait = next_election(rhythm, expiry, self.rng.random_range(0.0..=JITTER_SHARE));
        wait.saturating_sub(begun.elapsed()).max(ELECTION_WAIT_MIN)
    }

    /// Looks who is there, and takes or prolongs what there is to take. A guest loses every election, and the next is
    /// at the latest when it may have become something else.
    async fn campaign(&mut self, begun: Instant) -> Result<Election, QueueError> {
        let args = self.args.clone();
        let looked = args.engine.foreigners(&args.foreign.heard()).await?;
        args.foreign.saw(&looked.found, begun);
        self.has_python = looked.has_python;
        self.take_role(Role::of(args.mode, args.foreign.last().as_ref().map(|(foreigner, _)| foreigner)));
        let leader = looked.found.iter().find_map(|one| Some((one.node.clone(), one.sight.lease()?)));
        if let Some((node, left)) = leader {
            // Python's table knows nothing of Elixir's and the other way round, so a lease in either ends the matter.
            // Asked again before it runs out: whoever stages beside a foreign leader must know in time that it goes on.
            self.give_back().await?;
            return Ok(Election::Lost { node: Some(node), remaining: left / 2 });
        }
        if !self.role.campaigns() {
            self.give_back().await?;
            let remaining = self.foreigner.as_ref().map_or(args.lease, |(_, left)| *left);
            return Ok(Election::Lost { node: None, remaining });
        }
        let won = args.engine.elect(&args.name, &args.node, args.leadership.term(), args.lease).await?;
        match won {
            Election::Won { started_at } if self.has_python => {
                let python = args.engine.elect_python(&args.name, &args.node, started_at, args.lease).await?;
                if matches!(python, Election::Lost { .. }) {
                    args.engine.resign(&args.name, &args.node, started_at).await?;
                }
                Ok(python)
            }
            Election::Won { .. } | Election::Lost { .. } => Ok(won),
        }
    }

    /// Says so when the role or its reason is another than before.
    fn take_role(&mut self, role: Role) {
        let foreigner = self.args.foreign.last();
        let beside =
            |known: &Option<(Foreigner, Duration)>| known.as_ref().map(|(foreigner, _)| foreigner.node.clone());
        if role != self.role || beside(&foreigner) != beside(&self.foreigner) {
            let text = describe_role(role, self.args.mode, foreigner.as_ref().map(|(foreigner, _)| foreigner));
            match (role, &foreigner) {
                (Role::Standalone, Some(_)) => tracing::warn!(
                    target: "oban", role = role.as_str(), "{text}; while this instance leads, that node's pruner, lifeline \
                     and cron rest: write mode = \"guest\" or mode = \"peer\""
                ),
                _ => tracing::info!(target: "oban", role = role.as_str(), "{text}"),
            }
        }
        (self.role, self.foreigner) = (role, foreigner);
        let silent = self.args.foreign.silent();
        if let Some(node) = silent.as_ref().filter(|_| silent != self.silent) {
            tracing::warn!(
                target: "oban", leader = node, "{node} leads and says nothing through the database, so its notices and \
                 signals do not arrive here, nor ours there; jobs are found by looking at the table"
            );
        }
        self.silent = silent;
    }

    /// Gives the leases back that this instance holds, if any.
    async fn give_back(&self) -> Result<(), QueueError> {
        let Some(term) = self.args.leadership.term() else { return Ok(()) };
        self.args.leadership.give_up();
        self.resign(term).await
    }

    async fn resign(&self, term: NaiveDateTime) -> Result<(), QueueError> {
        let args = &self.args;
        args.engine.resign(&args.name, &args.node, term).await?;
        if self.has_python {
            args.engine.resign_python(&args.name, &args.node, term).await?;
        }
        Ok(())
    }

    /// Oban (since 2.23.1) gives its leadership up too: the row may be somebody else's by now. If it is not, the next
    /// election prolongs it, as Oban's does by the name of the node.
    fn failed(&mut self, error: &str) -> Duration {
        self.args.leadership.doubt();
        self.leads = false;
        election_failed(&self.args.name, &self.args.node, error, std::mem::replace(&mut self.failing, true));
        self.args.lease / 2
    }

    fn label(&self, ctx: &Ctx<PeerMsg>) {
        let foreigner = self.foreigner.as_ref().map(|(foreigner, _)| foreigner);
        ctx.probe().set_label("mode", describe_role(self.role, self.args.mode, foreigner));
        match &self.silent {
            Some(node) => ctx.probe().set_label("unheard", node),
            None => ctx.probe().remove_label("unheard"),
        }
        ctx.probe().set_label("leader", if self.leads { "yes" } else { "no" });
    }
}

/// The role in words, for the tree and the log.
pub fn describe_role(role: Role, mode: Mode, foreigner: Option<&Foreigner>) -> String {
    let mut text = role.as_str().to_owned();
    if mode == Mode::Auto {
        text += " by itself";
    }
    match foreigner {
        Some(foreigner) => text += &format!(", {foreigner}"),
        None => text += ", no other runtime was seen",
    }
    text
}

/// How long to wait: a rhythm, shortened by a share of it, or until the lease of another has run out.
fn next_election(rhythm: Duration, expiry: Option<Duration>, jitter: f64) -> Duration {
    let wait = rhythm.mul_f64(1.0 - jitter);
    // A row that expires in this very moment is not yet expired.
    expiry.map_or(wait, |left| wait.min(left + Duration::from_millis(1)))
}

impl Actor for Peer {
    type Msg = PeerMsg;
    type Args = PeerArgs;

    async fn init(ctx: &Ctx<PeerMsg>, args: PeerArgs) -> Result<Self, ActorError> {
        let leads = args.leadership.is_held();
        let timer = ctx.send_after(Duration::ZERO, PeerMsg::Elect);
        let foreigner = args.foreign.last();
        let role = Role::of(args.mode, foreigner.as_ref().map(|(foreigner, _)| foreigner));
        let rng = StdRng::seed_from_u64(rand::random());
        Ok(Self { args, rng, timer, leads, failing: false, has_python: false, role, foreigner, silent: None })
    }

    async fn handle(&mut self, ctx: &Ctx<PeerMsg>, _msg: PeerMsg) -> Result<Flow, ActorError> {
        let wait = match self.args.alive.remaining() {
            None => ELECTION_WAIT_MIN,
            Some(_) => {
                let wait = self.elect().await;
                self.label(ctx);
                wait
            }
        };
        self.timer = ctx.send_after(wait, PeerMsg::Elect);
        Ok(Flow::Continue)
    }

    async fn stopped(&mut self, _ctx: &Ctx<PeerMsg>, _reason: &ExitReason) {
        let Some(term) = self.args.leadership.term() else { return };
        self.args.leadership.give_up();
        match tokio::time::timeout(RESIGN_LIMIT, self.resign(term)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(target: "oban", %error, "the lease was not given back and runs out"),
            Err(_) => tracing::warn!(target: "oban", "the lease was not given back and runs out: no answer"),
        }
    }

    fn message_kind(_msg: &PeerMsg) -> &'static str {
        "elect"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_asks_once_a_lease_but_not_later_than_the_end_of_the_one_it_saw() {
        let seconds = Duration::from_secs;
        assert_eq!(next_election(seconds(15), None, 0.0), seconds(15));
        assert_eq!(next_election(seconds(30), None, 0.1), seconds(27));
        assert_eq!(next_election(seconds(30), Some(seconds(40)), 0.0), seconds(30));
        assert_eq!(next_election(seconds(30), Some(seconds(16)), 0.1), Duration::from_millis(16_001));
    }
}
