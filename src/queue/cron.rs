//! Inserts periodic jobs when their time comes, while this instance leads or is a guest: those who lead beside a guest
//! are other runtimes, which know nothing of its entries.
//!
//! The actor sleeps until the next time, asks the database for its clock and for how far each entry was decided, and
//! moves the entries forward together with their jobs. That a time gets one job does not depend on there being one
//! leader: who moves an entry must find it where they saw it. So a leader that does not know yet that it leads no more,
//! one that died between two statements and one whose clock is wrong neither repeat a time nor lose it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use tokio::time::Instant;

use super::crontab::{CronPlan, Crontab};
use super::engine::{CronDecision, Engine};
use super::error::QueueError;
use super::foreign::Foreign;
use super::leadership::Leadership;
use super::role::Role;
use crate::config::Mode;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};
use crate::telemetry::oban::{CronInserted, Plugin, plugin_failed};

/// Mailbox of the actor; only its own timer writes to it.
const CRON_MAILBOX_MAX: usize = 4;
/// Time between two looks at whether this instance leads; costs no statement.
const LEAD_LOOK: Duration = Duration::from_millis(500);
/// Longest sleep of who inserts: the database's clock is set at times.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Shortest sleep.
const SLEEP_MIN: Duration = Duration::from_millis(5);
/// A guest that wakes for a time finds it within this, whoever has asked meanwhile.
const GUEST_SLACK: Duration = Duration::from_secs(5);
/// Sleep after a failure, and when somebody else decided.
const RETRY: Duration = Duration::from_secs(1);

/// What the actor works with.
#[derive(Debug, Clone)]
pub struct CronArgs {
    /// Statements.
    pub engine: Engine,
    /// Whether this instance leads.
    pub leadership: Leadership,
    /// What its part is by the configuration.
    pub mode: Mode,
    /// Who else is there.
    pub foreign: Foreign,
    /// Name of the Oban that is led.
    pub oban: Arc<str>,
    /// The entries.
    pub crontab: Arc<Crontab>,
    /// When this process first led, for `@reboot`: empty at first, kept over restarts of the actor.
    pub first_led: Arc<OnceLock<DateTime<Utc>>>,
}

/// The actor.
#[derive(Debug)]
pub struct Cron {
    args: CronArgs,
    timer: Timer,
    /// Runs that failed since the last one that did not.
    failed: u32,
}

/// As what the actor inserts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All entries.
    Leader,
    /// All but `@reboot`: there may be many guests, and each would have a start of its own.
    Guest,
}

impl Part {
    /// A leader decides alone. Guests whose tables differ, as while a fleet is being updated, ask in turns.
    fn slack(self) -> Duration {
        match self {
            Self::Leader => Duration::ZERO,
            Self::Guest => GUEST_SLACK,
        }
    }
}

/// Its only message.
#[derive(Debug)]
pub struct Tick;

impl Cron {
    /// The child that inserts.
    pub fn child(args: CronArgs) -> ChildSpec {
        let address = Address::new("cron", CRON_MAILBOX_MAX);
        ChildSpec::actor::<Self>("cron", &address, move || args.clone())
    }

    /// Whether to insert: as a leader, or as a guest.
    fn part(&self) -> Option<Part> {
        let args = &self.args;
        if args.leadership.is_held() {
            return Some(Part::Leader);
        }
        let foreigner = args.foreign.last();
        let role = Role::of(args.mode, foreigner.as_ref().map(|(foreigner, _)| foreigner));
        (role == Role::Guest).then_some(Part::Guest)
    }

