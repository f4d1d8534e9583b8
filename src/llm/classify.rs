//! Status, headers and body of a failed call → class of the error. Pure; the clock is an argument.
//!
//! One function serves both wire formats, because their words do not collide. Order of precedence: what concerns our
//! money or the content (wherever it is said), then the status, then the body's word, then `x-should-retry`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::error::ErrorClass;
use super::text::{excerpt, tidy};

/// Longest announced wait that is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Codes that mean that the account has no money or no quota left. OpenAI sends the first three with a 429, which its
/// own clients would retry; the others are those of compatible providers.
const EXHAUSTED: [&str; 6] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "billing_error",
    "insufficient_balance",
    "exceeded_current_quota_error",
];
/// Anthropic's word in `error.details.error_code`; final only where no `retry-after` says when the limit ends.
const SPEND_LIMIT: &str = "enforced_spend_limit_reached";
/// Anthropic reports an empty balance as a 400 `invalid_request_error` that differs from others by its text alone.
const EMPTY_BALANCE: &str = "credit balance is too low";
/// OpenAI's and Groq's beginning of a 429 that no waiting cures: the request alone, with its output limit, has more
/// tokens than the account may use in a minute.
const TOO_LARGE: &str = "Request too large";
const REFUSED: [&str; 2] = ["content_filter", "content_policy_violation"];
const MISCONFIGURED: [&str; 5] =
    ["authentication_error", "permission_error", "not_found_error", "invalid_api_key", "model_not_found"];
const PERMANENT: [&str; 3] = ["invalid_request_error", "request_too_large", "context_length_exceeded"];
const THROTTLED: [&str; 2] = ["rate_limit_error", "rate_limit_exceeded"];

/// What an error body says, in either format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    /// `error.type`.
    pub(crate) kind: String,
    /// `error.code` or `error.details.error_code`.
    pub(crate) code: String,
    /// `error.message`, or the beginning of a body that is no JSON.
    pub(crate) message: String,
    /// A moderation found something in the prompt: OpenRouter's `error.metadata`.
    pub(crate) flagged: bool,
    /// A status that was written into the body, as some compatible servers do in a stream.
    pub(crate) status: Option<u16>,
    /// Google's `error.details[].retryDelay`, which it has in the place of a header.
    pub(crate) retry_delay: Option<Duration>,
}

/// What the headers say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) retry_after: Option<Duration>,
    pub(crate) should_retry: Option<bool>,
    pub(crate) request_id: Option<String>,
}

impl ErrorBody {
    /// Reads what can be read; the rest stays empty.
    pub(crate) fn parse(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(value) => Self::from_json(&value),
            Err(_) => Self { message: excerpt(body), ..Self::default() },
        }
    }

    pub(crate) fn from_json(value: &Value) -> Self {
        // Google's compatible endpoint wraps the object into an array of one.
        let value = value.get(0).unwrap_or(value);
        let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(tidy).unwrap_or_default();
        let code = error.get("code");
        let details = error.get("details").and_then(|details| details.get("error_code"));
        let metadata = error.get("metadata");
        let flagged = ["reasons", "flagged_input"];
        Self {
            flagged: metadata.is_some_and(|it| flagged.iter().any(|key| it.get(key).is_some_and(|it| !it.is_null()))),
            kind: text(error.get("type")),
            code: text(details.or(code)),
            message: error.as_str().map_or_else(|| text(error.get("message")), tidy),
            status: code
                .and_then(Value::as_u64)
                .and_then(|code| u16::try_from(code).ok())
                .filter(|c| (400..600).contains(c)),
            retry_delay: error.get("details").and_then(Value::as_array).and_then(|details| {
                let told = details.iter().find_map(|detail| go_duration(detail.get("retryDelay")?.as_str()?));
                told.map(|wait| wait.min(RETRY_AFTER_MAX))
            }),
        }
    }

    /// The most exact word.
    pub(crate) fn word(&self) -> Option<&str> {
        [&self.code, &self.kind].into_iter().map(String::as_str).find(|word| !word.is_empty())
    }

    fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.code == *word || self.kind == *word)
    }
}

impl Hints {
    /// Reads `retry-after-ms`, then `retry-after` as seconds, then as an HTTP date (the order of the official clients),
    /// then OpenAI's reset of a limit that has nothing remaining.
    pub(crate) fn read(headers: &HeaderMap, now: DateTime<Utc>) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let millis = text("retry-after-ms").and_then(|value| seconds(value, 0.001));
        let after = || text("retry-after").and_then(|value| seconds(value, 1.0).or_else(|| until(value, now)));
        let reset = || {
            let of = |limit: &str| {
                let remaining = text(&format!("x-ratelimit-remaining-{limit}"))?;
                (remaining == "0").then(|| text(&format!("x-ratelimit-reset-{limit}"))).flatten().and_then(go_duration)
            };
            of("requests").max(of("tokens"))
        };
        Self {
            retry_after: millis.or_else(after).or_else(reset).map(|wait| wait.min(RETRY_AFTER_MAX)),
            should_retry: text("x-should-retry").and_then(|value| value.parse().ok()),
            request_id: text("x-request-id").or_else(|| text("request-id")).map(tidy),
        }
    }
}

/// The class of a failed call. `status` is that of the answer, or `None` for an error inside a stream.
pub(crate) fn classify(status: Option<u16>, hints: &Hints, body: &ErrorBody) -> ErrorClass {
    let capped = body.code == SPEND_LIMIT && hints.retry_after.is_none();
    if capped || body.says(&EXHAUSTED) || body.message.contains(EMPTY_BALANCE) {
        return ErrorClass::Exhausted;
    }
    if body.says(&REFUSED) || body.flagged {
        return ErrorClass::Refused;
    }
    if body.says(&THROTTLED) && body.message.starts_with(TOO_LARGE) {
        return ErrorClass::Permanent;
    }
    let class = match status.or(body.status) {
        Some(402) => ErrorClass::Exhausted,
        // A redirect or a page that is not there: the address is wrong.
        Some(300..=399 | 401 | 403..=405) => ErrorClass::Misconfigured,
        Some(408 | 409 | 425) => ErrorClass::Transient,
        Some(429) => ErrorClass::Throttled,
        Some(529) => ErrorClass::Overloaded,
        Some(400..=499) if body.says(&MISCONFIGURED) => ErrorClass::Misconfigured,
        Some(400..=499) => ErrorClass::Permanent,
        _ => by_word(body),
    };
    match (class, hints.should_retry) {
        (ErrorClass::Transient, Some(false)) => ErrorClass::Permanent,
        (ErrorClass::Permanent, Some(true)) => ErrorClass::Transient,
        _ => class,
    }
}

/// For errors inside a stream and for statuses of 500 and above, of which only an explicit word says more.
fn by_word(body: &ErrorBody) -> ErrorClass {
    if body.says(&["overloaded_error"]) {
        ErrorClass::Overloaded
    } else if body.says(&THROTTLED) {
        ErrorClass::Throttled
    } else if body.says(&MISCONFIGURED) {
        ErrorClass::Misconfigured
    } else if body.says(&PERMANENT) {
        ErrorClass::Permanent
    } else {
        ErrorClass::Transient
    }
}

fn seconds(text: &str, unit: f64) -> Option<Duration> {
    let amount: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(amount * unit).ok()
}

fn until(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some(date.signed_duration_since(now).to_std().unwrap_or_default())
}

/// `6m0s`, `1.5s`, `20ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |length| digits + length);
        let scale = match &rest[digits..unit] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        sum = sum.checked_add(seconds(&rest[..digits], scale)?)?;
        rest = &rest[unit..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests;
