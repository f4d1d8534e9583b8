//! What services did, under the names that Oban's telemetry has for it.
//!
//! One type an event, emitted as a `tracing` event of target `oban` whose field `event` is Oban's name joined by dots:
//! `oban.plugin.stop` is `[:oban, :plugin, :stop]`. Durations are `duration_us`. A run that did nothing is told at
//! level debug, one that did something at info, and the first of several that fail at warn.

use std::fmt::Display;
use std::time::Duration;

/// A service that Oban calls a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    /// Makes due jobs available.
    Stager,
    /// Returns what its owner left.
    Lifeline,
    /// Deletes old jobs.
    Pruner,
    /// Inserts periodic jobs.
    Cron,
    /// Rebuilds indexes.
    Reindexer,
}

impl Plugin {
    /// Its name in Oban 2.24.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stager => "Oban.Stager",
            Self::Lifeline => "Oban.Lifeline",
            Self::Pruner => "Oban.Pruner",
            Self::Cron => "Oban.Cron",
            Self::Reindexer => "Oban.Reindexer",
        }
    }
}

/// `oban.plugin.stop`, at info when it did something.
macro_rules! plugin_stop {
    ($plugin:expr, $did_something:expr, $duration:expr, $($field:ident = $value:expr),+ $(,)?) => {{
        let (plugin, duration_us) = ($plugin.name(), micros($duration));
        if $did_something {
            tracing::info!(target: "oban", event = "oban.plugin.stop", plugin, duration_us, $($field = $value),+);
        } else {
            tracing::debug!(target: "oban", event = "oban.plugin.stop", plugin, duration_us, $($field = $value),+);
        }
    }};
}

/// `oban.plugin.stop` of the pruner: one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Completed jobs that were deleted.
    pub completed: u64,
    /// Cancelled jobs that were deleted.
    pub cancelled: u64,
    /// Discarded jobs that were deleted.
    pub discarded: u64,
}

impl Pruned {
    /// Jobs that were deleted.
    pub fn count(&self) -> u64 {
        self.completed + self.cancelled + self.discarded
    }

    /// Tells it, and how long the statement took.
    pub fn emit(&self, duration: Duration) {
        let Self { completed, cancelled, discarded } = *self;
        let pruned_count = self.count();
        plugin_stop!(
            Plugin::Pruner,
            pruned_count > 0,
            duration,
            pruned_count = pruned_count,
            completed = completed,
            cancelled = cancelled,
            discarded = discarded,
        );
    }
}

/// `oban.plugin.stop` of the stager: one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// Whether it staged as the leader, for all queues.
    pub leader: bool,
    /// Jobs that became available.
    pub staged_count: u64,
}

impl Staged {
    /// Tells it, and how long the statement took. Jobs become due all the time, so it is told at debug alone.
    pub fn emit(&self, duration: Duration) {
        let Self { leader, staged_count } = *self;
        plugin_stop!(Plugin::Stager, false, duration, leader = leader, staged_count = staged_count);
    }
}

/// `oban.plugin.stop` of the lifeline: one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescued {
    /// Jobs that were made available again.
    pub rescued_count: usize,
    /// Jobs without an attempt left, which were discarded.
    pub discarded_count: usize,
}

impl Rescued {
    /// Tells it, and how long the run took.
    pub fn emit(&self, duration: Duration) {
        let Self { rescued_count, discarded_count } = *self;
        let did = rescued_count + discarded_count > 0;
        plugin_stop!(Plugin::Lifeline, did, duration, rescued_count = rescued_count, discarded_count = discarded_count);
    }
}

/// `oban.plugin.stop` of cron: one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CronInserted {
    /// Jobs that were inserted.
    pub jobs: usize,
}

impl CronInserted {
    /// Tells it, and how long the run took.
    pub fn emit(&self, duration: Duration) {
        plugin_stop!(Plugin::Cron, self.jobs > 0, duration, jobs = self.jobs);
    }
}

/// `oban.plugin.stop` of the reindexer: one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reindexed {
    /// Indexes that were rebuilt.
    pub reindexed_count: u64,
    /// Invalid ones that were dropped.
    pub dropped_count: u64,
}

impl Reindexed {
    /// Tells it, and how long the run took.
    pub fn emit(&self, duration: Duration) {
        let Self { reindexed_count, dropped_count } = *self;
        let did = reindexed_count + dropped_count > 0;
        plugin_stop!(
            Plugin::Reindexer,
            did,
            duration,
            reindexed_count = reindexed_count,
            dropped_count = dropped_count
        );
    }
}

/// Who stages for this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StagerMode {
    /// The leader, for all.
    Global,
    /// It does so itself.
    Local,
}

impl StagerMode {
    /// `oban.stager.switch`: it is another than before.
    pub fn switched(self) {
        let mode = match self {
            Self::Global => "global",
            Self::Local => "local",
        };
        tracing::info!(target: "oban", event = "oban.stager.switch", mode);
    }
}

/// `oban.peer.election.stop`: an election that came to a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elected<'a> {
    /// Name of the Oban.
    pub name: &'a str,
    /// This instance.
    pub node: &'a str,
    /// Whether it leads now.
    pub leader: bool,
    /// Whether it led before.
    pub was_leader: bool,
}

