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
    /// Deletes old jobs.
    Pruner,
}

impl Plugin {
    /// Its name in Oban 2.24.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pruner => "Oban.Pruner",
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

/// `oban.plugin.exception`: a run failed. `again` says that the run before it failed too.
pub fn plugin_failed(plugin: Plugin, error: &dyn Display, again: bool) {
    let plugin = plugin.name();
    if again {
        tracing::debug!(target: "oban", event = "oban.plugin.exception", plugin, error = %error);
    } else {
        tracing::warn!(target: "oban", event = "oban.plugin.exception", plugin, error = %error, "will be tried again");
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
            told(|| plugin_failed(Plugin::Pruner, &"away", false)),
            ["WARN oban message=will be tried again event=\"oban.plugin.exception\" plugin=\"Oban.Pruner\" error=away"]
        );
        assert!(told(|| plugin_failed(Plugin::Pruner, &"away", true))[0].starts_with("DEBUG"));
    }
}
