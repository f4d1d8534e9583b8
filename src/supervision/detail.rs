//! One child in detail: its specification and its past, beside what the tree shows.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::System;
use super::core::{ChildKind, ExitReason, Restart};
use super::probe::{ExitRecord, millis};
use super::tree::TreeNode;

/// One child in detail. Made by [`System::describe`].
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct ActorDetail {
    /// The child now, with everything below it.
    pub node: TreeNode,
    /// What its supervisor goes by.
    pub spec: SpecDetail,
    /// Its latest ends, oldest first; at most [`HISTORY_MAX`](super::HISTORY_MAX).
    pub history: Vec<ExitDetail>,
}

/// A child's specification, readable.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SpecDetail {
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped: `brutal_kill`, `infinity`, or milliseconds as `5000ms`.
    pub shutdown: String,
    /// What it is.
    pub kind: ChildKind,
    /// Whether its end may end its supervisor.
    pub significant: bool,
    /// Longest time of a start.
    pub start_timeout_ms: Option<u64>,
    /// Shortest and longest wait between restarts, if it waits.
    pub backoff_ms: Option<(u64, u64)>,
    /// Name under which it is registered while it runs.
    pub registered_name: Option<String>,
    /// Why it may neither be terminated nor suspended.
    pub protected: Option<String>,
}

/// One end of a child, readable.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ExitDetail {
    /// When.
    pub at: DateTime<Utc>,
    /// Which life ended.
    pub incarnation: u64,
    /// Why, as text.
    pub reason: String,
    /// Why, whole: for a panic with message kind, location, backtrace and ancestors.
    pub exit: ExitReason,
    /// How long that life was.
    pub lived_ms: u64,
}

impl System {
    /// The child at `path` in detail. Asks no actor anything.
    pub fn describe(&self, path: &str) -> Option<ActorDetail> {
        let probe = self.probe(path)?;
        let given = probe.given();
        let rules = &given.rules;
        let spec = SpecDetail {
            restart: rules.restart,
            shutdown: rules.shutdown.to_string(),
            kind: rules.kind,
            significant: rules.significant,
            start_timeout_ms: given.start_timeout.map(millis),
            backoff_ms: rules.backoff.map(|backoff| (millis(backoff.min), millis(backoff.max))),
            registered_name: given.name.as_deref().map(str::to_owned),
            protected: given.protected.as_deref().map(str::to_owned),
        };
        let history = probe.history().into_iter().map(ExitDetail::from).collect();
        Some(ActorDetail { node: probe.snapshot(), spec, history })
    }
}

impl From<ExitRecord> for ExitDetail {
    fn from(record: ExitRecord) -> Self {
        Self {
            at: record.at,
            incarnation: record.incarnation.0,
            reason: record.reason.to_string(),
            exit: record.reason,
            lived_ms: record.lived_ms,
        }
    }
}
