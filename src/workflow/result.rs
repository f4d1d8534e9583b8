//! A row of `job_results`: what a job cost and what came out.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a workflow says about one attempt. The first success of a job counts; a failure is kept per attempt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobResult {
    /// Key of the request, where it has one.
    pub request_id: Option<String>,
    /// Whether it worked.
    pub success: bool,
    /// Why not.
    pub error_reason: Option<String>,
    /// Cost; `None` where no price is known.
    pub cost_nanousd: Option<i64>,
    /// Price table that the cost was computed with.
    pub prices_version: Option<String>,
    /// Who served the model.
    pub provider: Option<String>,
    /// Model, by its name here.
    pub model_used: Option<String>,
    /// What was asked for; `None` where the request named its model.
    pub route: Option<String>,
    /// The learning whose rule chose the model.
    pub policy_version: Option<i64>,
    /// Probability with which the model was chosen; `None` where it was not chosen but is that of a fallback.
    pub propensity: Option<f64>,
    /// Chains of agents that worked, such as `classifier>decomposition>coder`.
    pub patterns: Vec<String>,
    /// Whether the answer was made up.
    pub simulated: bool,
    /// Tokens in, cached ones included.
    pub tokens_input: Option<i64>,
    /// Tokens out.
    pub tokens_output: Option<i64>,
    /// Time from the request to the first token.
    pub time_to_first_token_ms: Option<i64>,
    /// How long the call took that this is about: not the calls before it, nor what was waited for. It is the row's
    /// `duration_ms`, which is from claim to result where this is `None`.
    pub call_ms: Option<i64>,
    /// The provider's own usage object.
    pub usage: Option<Value>,
    /// Short form of the input, for people.
    pub input_summary: Value,
    /// Short form of the result, for people.
    pub result_summary: Value,
    /// The whole result, for whoever asks again.
    pub result: Option<Value>,
    /// What the attempt says about its model; `None` where no model was asked.
    pub outcome: Option<Attempted>,
    /// Number of the call within the attempt, where that called several models.
    pub hop: i32,
}

/// What an attempt says about its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempted {
    /// It answered.
    Success,
    /// It answered, and the answer is empty, cut or cannot be used; a cut one completes its job nevertheless. Or it
    /// found the request wrong, which another model then answered; or it has a fault that stays.
    Failure,
    /// It declined.
    Refused,
    /// Nothing: its endpoint, our account or the way to it was in trouble.
    Infrastructure,
    /// Nothing: the request was wrong, as far as is known.
    Invalid,
    /// Nothing: an answer that was kept served the request.
    Cached,
}

impl Attempted {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Failure, Self::Refused, Self::Infrastructure, Self::Invalid, Self::Cached];

    /// From the column; a row whose worker did not say is judged by its success.
    pub fn of_column(outcome: Option<&str>, success: bool) -> Self {
        let said = outcome.and_then(|outcome| outcome.parse().ok());
        said.unwrap_or(if success { Self::Success } else { Self::Failure })
    }

    /// Whether it says how good the model is.
    pub fn is_quality(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Refused)
    }

    /// Whether its cost and its time are the model's.
    pub fn is_spent(self) -> bool {
        self.is_quality() || self == Self::Infrastructure
    }

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Refused => "refused",
            Self::Infrastructure => "infrastructure",
            Self::Invalid => "invalid",
            Self::Cached => "cached",
        }
    }
}

impl FromStr for Attempted {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, UnknownOutcome> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or(UnknownOutcome)
    }
}

/// A text that says nothing about a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no outcome of an attempt")]
pub struct UnknownOutcome;

/// A stored row, as listings and callers read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredResult {
    /// The job.
    pub job_id: i64,
    /// Attempt that this row is about.
    pub attempt: i32,
    /// Key of the request.
    pub request_id: Option<String>,
    /// Instance that did it.
    pub instance_id: String,
    /// Whether it worked.
    pub success: bool,
    /// Why not.
    pub error_reason: Option<String>,
    /// How long the call took where it is about one, else from claim to result.
    pub duration_ms: i64,
    /// When.
    pub completed_at: DateTime<Utc>,
    /// Cost; `None` where no price is known.
    pub cost_nanousd: Option<i64>,
    /// Who served the model.
    pub provider: Option<String>,
    /// Model.
    pub model_used: Option<String>,
    /// What was asked for; `None` where the request named its model.
    pub route: Option<String>,
    /// The learning whose rule chose the model.
    pub policy_version: Option<i64>,
    /// Probability with which the model was chosen.
    pub propensity: Option<f64>,
    /// Whether the answer was made up.
    pub simulated: bool,
    /// Tokens in.
    pub tokens_input: Option<i64>,
    /// Tokens out.
    pub tokens_output: Option<i64>,
    /// Time to the first token.
    pub time_to_first_token_ms: Option<i64>,
    /// The whole result.
    pub result: Option<Value>,
}
