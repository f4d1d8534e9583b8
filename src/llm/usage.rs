//! Tokens in one shape, whichever provider counted them.
//!
//! OpenAI's input count includes what came from the cache, Anthropic's does not; both include reasoning in the output.
//! Here the four input counts never overlap, so each can be multiplied by its own price.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Largest count that is believed; beyond it the whole report is treated as malformed.
pub const TOKENS_MAX: u64 = 1_000_000_000;
/// Bytes a token, where a provider's count is missing.
const BYTES_PER_TOKEN: usize = 4;

/// Which of a provider's price lists a call is billed by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceTier {
    /// The usual one, and every one that is not told.
    #[default]
    Standard,
    /// Answered within a day.
    Batch,
    /// OpenAI: slower, and refused under load.
    Flex,
    /// Before others.
    Priority,
    /// OpenAI: faster hardware.
    Ultrafast,
    /// Something is billed of which no price is known here: another tier, or more than tokens.
    Unpriced,
}

impl ServiceTier {
    /// By the providers' words.
    pub(crate) fn named(word: &Value) -> Self {
        match word {
            Value::Null => Self::Standard,
            Value::String(word) => match word.as_str() {
                "" | "auto" | "default" | "standard" | "standard_only" => Self::Standard,
                "batch" => Self::Batch,
                "flex" => Self::Flex,
                "priority" => Self::Priority,
                "ultrafast" => Self::Ultrafast,
                _ => Self::Unpriced,
            },
            _ => Self::Unpriced,
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    fn is_standard(&self) -> bool {
        *self == Self::Standard
    }
}

/// Tokens of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Input that the provider read afresh.
    pub input_fresh: u64,
    /// Input that came from the provider's cache.
    pub input_cache_read: u64,
    /// Input written to the provider's cache for five minutes.
    pub input_cache_write_5m: u64,
    /// Input written to the provider's cache for an hour.
    pub input_cache_write_1h: u64,
    /// All output, reasoning included.
    pub output: u64,
    /// The part of `output` that was reasoning, as far as it was told.
    pub output_reasoning: u64,
    /// What the call is billed as.
    #[serde(skip_serializing_if = "ServiceTier::is_standard")]
    pub service_tier: ServiceTier,
}

impl Usage {
    /// All input, cached or not.
    pub const fn input_total(&self) -> u64 {
        // A stored report may have been edited; a sum must not panic on it.
        self.input_fresh
            .saturating_add(self.input_cache_read)
            .saturating_add(self.input_cache_write_5m)
            .saturating_add(self.input_cache_write_1h)
    }

    /// Input and output.
    pub const fn total(&self) -> u64 {
        self.input_total().saturating_add(self.output)
    }

    /// A guess from text sizes, four bytes a token, for calls whose count never arrived.
    pub const fn estimate(input_bytes: usize, output_bytes: usize) -> Self {
        Self {
            input_fresh: estimate_tokens(input_bytes),
            input_cache_read: 0,
            input_cache_write_5m: 0,
            input_cache_write_1h: 0,
            output: estimate_tokens(output_bytes),
            output_reasoning: 0,
            service_tier: ServiceTier::Standard,
        }
    }

    /// Reads OpenAI's usage object: chat completions (`prompt_tokens`) or responses (`input_tokens`), where cached and
    /// cache-writing tokens are included in the input. The tier is `service_tier`, which OpenAI reports beside the
    /// usage and the reader of its answers puts into it. `None` when it is no such object or a count is not believable.
    pub fn from_openai(raw: &Value) -> Option<Self> {
        let input = count(raw, &["prompt_tokens", "input_tokens"])??;
        let completion = count(raw, &["completion_tokens", "output_tokens"])?.unwrap_or(0);
        let input_details = first(raw, &["prompt_tokens_details", "input_tokens_details"]);
        let output_details = first(raw, &["completion_tokens_details", "output_tokens_details"]);
        let cached = count(input_details, &["cached_tokens"])?.unwrap_or(0).min(input);
        let written = count(input_details, &["cache_write_tokens"])?.unwrap_or(0).min(input - cached);
        let reasoning = count(output_details, &["reasoning_tokens"])?;
        // Some compatible servers leave reasoning out of the completion count; their total gives it away. Gemini's does
        // not even tell it: of its thoughts nothing but the total knows.
        let beside = count(raw, &["total_tokens"])?.unwrap_or(0).saturating_sub(input + completion);
        let left_out = if reasoning.is_none_or(|reasoning| reasoning == beside) { beside } else { 0 };
        let output = completion + left_out;
        let reasoning = reasoning.unwrap_or(left_out);
        Some(Self {
            input_fresh: input - cached - written,
            input_cache_read: cached,
            input_cache_write_5m: written,
            input_cache_write_1h: 0,
            output,
            output_reasoning: reasoning.min(output),
            service_tier: ServiceTier::named(first(raw, &["service_tier"])),
        })
    }

