//! Tells dashboards every second what attempts came to, while this instance leads also how many jobs there are, and now
//! and then its periodic jobs.
//!
//! Only a leader tells how many there are, once a second: readers add up what they hear. A guest never leads, so there
//! the Elixir leader tells it.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;

use super::engine::{Engine, StateCount};
use super::error::QueueError;
use super::foreign::Foreign;
use super::leadership::Leadership;
use super::measures::Measures;
use crate::config::Tell;
use crate::postgres::notifier::cronitor::{self, Entry};
use crate::postgres::notifier::metrics::{Metric, Series, Value, messages};
use crate::postgres::notifier::{self, PAYLOADS_MAX, Payload, Unsendable, unsendable};
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};

/// Mailbox of the actor; only its own timer writes to it.
const METRICS_MAILBOX_MAX: usize = 4;
/// Time between two reports: what readers expect, who show nothing for a count that is 2 s old.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time between two messages about periodic jobs; readers forget them after 60 s.
const CRONTAB_EVERY: Duration = Duration::from_secs(15);
/// Counting a large table takes long, so it is done less often the longer it took: at most this share of the time. In
/// between the last counts are told again.
const COUNT_SHARE_MAX: f64 = 0.05;
/// Wait after a count that failed, for example because it took longer than a statement may.
const COUNT_RETRY: Duration = Duration::from_secs(60);

/// What the metrics are made of.
#[derive(Debug, Clone)]
pub struct MetricsArgs {
    /// Statements.
    pub engine: Engine,
    /// What attempts came to.
    pub measures: Measures,
    /// Beside whom a dashboard may run.
    pub foreign: Foreign,
    /// Whether jobs are counted here.
    pub leadership: Leadership,
    /// Name of the Oban that this instance belongs to.
    pub name: Arc<str>,
    /// This instance.
    pub node: Arc<str>,
    /// When to send.
    pub send: Tell,
    /// Whether a leader counts jobs at all.
    pub counts: bool,
    /// Periodic jobs.
    pub crontab: Arc<[Entry]>,
}

/// The actor.
#[derive(Debug)]
pub struct Metrics {
    args: MetricsArgs,
    timer: Timer,
    counts: Vec<StateCount>,
    count_at: Instant,
    /// Second of the last counts that were told.
    counts_told: i64,
    crontab_at: Instant,
    failing: bool,
}

/// Its only message.
#[derive(Debug)]
pub struct Report;

impl Metrics {
    /// The child that reports.
    pub fn child(args: MetricsArgs) -> ChildSpec {
        let address = Address::new("metrics", METRICS_MAILBOX_MAX);
        ChildSpec::actor::<Self>("metrics", &address, move || args.clone())
    }

    async fn report(&mut self) -> Result<bool, QueueError> {
        let now = Instant::now();
        let sends = self.args.send.is_wanted(self.args.foreign.is_there());
        let mut metrics = self.args.measures.take(sends);
        if !sends {
            return Ok(false);
        }
        self.count(now).await;
        let time = Utc::now().timestamp();
        metrics.extend(self.counts_to_tell(time));
        let (name, node) = (&*self.args.name, &*self.args.node);
        tell(&self.args.engine, notifier::METRICS, messages(metrics, name, node, time)).await?;
        if now >= self.crontab_at {
            let message = cronitor::message(&self.args.crontab, name, node);
            tell(&self.args.engine, notifier::CRONITOR, message.map(Vec::from_iter)).await?;
            self.crontab_at = now + CRONTAB_EVERY;
        }
        Ok(true)
    }

    /// Counts jobs if that is due and this instance's business.
    async fn count(&mut self, now: Instant) {
        if !self.args.counts || !self.args.leadership.is_held() {
            self.counts.clear();
            self.count_at = now;
            return;
        }
        if now < self.count_at {
            return;
        }
        match self.args.engine.state_counts().await {
            Ok(counts) => {
                self.counts = counts;
                self.count_at = now + next_count(now.elapsed());
            }
            Err(error) => {
                tracing::warn!(target: "oban", %error, "jobs could not be counted for dashboards");
                self.counts.clear();
                self.count_at = now + COUNT_RETRY;
            }
        }
    }

    /// The counts, unless this second's were told, or the lead was lost while they were made.
    fn counts_to_tell(&mut self, time: i64) -> Vec<Metric> {
        if time <= self.counts_told || !self.args.leadership.is_held() {
            return Vec::new();
        }
        self.counts_told = time;
        let metric = |count: &StateCount| Metric {
            series: Series::FullCount,
            state: count.state.as_str(),
            queue: count.queue.clone(),
            worker: None,
            value: Value::Gauge(count.count.into()),
        };
        self.counts.iter().map(metric).collect()
    }
}

/// How long after the begin of a count that took `cost` the next one may begin.
fn next_count(cost: Duration) -> Duration {
    cost.div_f64(COUNT_SHARE_MAX)
}

async fn tell(engine: &Engine, channel: &str, payloads: Result<Vec<Payload>, Unsendable>) -> Result<(), QueueError> {
    let payloads = payloads.map_err(|error| unsendable(channel, &error))?;
    for payloads in payloads.chunks(PAYLOADS_MAX) {
        engine.tell(channel, payloads).await?;
    }
    Ok(())
}

impl Actor for Metrics {
    type Msg = Report;
    type Args = MetricsArgs;

    async fn init(ctx: &Ctx<Report>, args: MetricsArgs) -> Result<Self, ActorError> {
        let (timer, now) = (ctx.send_after(INTERVAL, Report), Instant::now());
        Ok(Self { args, timer, counts: Vec::new(), count_at: now, counts_told: 0, crontab_at: now, failing: false })
    }

    async fn handle(&mut self, ctx: &Ctx<Report>, _msg: Report) -> Result<Flow, ActorError> {
        let begun = Instant::now();
        match self.report().await {
            Ok(sends) => {
                self.failing = false;
                ctx.probe().set_label("sends", self.args.send.describe(sends));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(target: "oban", %error, "dashboards are not told what attempts came to");
                }
            }
        }
        self.timer = ctx.send_after(INTERVAL.saturating_sub(begun.elapsed()), Report);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &Report) -> &'static str {
        "report"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_takes_at_most_a_twentieth_of_the_time() {
        assert_eq!(next_count(Duration::from_millis(2)), Duration::from_millis(40));
        assert_eq!(next_count(Duration::from_millis(500)), Duration::from_secs(10));
    }
}
