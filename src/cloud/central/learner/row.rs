//! One attempt, as the learner sees it.

use std::str::FromStr;

use chrono::{DateTime, Utc};

/// What an attempt says about its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, and the answer was of use.
    Success,
    /// It answered, and the answer was of no use; or a fault of the model that will not pass.
    Failure,
    /// It declined.
    Refused,
    /// Throttled, overloaded, a crash, a time-out: nothing about quality, but money and time.
    Infrastructure,
    /// The request itself was wrong: nothing about the model.
    Invalid,
    /// The answer came from the cache: nothing about the model.
    Cached,
}

impl Outcome {
    /// Whether it says how good the model is.
    pub fn is_quality(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Refused)
    }

    /// Whether its cost and its time are the model's.
    pub fn is_spent(self) -> bool {
        self.is_quality() || self == Self::Infrastructure
    }
}

impl FromStr for Outcome {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "success" => Self::Success,
            "failure" => Self::Failure,
            "refused" => Self::Refused,
            "infrastructure" => Self::Infrastructure,
            "invalid" => Self::Invalid,
            "cached" => Self::Cached,
            _ => return Err(()),
        })
    }
}

/// One attempt of a model in a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// What it says.
    pub outcome: Outcome,
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
        if self.outcome == Outcome::Success { 1.0 } else { 0.0 }
    }
}
