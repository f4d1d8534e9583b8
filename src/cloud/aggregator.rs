//! UP: tells CentralCloud what this instance's attempts came to, every `report_interval` and once more when the node
//! stops.
//!
//! An instance that was killed cannot tell; whoever lives tells on its behalf, from the same cursor. Only results that
//! were reported move it, so an error costs nothing but time.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::store::report::{RESULTS_PER_REPORT_MAX, Reports, Sent};
use crate::postgres::DbError;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, ExitReason, Flow, Timer};

/// Mailbox of the aggregator; only its own timer writes to it.
const AGGREGATOR_MAILBOX_MAX: usize = 4;

/// Reports in one round for one instance; the next round goes on.
const REPORTS_MAX: usize = 100;

/// Spread of the interval, so that instances that were started together do not report together.
const JITTER: f64 = 0.1;

/// What the aggregator works with.
#[derive(Debug, Clone)]
pub struct AggregatorArgs {
    /// Statements.
    pub reports: Reports,
    /// This instance.
    pub instance_id: Arc<str>,
    /// Time between two reports.
    pub interval: Duration,
}

/// The actor.
#[derive(Debug)]
pub struct Aggregator {
    args: AggregatorArgs,
    timer: Timer,
    begun: bool,
    failing: bool,
    told: Told,
}

/// What was reported since the actor was started.
#[derive(Debug, Default)]
struct Told {
    reports: u64,
    results: u64,
    on_behalf: u64,
}

/// Its only message.
#[derive(Debug)]
pub struct Tell;

impl Aggregator {
    /// The child that reports.
    pub fn child(args: AggregatorArgs) -> ChildSpec {
        let address = Address::new("aggregator", AGGREGATOR_MAILBOX_MAX);
        ChildSpec::actor::<Self>("aggregator", &address, move || args.clone())
    }

    /// Reports for this instance, then for those that cannot.
    async fn round(&mut self) -> Result<(), DbError> {
        self.tell_own().await?;
        for absent in self.args.reports.absent().await? {
            self.tell_of(&absent).await?;
        }
        Ok(())
    }

    async fn tell_own(&mut self) -> Result<(), DbError> {
        let own = Arc::clone(&self.args.instance_id);
        if !self.begun {
            self.args.reports.begin(&own).await?;
            self.begun = true;
        }
        // In each round: the database may be moved while this instance runs.
        if let Some(unreported) = self.args.reports.adopt().await? {
            tracing::warn!(target: "cloud", unreported, "the database was moved to another server; reports go on");
        }
        self.tell_of(&own).await
    }

    async fn tell_of(&mut self, instance_id: &str) -> Result<(), DbError> {
        for _ in 0..REPORTS_MAX {
            let Sent { results, full } = self.args.reports.send(instance_id, &self.args.instance_id).await?;
            if results > 0 {
                let count = u64::try_from(results).unwrap_or(u64::MAX);
                self.told.reports += 1;
                self.told.results += count;
                self.told.on_behalf += if instance_id == &*self.args.instance_id { 0 } else { count };
                tracing::debug!(target: "cloud", instance = %instance_id, results, "results reported");
            }
            if !full {
                break;
            }
        }
        Ok(())
    }

    fn note(&mut self, told: Result<(), DbError>) {
        match told {
            Ok(()) => self.failing = false,
            Err(error) if std::mem::replace(&mut self.failing, true) => {
                tracing::debug!(target: "cloud", %error, "results were not reported");
            }
            Err(error) => tracing::warn!(target: "cloud", %error, "results were not reported; they will be"),
        }
    }
}

impl Actor for Aggregator {
    type Msg = Tell;
    type Args = AggregatorArgs;

    async fn init(ctx: &Ctx<Tell>, args: AggregatorArgs) -> Result<Self, ActorError> {
        let timer = ctx.send_after(Duration::ZERO, Tell);
        Ok(Self { args, timer, begun: false, failing: false, told: Told::default() })
    }

    async fn handle(&mut self, ctx: &Ctx<Tell>, _msg: Tell) -> Result<Flow, ActorError> {
        let told = self.round().await;
        self.note(told);
        let spread = rand::random_range(1.0 - JITTER..=1.0 + JITTER);
        self.timer = ctx.send_after(self.args.interval.mul_f64(spread), Tell);
        Ok(Flow::Continue)
    }

    /// The last report. What a transaction that is still under way keeps from it is told by another instance.
    async fn stopped(&mut self, _ctx: &Ctx<Tell>, _reason: &ExitReason) {
        let told = self.tell_own().await;
        self.note(told);
    }

    fn message_kind(_msg: &Tell) -> &'static str {
        "tell"
    }

    fn status(&self) -> Value {
        json!({
            "reports": self.told.reports,
            "results": self.told.results,
            "on_behalf": self.told.on_behalf,
            "per_report_max": RESULTS_PER_REPORT_MAX,
            "failing": self.failing,
        })
    }
}
