//! What is logged on this thread under the targets of supervision.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::DefaultGuard;

/// Keeps log lines as `LEVEL target field=value ...`.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

/// Logging goes to the [`Log`] until this is dropped.
pub struct Logging {
    _guard: DefaultGuard,
    _second: tracing::Dispatch,
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={:?}", field.name(), value).unwrap();
    }
}

impl Log {
    /// Keeps what this thread logs from now on.
    pub fn here(&self) -> Logging {
        // With one subscriber only, tracing asks that of the thread which reaches a log statement first; here that may
        // be another test's thread, which has none. With two it asks all.
        let _second = tracing::Dispatch::new(self.clone());
        Logging { _guard: tracing::subscriber::set_default(self.clone()), _second }
    }

    /// The lines that contain all these texts.
    pub fn lines(&self, parts: &[&str]) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).cloned().collect()
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("sup.")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let metadata = event.metadata();
        let mut line = Line(format!("{} {}", metadata.level(), metadata.target()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