impl Elected<'_> {
    /// Tells it, at info when something changed.
    pub fn emit(&self, duration: Duration) {
        let (Self { name, node, leader, was_leader }, duration_us) = (*self, micros(duration));
        let event = "oban.peer.election.stop";
        if leader == was_leader {
            tracing::debug!(target: "oban", event, name, node, leader, was_leader, duration_us);
        } else {
            tracing::info!(target: "oban", event, name, node, leader, was_leader, duration_us, "leadership changed");
        }
    }
}

/// `oban.peer.election.exception`: an election failed. `again` says that the one before it failed too.
pub fn election_failed(name: &str, node: &str, error: &str, again: bool) {
    let event = "oban.peer.election.exception";
    if again {
        tracing::debug!(target: "oban", event, name, node, error);
    } else {
        tracing::warn!(target: "oban", event, name, node, error, "the election waits for the database");
    }
}

/// `oban.plugin.exception`: a run failed, and `failed` runs right before it. Warns of the first and whenever their
/// number has doubled, so that a service that never succeeds is heard of again.
pub fn plugin_failed(plugin: Plugin, error: &dyn Display, failed: &mut u32) {
    *failed = failed.saturating_add(1);
    let (plugin, event, runs) = (plugin.name(), "oban.plugin.exception", *failed);
    if runs.is_power_of_two() {
        tracing::warn!(target: "oban", event, plugin, error = %error, runs, "will be tried again");
    } else {
        tracing::debug!(target: "oban", event, plugin, error = %error, runs);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Keeps events as text: level, target, fields.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Told {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            struct Fields(String);
            impl Visit for Fields {
                fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                    self.0 += &format!(" {field}={value:?}");
                }
            }
            let mut fields = Fields(format!("{} {}", event.metadata().level(), event.metadata().target()));
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    /// What `emit` tells.
    fn told(emit: impl FnOnce()) -> Vec<String> {
        let told = Told::default();
        tracing::subscriber::with_default(told.clone(), emit);
        told.0.lock().unwrap().clone()
    }

    #[test]
    fn events_have_obans_names_and_say_what_was_done() {
        let pruned = Pruned { completed: 3, cancelled: 2, discarded: 1 };
        assert_eq!(
            told(|| pruned.emit(Duration::from_millis(2))),
            [
                "INFO oban event=\"oban.plugin.stop\" plugin=\"Oban.Pruner\" duration_us=2000 pruned_count=6 completed=3 \
              cancelled=2 discarded=1"
            ]
        );
        assert!(told(|| Pruned::default().emit(Duration::ZERO))[0].starts_with("DEBUG oban"));
        assert_eq!(
            told(|| plugin_failed(Plugin::Pruner, &"away", &mut 0)),
            [
                "WARN oban message=will be tried again event=\"oban.plugin.exception\" plugin=\"Oban.Pruner\" error=away runs=1"
            ]
        );
        let mut failed = 1;
        let levels = told(|| (2..=8).for_each(|_| plugin_failed(Plugin::Pruner, &"away", &mut failed)));
        let levels: Vec<_> = levels.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(levels, ["WARN", "DEBUG", "WARN", "DEBUG", "DEBUG", "DEBUG", "WARN"]);
        assert_eq!(
            told(|| Staged { leader: true, staged_count: 7 }.emit(Duration::ZERO)),
            ["DEBUG oban event=\"oban.plugin.stop\" plugin=\"Oban.Stager\" duration_us=0 leader=true staged_count=7"]
        );
        assert_eq!(
            told(|| Rescued { rescued_count: 1, discarded_count: 0 }.emit(Duration::ZERO)),
            ["INFO oban event=\"oban.plugin.stop\" plugin=\"Oban.Lifeline\" duration_us=0 rescued_count=1 \
              discarded_count=0"]
        );
        assert_eq!(
            told(|| CronInserted { jobs: 2 }.emit(Duration::ZERO)),
            ["INFO oban event=\"oban.plugin.stop\" plugin=\"Oban.Cron\" duration_us=0 jobs=2"]
        );
        assert_eq!(told(|| StagerMode::Local.switched()), ["INFO oban event=\"oban.stager.switch\" mode=\"local\""]);
        assert_eq!(
            told(|| Reindexed { reindexed_count: 2, dropped_count: 1 }.emit(Duration::ZERO)),
            ["INFO oban event=\"oban.plugin.stop\" plugin=\"Oban.Reindexer\" duration_us=0 reindexed_count=2 \
              dropped_count=1"]
        );
        let elected = |was_leader| Elected { name: "Oban", node: "a", leader: true, was_leader };
        assert_eq!(
            told(|| elected(false).emit(Duration::ZERO)),
            ["INFO oban message=leadership changed event=\"oban.peer.election.stop\" name=\"Oban\" node=\"a\" \
              leader=true was_leader=false duration_us=0"]
        );
        assert!(told(|| elected(true).emit(Duration::ZERO))[0].starts_with("DEBUG"));
        assert!(told(|| election_failed("Oban", "a", "away", false))[0].contains("oban.peer.election.exception"));
    }
}
