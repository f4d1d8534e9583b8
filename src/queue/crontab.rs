//! The entries of `[cron]` as jobs, and what is to be inserted at a moment. Pure: the clock is an argument, the actor
//! (`cron`) carries it out.

mod template;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::Map;

use super::engine::{CronDecision, CronEntryKey};
use super::error::QueueError;
use super::new_job::NewJob;
use super::worker::Workers;
use crate::config::{CatchUp, Cron};
use crate::cron::{Expression, Zone};
use crate::postgres::notifier::cronitor::Entry;

/// How late a job may at least be inserted and is still on time, so that none is lost while the lead passes on.
pub const CRON_ON_TIME_MIN: Duration = Duration::from_secs(60);
/// Leases that it may be late: one runs out when a leader dies, then another is taken.
const ON_TIME_LEASES: u32 = 2;
/// Jobs of one entry that are inserted at once; of more the newest.
pub const CRON_JOBS_MAX: usize = 1_000;

/// One entry.
#[derive(Debug, Clone)]
pub struct CronEntry {
    name: String,
    expression: Expression,
    zone: Zone,
    catch_up: CatchUp,
    catch_up_within: TimeDelta,
    template: NewJob,
}

/// All entries of one instance, by name.
#[derive(Debug, Clone, Default)]
pub struct Crontab {
    entries: Vec<CronEntry>,
    on_time: TimeDelta,
}

/// What is to be done at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct CronPlan {
    /// Entries that move forward, with the jobs that they get.
    pub decisions: Vec<CronDecision>,
    /// Entries of which times are left out, and the first of these.
    pub left_out: Vec<(String, DateTime<Utc>)>,
}

impl CronEntry {
    /// An entry as it is configured. What it does not say is as its worker's options are, where the worker is known.
    ///
    /// # Errors
    /// [`QueueError::Cron`] and [`QueueError::Invalid`]; not with a configuration that was loaded.
    pub fn new(name: &str, config: &Cron, workers: &Workers) -> Result<Self, QueueError> {
        let (expression, zone) = config.times()?;
        let template = template::template(config, workers)?
            .meta("cron", true)
            .meta("cron_expr", expression.as_str())
            .meta("cron_name", name)
            .meta("cron_tz", zone.name());
        Ok(Self {
            name: name.to_owned(),
            zone,
            expression,
            catch_up: config.catch_up,
            catch_up_within: TimeDelta::from_std(config.catch_up_within.get()).unwrap_or(TimeDelta::MAX),
            template: template.validated()?,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it is due.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// The zone whose clocks the expression means.
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// The next time after `now`; `None` for `@reboot`.
    pub fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.expression.next(self.zone, now)
    }

    pub(super) fn key(&self) -> CronEntryKey<'_> {
        CronEntryKey { name: &self.name, expr: self.expression.as_str(), timezone: self.zone.name() }
    }

    /// The job of one time.
    fn job(&self, due: DateTime<Utc>) -> (DateTime<Utc>, NewJob) {
        (due, self.template.clone().meta("cron_at", due.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
    }

    /// The times, later than `decided` and not later than `now`, that get a job.
    fn due(&self, decided: DateTime<Utc>, now: DateTime<Utc>, on_time: TimeDelta) -> Vec<DateTime<Utc>> {
        let since = |age: TimeDelta| now.checked_sub_signed(age).map_or(decided, |since| since.max(decided));
        let between = |after, max| self.expression.between(self.zone, after, now, max);
        match self.catch_up {
            CatchUp::None => between(since(on_time), CRON_JOBS_MAX),
            CatchUp::All => between(since(self.catch_up_within.max(on_time)), CRON_JOBS_MAX),
            CatchUp::Last => {
                let punctual = between(since(on_time), CRON_JOBS_MAX);
                if punctual.is_empty() { between(since(self.catch_up_within.max(on_time)), 1) } else { punctual }
            }
        }
    }
}

impl Crontab {
    /// The entries of a configuration, inserted by a leader whose lease is so long. What is later than two leases, and
    /// than [`CRON_ON_TIME_MIN`], was missed.
    ///
    /// # Errors
    /// As [`CronEntry::new`].
    pub fn new(config: &BTreeMap<String, Cron>, lease: Duration, workers: &Workers) -> Result<Self, QueueError> {
        let entries =
            config.iter().map(|(name, entry)| CronEntry::new(name, entry, workers)).collect::<Result<_, _>>()?;
        let on_time = CRON_ON_TIME_MIN.max(lease * ON_TIME_LEASES);
        Ok(Self { entries, on_time: TimeDelta::from_std(on_time).unwrap_or(TimeDelta::MAX) })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, by name.
    pub fn iter(&self) -> impl Iterator<Item = &CronEntry> {
        self.entries.iter()
    }

    /// What the database is asked about them.
    pub fn keys(&self) -> Vec<CronEntryKey<'_>> {
        self.entries.iter().map(CronEntry::key).collect()
    }

    /// What dashboards are told of the entries: those that Oban for Elixir can read, because its page of them fails on
    /// any other.
    pub fn told(&self) -> Arc<[Entry]> {
        let told = self.iter().filter(|entry| !entry.expression.is_extended()).map(|entry| Entry {
            expression: entry.expression.to_string(),
            worker: entry.template.worker.clone(),
            options: Map::from_iter([
                ("name".to_owned(), entry.name.as_str().into()),
                ("queue".to_owned(), entry.template.queue.as_str().into()),
                ("timezone".to_owned(), entry.zone.name().into()),
            ]),
        });
        told.collect()
    }

    /// What is to be done at `now` when the entries were decided up to the times of `decided_until`, in their order.
    /// `rebooted` is when this process first led, if its `@reboot` entries have no job of that yet.
    pub fn plan(
        &self,
        decided_until: &[Option<DateTime<Utc>>],
        now: DateTime<Utc>,
        rebooted: Option<DateTime<Utc>>,
    ) -> CronPlan {
        let mut plan = CronPlan { decisions: Vec::new(), left_out: Vec::new() };
        for (entry, decided) in self.iter().zip(decided_until) {
            let Some(from) = *decided else { continue };
            let newest = if entry.expression.is_reboot() { rebooted } else { entry.expression.last(entry.zone, now) };
            let Some(until) = newest.filter(|newest| *newest > from) else { continue };
            let times = if entry.expression.is_reboot() { vec![until] } else { entry.due(from, now, self.on_time) };
            let first = entry.next(from).filter(|first| times.first().is_none_or(|due| first < due));
            plan.left_out.extend(first.map(|first| (entry.name.clone(), first)));
            let jobs = times.into_iter().map(|due| entry.job(due)).collect();
            plan.decisions.push(CronDecision { name: entry.name.clone(), from, until, jobs });
        }
        plan
    }

    /// The next time after `now` of any entry.
    pub fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.iter().filter_map(|entry| entry.next(now)).min()
    }
}

#[cfg(test)]
mod tests;
