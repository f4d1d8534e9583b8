//! Why there is no answer, and what a job should do about it.
//!
//! The class is what everybody acts on: the breaker, the job, the learner. It says whose trouble it is, not which
//! status came; `classify` makes it from status, headers and body.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::prices::Cost;
use super::usage::Usage;
use crate::error::Coded;

/// Longest wait that is advised; after it the provider is asked again, whatever it announced.
pub const SNOOZE_MAX: Duration = Duration::from_secs(3_600);
/// Shortest wait that is advised: a snooze spends no attempt, so it must not become a busy loop.
pub const SNOOZE_MIN: Duration = Duration::from_secs(1);
/// Wait after a 429 that names none.
const THROTTLED_DEFAULT: Duration = Duration::from_secs(10);
/// Wait after a 529 that names none.
const OVERLOADED_DEFAULT: Duration = Duration::from_secs(15);
/// Share of the wait that is added at random, so that jobs snoozed together do not return together.
const JITTER_SHARE: f64 = 0.25;
/// Least span of that addition.
const JITTER_MIN: Duration = Duration::from_secs(1);

/// Whose trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Network, time-out or an internal error of the provider; the same call may work next time.
    Transient,
    /// The provider has no capacity for anybody.
    Overloaded,
    /// Our rate limit is reached; it refills by itself.
    Throttled,
    /// Our money or a monthly cap is used up; waiting does not help.
    Exhausted,
    /// The request itself is wrong; it would fail again.
    Permanent,
    /// Key, address or model name is wrong.
    Misconfigured,
    /// The model or a content filter declined; not a failure of the provider.
    Refused,
    /// The model answered, and there is nothing in the answer; not a failure of the provider either.
    Empty,
}

impl ErrorClass {
    /// The word that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Overloaded => "overloaded",
            Self::Throttled => "throttled",
            Self::Exhausted => "exhausted",
            Self::Permanent => "permanent",
            Self::Misconfigured => "misconfigured",
            Self::Refused => "refused",
            Self::Empty => "empty",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a call that failed after its first output has used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// Tokens, as far as they were told or can be guessed.
    pub usage: Usage,
    /// The provider did not tell the final count; part of `usage` is text size divided by four.
    pub estimated: bool,
    /// What that costs.
    pub cost: Cost,
    /// Bytes of answer text that had arrived.
    pub text_bytes: usize,
    /// From the request to the first piece of output; `None` when there was none.
    pub time_to_first_token_ms: Option<u64>,
}

/// A call without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LlmError {
    /// Whose trouble it is.
    pub class: ErrorClass,
    /// What happened, in a sentence; never contains a key.
    pub message: String,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// The provider's own word for it.
    pub provider_code: Option<Box<str>>,
    /// How long to wait, as the provider asks or until the breaker lets calls through.
    pub retry_after: Option<Duration>,
    /// What was used up nevertheless.
    pub partial: Option<Box<Partial>>,
    /// Our name of the provider; empty when the model is unknown.
    pub provider: String,
    /// Our name of the model.
    pub model: String,
    /// The provider is a simulated one.
    pub simulated: bool,
    /// Whether the request was sent at all; `false` for bad requests, missing keys and open breakers.
    pub sent: bool,
}

/// What a job should do after a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Fail this attempt; the next one comes after the queue's backoff.
    Retry,
    /// Come back after this long without spending the attempt.
    Snooze(Duration),
    /// Give up; trying again costs and cannot help.
    Cancel,
}

impl LlmError {
    /// What the job should do. `jitter` is a random number from 0 to 1; a number outside counts as the nearer end.
    ///
    /// Waiting belongs to the queue: a snoozed job holds no slot and spends no attempt.
    pub fn advice(&self, jitter: f64) -> Advice {
        match self.class {
            // What a model says is chance, also how long it thinks before it says something.
            ErrorClass::Transient | ErrorClass::Empty => Advice::Retry,
            ErrorClass::Overloaded => Advice::Snooze(snooze(self.retry_after.unwrap_or(OVERLOADED_DEFAULT), jitter)),
            ErrorClass::Throttled => Advice::Snooze(snooze(self.retry_after.unwrap_or(THROTTLED_DEFAULT), jitter)),
            ErrorClass::Exhausted | ErrorClass::Permanent | ErrorClass::Misconfigured | ErrorClass::Refused => {
                Advice::Cancel
            }
        }
    }
}

