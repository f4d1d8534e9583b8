//! Rebuilds the indexes that bloat, at set times.
//!
//! As Oban's reindexer: off unless it is wanted, the leader does it, by default for the two GIN indexes, and indexes
//! that an earlier rebuild left invalid are dropped. Everybody goes on meanwhile, because both are done concurrently.
//! Unlike Oban's it leaves an invalid index alone while somebody builds one, because that is what one looks like.

use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::engine::Engine;
use super::error::QueueError;
use super::leadership::Leadership;
use crate::cron::{Expression, Zone};
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};
use crate::telemetry::oban::{Plugin, Reindexed, plugin_failed};

/// Mailbox of the reindexer; only its own timer writes to it.
const REINDEXER_MAILBOX_MAX: usize = 4;
/// Longest sleep: after it the clock is asked again, which may have been set.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// What the reindexer works with.
#[derive(Debug, Clone)]
pub struct ReindexerArgs {
    /// Statements.
    pub engine: Engine,
    /// It works while this instance leads.
    pub leadership: Leadership,
    /// When.
    pub schedule: Expression,
    /// The zone whose clocks that means.
    pub zone: Zone,
    /// Indexes of `oban_jobs`; those that are not there are passed over.
    pub indexes: Vec<String>,
    /// Limit of one statement.
    pub timeout: Duration,
}

/// The actor.
#[derive(Debug)]
pub struct Reindexer {
    args: ReindexerArgs,
    /// The time that comes next, by the server's clock.
    next: Option<DateTime<Utc>>,
    timer: Timer,
    /// Runs that failed since the last one that did not.
    failed: u32,
}

/// Its only message.
#[derive(Debug)]
pub struct Reindex;

impl Reindexer {
    /// The child that rebuilds.
    pub fn child(args: ReindexerArgs) -> ChildSpec {
        let address = Address::new("reindexer", REINDEXER_MAILBOX_MAX);
        ChildSpec::actor::<Self>("reindexer", &address, move || args.clone())
    }

    /// Does what is due; returns how long to sleep.
    async fn look(&mut self, ctx: &Ctx<Reindex>) -> Result<Duration, QueueError> {
        let now = self.args.engine.db().server_now().await?;
        let is_due = is_due(self.next, now, self.args.leadership.is_held());
        // A rebuild that fails is not tried before its next time: what failed once mostly fails again, at a cost.
        self.next = self.args.schedule.next(self.args.zone, now);
        if is_due {
            let begun = Instant::now();
            rebuild(&self.args.engine, &self.args.indexes, self.args.timeout).await.emit(begun.elapsed());
        }
        let text = self.next.map_or_else(|| "never".to_owned(), |next| next.format("%Y-%m-%dT%H:%M:%SZ").to_string());
        ctx.probe().set_label("next", text);
        let wait = self.next.and_then(|next| (next - now).to_std().ok()).unwrap_or(SLEEP_MAX);
        Ok(wait.min(SLEEP_MAX))
    }
}

/// Rebuilds those of `names` that are there, and drops what earlier rebuilds left invalid. What fails is told and left;
/// the rest is done.
pub async fn rebuild(engine: &Engine, names: &[String], limit: Duration) -> Reindexed {
    let mut done = Reindexed::default();
    let failed = |error: &dyn Display| plugin_failed(Plugin::Reindexer, error, &mut 0);
    match engine.indexes(names).await {
        Ok(indexes) => {
            for index in indexes {
                match engine.reindex(&index, limit).await {
                    Ok(()) => done.reindexed_count += 1,
                    Err(error) => failed(&format_args!("index {}: {error}", index.name)),
                }
            }
        }
        Err(error) => failed(&error),
    }
    match engine.invalid_indexes().await {
        Ok(indexes) => {
            for index in indexes {
                match engine.drop_index(&index, limit).await {
                    Ok(()) => done.dropped_count += 1,
                    Err(error) => failed(&format_args!("index {}: {error}", index.name)),
                }
            }
        }
        Err(error) => failed(&error),
    }
    done
}

/// Whether the time that was waited for has come, and is this instance's business.
fn is_due(awaited: Option<DateTime<Utc>>, now: DateTime<Utc>, leads: bool) -> bool {
    leads && awaited.is_some_and(|time| time <= now)
}

impl Actor for Reindexer {
    type Msg = Reindex;
    type Args = ReindexerArgs;

    async fn init(ctx: &Ctx<Reindex>, args: ReindexerArgs) -> Result<Self, ActorError> {
        Ok(Self { args, next: None, timer: ctx.send_after(Duration::ZERO, Reindex), failed: 0 })
    }

    async fn handle(&mut self, ctx: &Ctx<Reindex>, _msg: Reindex) -> Result<Flow, ActorError> {
        let wait = match self.look(ctx).await {
            Ok(wait) => {
                self.failed = 0;
                wait
            }
            Err(error) => {
                plugin_failed(Plugin::Reindexer, &error, &mut self.failed);
                SLEEP_MAX
            }
        };
        self.timer = ctx.send_after(wait, Reindex);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &Reindex) -> &'static str {
        "reindex"
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_leader_rebuilds_and_only_when_the_time_has_come() {
        let time = at("2026-11-26T00:00:00Z");
        let (before, after) = (time - TimeDelta::milliseconds(1), time + TimeDelta::milliseconds(1));
        for (now, leads, wanted) in
            [(before, true, false), (time, true, true), (after, true, true), (after, false, false)]
        {
            assert_eq!(is_due(Some(time), now, leads), wanted, "{now} {leads}");
        }
        assert!(!is_due(None, after, true), "no time was waited for yet");
    }
}
