//! Keeps this process in `instance_registry`: registers it, beats, and stops its jobs when it could not.
//!
//! Self-fence: at the moment at which the [`Lease`] runs out because heartbeats failed, or when the registry says that
//! others already counted this instance as dead, running jobs are stopped and nothing is claimed until a heartbeat is
//! stored again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::identity::Identity;
use super::lease::{Lease, Moment};
use super::presence::{Beat, BeatAnswer, Presence};
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};

/// Mailbox of the registry: its own timers, and changes that others shall see at once.
const REGISTRY_MAILBOX_MAX: usize = 8;
/// Limit of one heartbeat, as a share of the time between two: a hanging connection must not hide a missed beat.
const BEAT_LIMIT_SHARE: f64 = 0.9;
/// Least limit of one heartbeat.
const BEAT_LIMIT_MIN: Duration = Duration::from_millis(500);
/// Longest time between two looks at the lease. Timers stand still while a machine is suspended, so after it has woken
/// they would wait for the rest of a heartbeat's interval, beside those who have taken over.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// What the registry works with.
#[derive(Clone)]
pub struct RegistryArgs {
    /// Who this is.
    pub identity: Arc<Identity>,
    /// Statements.
    pub presence: Presence,
    /// What the heartbeats keep.
    pub lease: Lease,
    /// Time between two heartbeats.
    pub interval: Duration,
    /// After which others count this instance as dead.
    pub stale_after: Duration,
    /// What it offers.
    pub capabilities: Value,
    /// What the next heartbeat says.
    pub beat: Arc<dyn Fn() -> Beat + Send + Sync>,
    /// Told of every heartbeat that is stored: what it says is known to others from then on.
    pub stored: Arc<dyn Fn(&Beat) + Send + Sync>,
    /// Stops all running jobs; told why.
    pub fence: Arc<dyn Fn(&str) + Send + Sync>,
}

impl fmt::Debug for RegistryArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryArgs").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct Registry {
    args: RegistryArgs,
    timer: Timer,
    /// When the next heartbeat is due.
    due: Instant,
    fenced: bool,
    failing: bool,
}

/// What the registry is told.
#[derive(Debug)]
pub enum RegistryMsg {
    /// There is news for a heartbeat.
    Beat,
    /// Look whether the lease still holds, and whether a heartbeat is due.
    Look,
}

impl Registry {
    /// Where it can be told to beat before the next heartbeat is due.
    pub fn address() -> Address<RegistryMsg> {
        Address::new("registry", REGISTRY_MAILBOX_MAX)
    }

    /// The child that keeps this process registered.
    pub fn child(args: RegistryArgs, address: &Address<RegistryMsg>) -> ChildSpec {
        ChildSpec::actor::<Self>("registry", address, move || args.clone())
    }

    async fn beat(&mut self) -> Result<(), ActorError> {
        let begun = Moment::now();
        let beat = (self.args.beat)();
        let stored = self.args.presence.beat(&self.args.identity, &beat);
        let limit = self.until_fence(self.args.interval.mul_f64(BEAT_LIMIT_SHARE).max(BEAT_LIMIT_MIN));
        match tokio::time::timeout(limit, stored).await {
            Ok(Ok(BeatAnswer::Stored)) => {
                self.alive(begun);
                (self.args.stored)(&beat);
            }
            Ok(Ok(BeatAnswer::WasDead)) => {
                self.fence("others counted this instance as dead and took over its jobs");
                self.alive(begun);
                (self.args.stored)(&beat);
            }
            Ok(Ok(BeatAnswer::Replaced)) => {
                self.fence("another process has taken this instance's id");
                return Err(ActorError::msg(
                    "another process has taken this instance's id; give each its own INSTANCE_ID",
                ));
            }
            Ok(Err(error)) => self.missed(&error.to_string()),
            Err(_) => self.missed("the database did not answer in time"),
        }
        Ok(())
    }

    fn alive(&mut self, begun: Moment) {
        self.args.lease.renew(begun);
        if std::mem::take(&mut self.failing) {
            tracing::info!(target: "instance", "heartbeat is stored again");
        }
        self.fenced = false;
    }

    fn missed(&mut self, error: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(target: "instance", error, "heartbeat was not stored");
        }
        self.fence_if_lost();
    }

    /// `wait`, or what is left of a lease that ends earlier.
    fn until_fence(&self, wait: Duration) -> Duration {
        until_end(wait, self.args.lease.remaining())
    }

    fn fence_if_lost(&mut self) {
        if self.args.lease.remaining().is_some_and(|left| left.is_zero()) {
            self.fence("no heartbeat could be stored for too long");
        }
    }

    fn fence(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.fenced, true) {
            tracing::error!(target: "instance", reason, "running jobs are stopped, so that none runs twice");
            (self.args.fence)(reason);
        }
    }
}

impl Actor for Registry {
    type Msg = RegistryMsg;
    type Args = RegistryArgs;

    async fn init(ctx: &Ctx<RegistryMsg>, args: RegistryArgs) -> Result<Self, ActorError> {
        let begun = Moment::now();
        let stale_after_ms = i64::try_from(args.stale_after.as_millis()).unwrap_or(i64::MAX);
        let beat = (args.beat)();
        let registered = args.presence.register(&args.identity, &args.capabilities, &beat, stale_after_ms).await;
        let mut failing = false;
        match registered {
            Ok(()) => {
                args.lease.renew(begun);
                (args.stored)(&beat);
            }
            // Restarted while the database is away: not a reason to fail, or supervisors would give up.
            Err(error) if error.is_unavailable() => failing = true,
            Err(error) => return Err(ActorError::from(error)),
        }
        let due = Instant::now() + args.interval;
        let timer = ctx.send_after(pause(args.interval, args.lease.remaining()), RegistryMsg::Look);
        Ok(Self { args, timer, due, fenced: false, failing })
    }

    async fn handle(&mut self, ctx: &Ctx<RegistryMsg>, msg: RegistryMsg) -> Result<Flow, ActorError> {
        let begun = Instant::now();
        self.fence_if_lost();
        if matches!(msg, RegistryMsg::Beat) || self.due <= begun {
            self.beat().await?;
            self.due = begun + self.args.interval;
        }
        let wait = self.due.saturating_duration_since(Instant::now());
        self.timer = ctx.send_after(pause(wait, self.args.lease.remaining()), RegistryMsg::Look);
        Ok(Flow::Continue)
    }

    fn message_kind(msg: &RegistryMsg) -> &'static str {
        match msg {
            RegistryMsg::Beat => "beat",
            RegistryMsg::Look => "look",
        }
    }
}

/// `wait`, or what is left of a lease that ends earlier; one that has ended limits nothing.
fn until_end(wait: Duration, lease: Option<Duration>) -> Duration {
    lease.filter(|left| !left.is_zero()).map_or(wait, |left| wait.min(left))
}

/// How long to rest where a heartbeat is due in `wait`: the end of a lease must not be slept through.
fn pause(wait: Duration, lease: Option<Duration>) -> Duration {
    until_end(wait, lease).min(LOOK_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_is_looked_at_every_second_and_at_its_end() {
        let ms = Duration::from_millis;
        assert_eq!(pause(ms(5_000), Some(ms(20_000))), LOOK_MAX);
        assert_eq!(pause(ms(5_000), Some(ms(300))), ms(300));
        assert_eq!(pause(ms(200), Some(ms(300))), ms(200));
        assert_eq!(pause(ms(5_000), Some(Duration::ZERO)), LOOK_MAX, "it is fenced already");
        assert_eq!(pause(ms(5_000), None), LOOK_MAX);
    }
}