    /// Inserts what is due; returns how long to sleep, and until when by the database's clock.
    async fn run(&self, part: Part) -> Result<(Duration, Option<DateTime<Utc>>), QueueError> {
        let (args, asked) = (&self.args, Instant::now());
        let stand = args.engine.cron_stand(&args.oban, &args.crontab.keys(), part.slack()).await?;
        for (entry, was) in args.crontab.iter().zip(&stand.set_back) {
            if let Some(until) = was {
                let until = until.to_rfc3339_opts(SecondsFormat::AutoSi, true);
                tracing::warn!(
                    target: "queue", entry = entry.key().name, until,
                    "times up to one that is yet to come were decided; the database's clock was ahead, and the entry goes on \
                     from its present"
                );
            }
        }
        // Later than all that was decided, also for an entry that began in this moment.
        let begun = stand.decided_until.iter().flatten().max().map(|at| *at + TimeDelta::microseconds(1));
        let first_led = || *args.first_led.get_or_init(|| begun.map_or(stand.now, |begun| begun.max(stand.now)));
        let plan = args.crontab.plan(&stand.decided_until, stand.now, (part == Part::Leader).then(first_led));
        let mut is_sure = stand.decided_until.iter().all(Option::is_some);
        if !plan.decisions.is_empty() {
            is_sure &= self.decide(plan).await?;
        }
        let next = args.crontab.next(stand.now);
        // The clock was read after the question was sent, so this wakes rather late than early.
        let until = |next: DateTime<Utc>| (next - stand.now).to_std().unwrap_or_default();
        let sleep = next.map_or(SLEEP_MAX, until).min(if is_sure { SLEEP_MAX } else { RETRY });
        Ok((sleep.saturating_sub(asked.elapsed()).max(SLEEP_MIN), next))
    }

    /// Carries a plan out; whether nobody else was faster.
    async fn decide(&self, plan: CronPlan) -> Result<bool, QueueError> {
        for (name, first) in &plan.left_out {
            let since = first.to_rfc3339_opts(SecondsFormat::AutoSi, true);
            tracing::warn!(target: "queue", entry = %name, since, "times were missed and are left out");
        }
        let begun = Instant::now();
        let counts = self.carry_out(plan.decisions).await?;
        CronInserted { jobs: counts.iter().flatten().sum() }.emit(begun.elapsed());
        Ok(counts.iter().all(Option::is_some))
    }
}

impl Cron {
    /// All decisions together; where the database refuses that, each by itself, so that one whose job cannot be stored
    /// does not hold up the others.
    async fn carry_out(&self, decisions: Vec<CronDecision>) -> Result<Vec<Option<usize>>, QueueError> {
        let (engine, oban) = (&self.args.engine, &self.args.oban);
        let together = engine.cron_decide(oban, decisions.clone()).await;
        if decisions.len() == 1 || !together.as_ref().is_err_and(|error| !error.is_unavailable()) {
            return together;
        }
        let mut counts = Vec::with_capacity(decisions.len());
        let mut refused = None;
        for decision in decisions {
            match engine.cron_decide(oban, vec![decision]).await {
                Ok(one) => counts.extend(one),
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(counts), Err)
    }
}

impl Actor for Cron {
    type Msg = Tick;
    type Args = CronArgs;

    async fn init(ctx: &Ctx<Tick>, args: CronArgs) -> Result<Self, ActorError> {
        Ok(Self { args, timer: ctx.send_after(Duration::ZERO, Tick), failed: 0 })
    }

    async fn handle(&mut self, ctx: &Ctx<Tick>, _msg: Tick) -> Result<Flow, ActorError> {
        let mut label = String::from("when this instance leads");
        let mut sleep = LEAD_LOOK;
        if let Some(part) = self.part() {
            match self.run(part).await {
                Ok((until, next)) => {
                    (sleep, self.failed) = (until, 0);
                    label = next.map_or("-".into(), |next| next.to_rfc3339_opts(SecondsFormat::AutoSi, true));
                }
                Err(error) => {
                    plugin_failed(Plugin::Cron, &error, &mut self.failed);
                    (sleep, label) = (RETRY, "the last insertion failed".into());
                }
            }
        }
        ctx.probe().set_label("next", label);
        self.timer = ctx.send_after(sleep, Tick);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &Tick) -> &'static str {
        "tick"
    }
}
