//! Campaigns for the leader's lease, as every Oban node does, so that one instance of all runs what only one should.
//!
//! Oban's rhythm: a follower asks once a lease, a leader prolongs twice, each up to a tenth earlier. Beside that a
//! follower asks when the lease that it saw runs out, and when a leader says that it leaves. Any doubt ends a belief:
//! an error, or a row of somebody else's.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::engine::{Election, Engine};
use super::leadership::Leadership;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, ExitReason, Flow, Timer};

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

/// What the peer works with.
#[derive(Debug, Clone)]
pub struct PeerArgs {
    /// Statements.
    pub engine: Engine,
    /// What it keeps.
    pub leadership: Leadership,
    /// Name of the Oban that is led: the key of the lease.
    pub name: Arc<str>,
    /// This instance.
    pub node: Arc<str>,
    /// How long a lease lasts.
    pub lease: Duration,
    /// Whether it campaigns at all.
    pub campaign: bool,
}

/// The actor.
#[derive(Debug)]
pub struct Peer {
    args: PeerArgs,
    rng: StdRng,
    timer: Timer,
    leads: bool,
    failing: bool,
}

/// What the peer is told.
#[derive(Debug)]
pub enum PeerMsg {
    /// An election is due, or a leader left.
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
        let (args, begun) = (&self.args, Instant::now());
        let election = args.engine.elect(&args.name, &args.node, args.leadership.term(), args.lease);
        let limit = args.lease.mul_f64(ELECTION_LIMIT_SHARE);
        let was_leader = self.leads;
        let (rhythm, expiry) = match tokio::time::timeout(limit, election).await {
            Ok(Ok(Election::Won { started_at })) => {
                args.leadership.hold(started_at, begun, args.lease);
                (self.leads, self.failing) = (true, false);
                (args.lease / 2, None)
            }
            Ok(Ok(Election::Lost { node, remaining })) => {
                args.leadership.give_up();
                (self.leads, self.failing) = (false, false);
                tracing::debug!(target: "oban", leader = node, "somebody else leads");
                (args.lease, Some(remaining))
            }
            Ok(Err(error)) => (self.failed(&error.to_string()), None),
            Err(_) => (self.failed("the database did not answer in time"), None),
        };
        if self.leads != was_leader {
            tracing::info!(
                target: "oban", event = "peer:election", name = %self.args.name, node = %self.args.node,
                leader = self.leads, was_leader, "leadership changed"
            );
        }
        let wait = next_election(rhythm, expiry, self.rng.random_range(0.0..=JITTER_SHARE));
        wait.saturating_sub(begun.elapsed()).max(ELECTION_WAIT_MIN)
    }

    /// Oban (since 2.23.1) gives its leadership up too: the row may be somebody else's by now.
    fn failed(&mut self, error: &str) -> Duration {
        self.args.leadership.give_up();
        self.leads = false;
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(target: "oban", event = "peer:election", error, "the election waits for the database");
        }
        self.args.lease / 2
    }

    fn label(&self, ctx: &Ctx<PeerMsg>) {
        let leads = match (self.args.campaign, self.leads) {
            (false, _) => "no, it does not campaign",
            (true, true) => "yes",
            (true, false) => "no",
        };
        ctx.probe().set_label("leader", leads);
    }
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
        Ok(Self { args, rng: StdRng::seed_from_u64(rand::random()), timer, leads, failing: false })
    }

    async fn handle(&mut self, ctx: &Ctx<PeerMsg>, _msg: PeerMsg) -> Result<Flow, ActorError> {
        if self.args.campaign {
            let wait = self.elect().await;
            self.timer = ctx.send_after(wait, PeerMsg::Elect);
        }
        self.label(ctx);
        Ok(Flow::Continue)
    }

    async fn stopped(&mut self, _ctx: &Ctx<PeerMsg>, _reason: &ExitReason) {
        let Some(term) = self.args.leadership.term() else { return };
        self.args.leadership.give_up();
        let goodbye = self.args.engine.resign(&self.args.name, &self.args.node, term);
        match tokio::time::timeout(RESIGN_LIMIT, goodbye).await {
            Ok(Ok(_)) => {}
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
