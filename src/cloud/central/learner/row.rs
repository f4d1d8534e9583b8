//! One attempt, as the learner sees it.

use chrono::{DateTime, Utc};

use crate::workflow::Attempted;

/// One attempt of a model in a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// What it says.
    pub outcome: Attempted,
    /// What it cost; `None` is not known.
    pub cost_nanousd: Option<i64>,
    /// How long it took.
    pub duration_ms: i64,
    /// When it ended.
    pub completed_at: DateTime<Utc>,
    /// Number of the learning whose rule chose the model; `None` where none did.
    pub policy_version: Option<i64>,
    /// With which probability it was chosen; `None` where it was not drawn.
    pub propensity: Option<f64>,
}

impl Row {
    /// 1 for a success, else 0.
    pub fn reward(&self) -> f64 {
        if self.outcome == Attempted::Success { 1.0 } else { 0.0 }
    }
}