    /// Reads Anthropic's usage object, where cached tokens are counted beside `input_tokens`. `None` when it is no such
    /// object or a count is not believable.
    pub fn from_anthropic(raw: &Value) -> Option<Self> {
        let input_fresh = count(raw, &["input_tokens"])??;
        let output = count(raw, &["output_tokens"])?.unwrap_or(0);
        let written = count(raw, &["cache_creation_input_tokens"])?.unwrap_or(0);
        let split = first(raw, &["cache_creation"]);
        // What the split does not name was written for five minutes, the default of the API.
        let for_hour = count(split, &["ephemeral_1h_input_tokens"])?.unwrap_or(0);
        let for_minutes = count(split, &["ephemeral_5m_input_tokens"])?.unwrap_or(0);
        let reasoning = count(first(raw, &["output_tokens_details"]), &["thinking_tokens"])?.unwrap_or(0);
        Some(Self {
            input_fresh,
            input_cache_read: count(raw, &["cache_read_input_tokens"])?.unwrap_or(0),
            input_cache_write_5m: for_minutes.max(written.saturating_sub(for_hour)),
            input_cache_write_1h: for_hour,
            output,
            output_reasoning: reasoning.min(output),
            service_tier: anthropic_tier(raw),
        })
    }
}

/// Faster output, inference in one country and searches of the web are billed by other rates than tokens.
fn anthropic_tier(raw: &Value) -> ServiceTier {
    let searches = first(first(raw, &["server_tool_use"]), &["web_search_requests"]);
    let speed = first(raw, &["speed"]).as_str().unwrap_or("standard");
    let geo = first(raw, &["inference_geo"]).as_str().unwrap_or_default();
    if searches.as_u64().unwrap_or(0) > 0 || speed != "standard" || geo.eq_ignore_ascii_case("us") {
        return ServiceTier::Unpriced;
    }
    ServiceTier::named(first(raw, &["service_tier"]))
}

/// Tokens of so many bytes, rounded up.
pub const fn estimate_tokens(bytes: usize) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN) as u64
}

fn first<'a>(raw: &'a Value, names: &[&str]) -> &'a Value {
    names.iter().find_map(|name| raw.get(name)).unwrap_or(&Value::Null)
}

/// `Some(None)` when absent or null, `None` when present and not a believable count.
fn count(raw: &Value, names: &[&str]) -> Option<Option<u64>> {
    match first(raw, names) {
        Value::Null => Some(None),
        value => value.as_u64().filter(|count| *count <= TOKENS_MAX).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn openai_counts_cached_input_inside() {
        let usage = Usage::from_openai(&json!({
            "prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
            "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
            "completion_tokens_details": {"reasoning_tokens": 30}
        }));
        let expected = Usage {
            input_fresh: 300,
            input_cache_read: 600,
            input_cache_write_5m: 100,
            input_cache_write_1h: 0,
            output: 50,
            output_reasoning: 30,
            service_tier: ServiceTier::Standard,
        };
        assert_eq!(usage, Some(expected));
        assert_eq!((expected.input_total(), expected.total()), (1000, 1050));
    }

    #[test]
    fn anthropic_counts_cached_input_beside() {
        let usage = Usage::from_anthropic(&json!({
            "input_tokens": 300, "output_tokens": 50, "cache_read_input_tokens": 600,
            "cache_creation_input_tokens": 100, "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60},
            "output_tokens_details": {"thinking_tokens": 20}
        }))
        .unwrap();
        assert_eq!(usage.input_total(), 1000);
        assert_eq!((usage.input_cache_write_5m, usage.input_cache_write_1h), (40, 60));
        assert_eq!(usage.output_reasoning, 20);
        let unsplit = Usage::from_anthropic(
            &json!({"input_tokens": 1, "cache_creation_input_tokens": 9, "cache_creation": null}),
        );
        assert_eq!(unsplit.unwrap().input_cache_write_5m, 9);
    }

    #[test]
    fn reads_the_responses_shape_and_reasoning_that_was_left_out() {
        let responses = Usage::from_openai(&json!({
            "input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}
        }));
        assert_eq!(responses.unwrap(), Usage { input_fresh: 6, input_cache_read: 4, output: 5, ..Usage::default() });
        let left_out = Usage::from_openai(&json!({
            "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115,
            "completion_tokens_details": {"reasoning_tokens": 100}
        }));
        assert_eq!(left_out.unwrap().output, 105);
    }

    #[test]
    fn does_not_believe_nonsense() {
        for raw in [
            json!(null),
            json!([]),
            json!("12"),
            json!({}),
            json!({"prompt_tokens": -1}),
            json!({"prompt_tokens": "12"}),
            json!({"prompt_tokens": 1.5}),
            json!({"prompt_tokens": 1e12}),
            json!({"prompt_tokens": 1, "completion_tokens": u64::MAX}),
        ] {
            assert_eq!(Usage::from_openai(&raw), None, "{raw}");
        }
        assert_eq!(Usage::from_anthropic(&json!({"input_tokens": 1, "output_tokens": -3})), None);
        let more_cached_than_read = json!({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}});
        assert_eq!(Usage::from_openai(&more_cached_than_read).unwrap().input_total(), 5);
    }

    #[test]
    fn estimates_four_bytes_a_token() {
        assert_eq!(Usage::estimate(0, 0).total(), 0);
        assert_eq!(Usage::estimate(5, 8), Usage { input_fresh: 2, output: 2, ..Usage::default() });
    }
}
