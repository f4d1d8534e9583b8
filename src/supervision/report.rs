//! What supervisors tell the world: log records with OTP's field names, and events for whoever subscribes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::child::ChildSpec;
use super::core::{ExitReason, Incarnation, Path, Report};
use super::operate::Operation;
use super::probe::Probe;

/// Events that wait for a slow subscriber; older ones are dropped and the subscriber learns how many.
pub const EVENTS_MAX: usize = 1024;

/// Something that happened to a child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisionEvent {
    /// When.
    pub at: DateTime<Utc>,
    /// To which child.
    pub path: Path,
    /// In which of its lives.
    pub incarnation: Incarnation,
    /// What.
    #[serde(flatten)]
    pub kind: SupervisionEventKind,
}

/// What can happen to a child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SupervisionEventKind {
    /// It was started.
    Started {
        /// By an automatic restart.
        restart: bool,
    },
    /// It ended by itself.
    Exited {
        /// Why.
        reason: ExitReason,
    },
    /// Its supervisor stopped it.
    Stopped {
        /// How it ended.
        reason: ExitReason,
        /// Whether it ended otherwise than ordered.
        unexpected: bool,
    },
    /// It could not be started.
    StartFailed {
        /// Why.
        reason: String,
    },
    /// Its end, or its failing start, was one restart too many: its supervisor ends.
    MaxIntensity {
        /// Why it ended.
        reason: ExitReason,
    },
    /// It was killed but does not end.
    Zombie,
    /// The zombie is gone.
    ZombieGone,
    /// An operator gave an order about it.
    Operated {
        /// Which.
        operation: Operation,
        /// Who.
        by: String,
        /// For which reason, if one was given.
        why: Option<String>,
        /// Why it was not carried out, if so.
        refused: Option<String>,
    },
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventLevel {
    /// The course of things.
    Info,
    /// Look at it soon.
    Warning,
    /// Somebody must act.
    Error,
}

impl SupervisionEventKind {
    /// How much it matters. Clean ends and starts are information; a crash that is contained is a warning; an end of a
    /// supervisor by too many restarts, and a zombie, are errors.
    pub fn level(&self) -> EventLevel {
        match self {
            Self::Started { restart: false } | Self::Stopped { unexpected: false, .. } => EventLevel::Info,
            Self::Exited { reason } if reason.is_clean() => EventLevel::Info,
            Self::Started { restart: true }
            | Self::Exited { .. }
            | Self::Stopped { .. }
            | Self::StartFailed { .. }
            | Self::ZombieGone
            | Self::Operated { .. } => EventLevel::Warning,
            Self::MaxIntensity { .. } | Self::Zombie => EventLevel::Error,
        }
    }
}

impl SupervisionEvent {
    /// How much it matters; see [`SupervisionEventKind::level`].
    pub fn level(&self) -> EventLevel {
        self.kind.level()
    }

    pub(super) fn now(probe: &Probe, incarnation: Incarnation, kind: SupervisionEventKind) -> Self {
        Self { at: Utc::now(), path: probe.path.clone(), incarnation, kind }
    }
}

/// Writes one of OTP's reports to the log.
pub(super) fn log(supervisor: &Path, spec: &ChildSpec, probe: &Probe, report: &Report) {
    let rules = spec.rules();
    let (context, reason) = match report {
        Report::Progress { .. } => {
            tracing::info!(
                target: "sup.progress",
                supervisor = %supervisor,
                started.id = %rules.id,
                started.pid = %probe.path,
                started.incarnation = probe.incarnation().0,
                started.restart_type = %rules.restart,
                started.significant = rules.significant,
                started.shutdown = %rules.shutdown,
                started.child_type = %rules.kind,
                "child started"
            );
            return;
        }
        Report::ChildTerminated { reason, .. } => ("child_terminated", reason.to_string()),
        Report::StartError { reason, .. } => ("start_error", reason.clone()),
        Report::ShutdownError { reason, .. } => ("shutdown_error", reason.to_string()),
        Report::MaxIntensity { reason, .. } => ("shutdown", format!("reached_max_restart_intensity after {reason}")),
        Report::Zombie { .. } => ("zombie", "killed, but does not end: its code reaches no await point".to_owned()),
        Report::ZombieGone { .. } => ("zombie_gone", "the zombie ended".to_owned()),
    };
    tracing::error!(
        target: "sup.report",
        supervisor = %supervisor,
        errorContext = context,
        reason = reason,
        offender.id = %rules.id,
        offender.pid = %probe.path,
        offender.incarnation = probe.incarnation().0,
        offender.restart_type = %rules.restart,
        offender.significant = rules.significant,
        offender.shutdown = %rules.shutdown,
        offender.child_type = %rules.kind,
        "supervisor report"
    );
}
