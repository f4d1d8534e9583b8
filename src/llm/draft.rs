//! An answer while it arrives, filled by either wire format. Pure.

use serde_json::Value;

use super::answer::FinishReason;
use super::classify::ErrorBody;
use super::text::{storable, tidy};
use super::usage::{ServiceTier, Usage, estimate_tokens};

/// Largest answer text. The longest output limit on the market, 128,000 tokens, is about 600 KB of text.
pub(crate) const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What has arrived so far.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) text: String,
    /// The model's words for declining, which OpenAI sends beside the text.
    pub(crate) refusal: String,
    /// Bytes of output that is not part of the answer, such as reasoning.
    pub(crate) hidden_bytes: usize,
    pub(crate) finish_reason: Option<FinishReason>,
    pub(crate) usage: Option<Usage>,
    pub(crate) raw_usage: Value,
    /// OpenAI's word for the tier that served the call, which comes before the usage.
    pub(crate) service_tier: Value,
    pub(crate) model: Option<String>,
    pub(crate) id: Option<String>,
    /// A part of an answer has been understood: from here on the call is billed.
    pub(crate) begun: bool,
    /// The format's end mark has come.
    pub(crate) done: bool,
}

/// Why a draft cannot become an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not the format.
    Malformed(String),
    /// More text than is accepted.
    TooLarge,
    /// The provider says that it failed.
    Reported(ErrorBody),
}

impl Draft {
    pub(crate) fn push_text(&mut self, piece: &str) -> Result<(), Fault> {
        if self.text.len() + piece.len() > TEXT_BYTES_MAX {
            return Err(Fault::TooLarge);
        }
        self.text.push_str(&storable(piece));
        Ok(())
    }

    pub(crate) fn push_refusal(&mut self, piece: &str) {
        if self.refusal.len() + piece.len() <= TEXT_BYTES_MAX {
            self.refusal.push_str(&storable(piece));
        }
    }

    /// Keeps the first name that came.
    pub(crate) fn identify(&mut self, value: &Value) {
        let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(tidy);
        self.model = self.model.take().or_else(|| text("model"));
        self.id = self.id.take().or_else(|| text("id"));
    }

    /// Any output has come, shown or not.
    pub(crate) fn has_output(&self) -> bool {
        !self.text.is_empty() || !self.refusal.is_empty() || self.hidden_bytes > 0
    }

    /// Nothing more is needed: a connection that breaks now costs at most the usage report.
    pub(crate) fn is_complete(&self) -> bool {
        self.done || self.finish_reason.is_some()
    }

    /// The usage to record, and whether it is a guess. What was told of an answer that broke off is a lower bound.
    pub(crate) fn usage_or_estimate(&self, input_bytes: usize) -> (Usage, bool) {
        let output_bytes = self.text.len() + self.refusal.len() + self.hidden_bytes;
        match self.usage {
            Some(usage) if self.is_complete() => (usage, false),
            Some(usage) => (Usage { output: usage.output.max(estimate_tokens(output_bytes)), ..usage }, true),
            None => {
                let service_tier = ServiceTier::named(&self.service_tier);
                (Usage { service_tier, ..Usage::estimate(input_bytes, output_bytes) }, true)
            }
        }
    }
}

/// Text of a content that is a string or a list of parts with a `text` each.
pub(crate) fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => String::new(),
    }
}