/// Never shorter than asked for, unless the cap cuts it.
fn snooze(asked: Duration, jitter: f64) -> Duration {
    let asked = asked.clamp(SNOOZE_MIN, SNOOZE_MAX);
    let jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) };
    let span = asked.mul_f64(JITTER_SHARE).max(JITTER_MIN);
    asked + span.mul_f64(jitter)
}

impl fmt::Display for LlmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.provider.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: model {} of provider {}: {}", self.class, self.model, self.provider, self.message)
    }
}

impl std::error::Error for LlmError {}

impl Coded for LlmError {
    fn code(&self) -> &'static str {
        match self.class {
            ErrorClass::Transient => "E0501",
            ErrorClass::Overloaded => "E0502",
            ErrorClass::Throttled => "E0503",
            ErrorClass::Exhausted => "E0504",
            ErrorClass::Permanent => "E0505",
            ErrorClass::Misconfigured => "E0506",
            ErrorClass::Refused => "E0507",
            ErrorClass::Empty => "E0508",
        }
    }

    fn hint(&self) -> Option<String> {
        let provider = &self.provider;
        match self.class {
            ErrorClass::Transient | ErrorClass::Overloaded | ErrorClass::Throttled => None,
            ErrorClass::Exhausted => Some(format!("raise the spending limit or the balance of provider {provider}")),
            ErrorClass::Permanent => Some("change the request; it would fail again".to_owned()),
            ErrorClass::Misconfigured if provider.is_empty() => Some("name a model of [models]".to_owned()),
            ErrorClass::Misconfigured => Some(format!(
                "check api_key and base_url of [providers.{provider}] and the name of [models.{}]",
                self.model
            )),
            ErrorClass::Refused => Some("rephrase the request or ask another model".to_owned()),
            ErrorClass::Empty => Some(format!(
                "raise max_tokens of the request or of [models.{}], where reasoning counts too, or ask another model",
                self.model
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(class: ErrorClass, retry_after: Option<u64>) -> LlmError {
        LlmError {
            class,
            message: "m".into(),
            status: None,
            provider_code: None,
            retry_after: retry_after.map(Duration::from_secs),
            partial: None,
            provider: "p".into(),
            model: "m".into(),
            simulated: false,
            sent: true,
        }
    }

    #[test]
    fn each_class_has_its_advice() {
        use ErrorClass::{Empty, Exhausted, Misconfigured, Overloaded, Permanent, Refused, Throttled, Transient};
        for class in [Transient, Empty] {
            assert_eq!(error(class, Some(3)).advice(0.5), Advice::Retry, "{class}");
        }
        assert_eq!(error(Throttled, Some(7)).advice(0.0), Advice::Snooze(Duration::from_secs(7)));
        assert_eq!(error(Overloaded, None).advice(0.0), Advice::Snooze(OVERLOADED_DEFAULT));
        for class in [Exhausted, Misconfigured, Permanent, Refused] {
            assert_eq!(error(class, Some(1)).advice(0.5), Advice::Cancel, "{class}");
        }
    }

    #[test]
    fn a_snooze_is_jittered_bounded_and_never_too_short() {
        let advice = |secs, jitter| match error(ErrorClass::Throttled, Some(secs)).advice(jitter) {
            Advice::Snooze(wait) => wait,
            other => panic!("{other:?}"),
        };
        assert_eq!(advice(100, 1.0), Duration::from_secs(125));
        assert_eq!(advice(1, 1.0), Duration::from_secs(2));
        assert_eq!(advice(0, 0.0), SNOOZE_MIN);
        assert_eq!(advice(u64::MAX, 0.0), SNOOZE_MAX);
        assert_eq!(advice(10, f64::NAN), Duration::from_secs(10));
        assert_eq!(advice(10, -5.0), Duration::from_secs(10));
    }

    #[test]
    fn codes_are_distinct_and_the_error_survives_storage() {
        use ErrorClass::{Empty, Exhausted, Misconfigured, Overloaded, Permanent, Refused, Throttled, Transient};
        let classes = [Transient, Overloaded, Throttled, Exhausted, Permanent, Misconfigured, Refused, Empty];
        let codes: std::collections::BTreeSet<_> = classes.iter().map(|class| error(*class, None).code()).collect();
        assert_eq!(codes.len(), classes.len());
        let stored = serde_json::to_value(error(Throttled, Some(3))).unwrap();
        assert_eq!(stored["class"], "throttled");
        assert_eq!(serde_json::from_value::<LlmError>(stored).unwrap(), error(Throttled, Some(3)));
    }
}
