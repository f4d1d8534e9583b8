//! What a model answered, with everything that is recorded about it.
//!
//! An answer is the checkpoint of a paid step, so it must read back exactly as it was written.

use serde::{Deserialize, Serialize};

use super::prices::Cost;
use super::usage::Usage;

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum FinishReason {
    /// It was done, or met a stop sequence.
    Stop,
    /// The output limit or the context was full; the text is cut.
    Length,
    /// It wants tools to be run.
    ToolCalls,
    /// It or a filter declined. The gateway turns this into a refused error.
    ContentFilter,
    /// A reason that is not known here, as the provider wrote it. The gateway turns those that say that the answer
    /// broke off into a transient error.
    Other(String),
}

impl From<String> for FinishReason {
    fn from(text: String) -> Self {
        match text.as_str() {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "tool_calls" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            _ => Self::Other(text),
        }
    }
}

impl From<FinishReason> for String {
    fn from(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Stop => "stop".to_owned(),
            FinishReason::Length => "length".to_owned(),
            FinishReason::ToolCalls => "tool_calls".to_owned(),
            FinishReason::ContentFilter => "content_filter".to_owned(),
            FinishReason::Other(text) => text,
        }
    }
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What the model wrote: not blank, unless it wants tools to be run; free of U+0000, which PostgreSQL cannot store.
    pub text: String,
    /// Why it stopped.
    pub finish_reason: FinishReason,
    /// Tokens in our shape.
    pub usage: Usage,
    /// The provider reported no usage; `usage` is text size divided by four.
    #[serde(default)]
    pub usage_estimated: bool,
    /// The provider's usage object as it came; null when there was none.
    pub raw_usage: serde_json::Value,
    /// Our name of the model.
    pub model: String,
    /// The provider's name of the model that answered.
    pub model_reported: Option<String>,
    /// Our name of the provider.
    pub provider: String,
    /// For questions to the provider's support.
    pub provider_request_id: Option<String>,
    /// From the request to the first piece of output, reasoning included.
    pub time_to_first_token_ms: u64,
    /// From the request to the end of the answer, a retried connection included.
    pub duration_ms: u64,
    /// Made up by a simulated provider; must be shown wherever the answer is.
    pub simulated: bool,
    /// It was kept from an earlier call with the same request, and nobody was asked.
    #[serde(default)]
    pub cached: bool,
    /// What it cost.
    pub cost: Cost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_as_it_was_written() {
        for reason in ["stop", "length", "tool_calls", "content_filter", "pause_turn"] {
            let answer = Answer {
                text: "Grüße \u{1F980}".into(),
                finish_reason: FinishReason::from(reason.to_owned()),
                usage: Usage { input_fresh: 3, output: 4, ..Usage::default() },
                usage_estimated: false,
                raw_usage: serde_json::json!({"prompt_tokens": 3, "nested": {"x": [1.5, null]}}),
                model: "sonnet".into(),
                model_reported: Some("claude-sonnet-5-5".into()),
                provider: "anthropic".into(),
                provider_request_id: None,
                time_to_first_token_ms: 12,
                duration_ms: 345,
                simulated: false,
                cached: false,
                cost: Cost { nanousd: Some(46_000), prices_version: "2026-11-23".into() },
            };
            let stored = serde_json::to_string(&answer).unwrap();
            assert!(stored.contains(&format!(r#""finish_reason":"{reason}""#)), "{stored}");
            assert_eq!(serde_json::from_str::<Answer>(&stored).unwrap(), answer);
        }
    }
}
