//! Watches the settings of queues that operators keep in the database, and carries out what has changed in them: one
//! was added, forgotten, or has expired.
//!
//! Orders that are not kept stay until the instance ends or a kept setting of the same queue changes: only differences
//! between two looks are carried out. A difference that could not be is found again by the next look.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::kept::{Table, laid_over, orders};
use super::steering::Steering;
use crate::instance::Settings;
use crate::postgres::DbError;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Reply, Timer};

/// Mailbox of the actor: its own timer, and whoever has changed a setting.
const SETTINGS_MAILBOX_MAX: usize = 64;
/// Time between two looks that nobody asked for; expired settings cease to hold after it.
const POLL: Duration = Duration::from_secs(30);

/// What the actor works with. What it has seen outlives its restarts.
#[derive(Clone)]
pub(super) struct WatchArgs {
    pub(super) settings: Settings,
    pub(super) steering: Steering,
    pub(super) seen: Seen,
}

impl fmt::Debug for WatchArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchArgs").finish_non_exhaustive()
    }
}

/// The queues as the settings of the last look make them, as far as that was carried out. Clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Table>>);

impl Seen {
    /// What was seen first.
    pub(super) fn new(table: Table) -> Self {
        Self(Arc::new(Mutex::new(table)))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queues of this instance as the settings make them now, and which settings cannot be used. None starts where no
/// job is executed, whatever is kept.
pub(super) async fn effective(
    settings: &Settings,
    instance_id: &str,
    configured: &Table,
    executes: bool,
) -> Result<(Table, Vec<String>), DbError> {
    let (mut queues, unusable) = laid_over(configured, &settings.in_force(Some(instance_id)).await?);
    if !executes {
        queues.values_mut().for_each(|queue| queue.start = false);
    }
    Ok((queues, unusable))
}

/// Says which settings cannot be used.
pub(super) fn report(unusable: &[String]) {
    for setting in unusable {
        tracing::warn!(target: "instance", setting, "a kept setting cannot be used");
    }
}

/// The actor.
#[derive(Debug)]
pub(super) struct SettingsWatch {
    args: WatchArgs,
    timer: Timer,
    /// What was reported at the last look, so that it is reported once.
    unusable: Vec<String>,
}

/// What the watch is told.
#[derive(Debug)]
pub(super) enum SettingsMsg {
    /// Somebody has changed a setting, and waits until it is carried out, or for why it is not.
    Look(Reply<Result<(), String>>),
    /// The poll is due.
    Poll,
}

impl SettingsWatch {
    /// Where it listens.
    pub(super) fn address() -> Address<SettingsMsg> {
        Address::new("settings", SETTINGS_MAILBOX_MAX)
    }

    /// The child that watches.
    pub(super) fn child(args: WatchArgs) -> ChildSpec {
        let address = args.steering.settings.clone();
        ChildSpec::actor::<Self>("settings", &address, move || args.clone())
    }

    async fn look(&mut self) -> Result<(), String> {
        let steering = &self.args.steering;
        let now = effective(&self.args.settings, &steering.instance_id, &steering.configured, steering.executes).await;
        let (after, unusable) = now.map_err(|error| {
            // The registry reports a database that is away.
            tracing::debug!(target: "instance", %error, "settings are looked at later");
            error.to_string()
        })?;
        if unusable != self.unusable {
            report(&unusable);
            self.unusable = unusable;
        }
        let before = self.args.seen.table().clone();
        let (mut seen, mut failed) = (after.clone(), Vec::new());
        for order in orders(&before, &after) {
            tracing::info!(target: "queue", ?order, "a kept setting has changed");
            if let Err(error) = steering.carry_out(&order, None).await {
                tracing::warn!(target: "queue", %error, ?order, "a kept setting is not carried out yet");
                failed.push(error.to_string());
                // As it was, so that the next look finds the difference again.
                match before.get(order.queue()) {
                    Some(queue) => seen.insert(order.queue().to_owned(), queue.clone()),
                    None => seen.remove(order.queue()),
                };
            }
        }
        *self.args.seen.table() = seen;
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }
}

impl Actor for SettingsWatch {
    type Msg = SettingsMsg;
    type Args = WatchArgs;

    async fn init(ctx: &Ctx<SettingsMsg>, args: WatchArgs) -> Result<Self, ActorError> {
        Ok(Self { args, timer: ctx.send_after(POLL, SettingsMsg::Poll), unusable: Vec::new() })
    }

    async fn handle(&mut self, ctx: &Ctx<SettingsMsg>, msg: SettingsMsg) -> Result<Flow, ActorError> {
        let looked = self.look().await;
        match msg {
            SettingsMsg::Look(reply) => reply.send(looked),
            SettingsMsg::Poll => self.timer = ctx.send_after(POLL, SettingsMsg::Poll),
        }
        Ok(Flow::Continue)
    }

    fn message_kind(msg: &SettingsMsg) -> &'static str {
        match msg {
            SettingsMsg::Look(_) => "look",
            SettingsMsg::Poll => "poll",
        }
    }
}
