//! The eight states of a job, in Oban's words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// State of a job. The order is that of a job's life, not of the database type, which differs between Oban's runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Held until something releases it.
    Suspended,
    /// Waits for its time.
    Scheduled,
    /// May be claimed now.
    Available,
    /// Claimed by a producer.
    Executing,
    /// Failed, waits for its next attempt.
    Retryable,
    /// Succeeded.
    Completed,
    /// Out of attempts, or given up by its worker.
    Discarded,
    /// Stopped by a person or by its worker.
    Cancelled,
}

impl State {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Suspended,
        Self::Scheduled,
        Self::Available,
        Self::Executing,
        Self::Retryable,
        Self::Completed,
        Self::Discarded,
        Self::Cancelled,
    ];

    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspended => "suspended",
            Self::Scheduled => "scheduled",
            Self::Available => "available",
            Self::Executing => "executing",
            Self::Retryable => "retryable",
            Self::Completed => "completed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing happens to the job any more unless somebody retries it.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Discarded | Self::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|state| state.as_str()).collect();
            format!("\"{text}\" is not a job state; there are {}", known.join(", "))
        })
    }
}
