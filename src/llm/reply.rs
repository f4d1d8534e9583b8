//! What a provider hands to the gateway: a reply or a failure, before names and prices are known.

use std::time::Duration;

use serde_json::Value;

use super::answer::FinishReason;
use super::error::ErrorClass;
use super::usage::Usage;

/// A complete answer without price.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) finish_reason: FinishReason,
    pub(crate) usage: Usage,
    pub(crate) usage_estimated: bool,
    pub(crate) raw_usage: Value,
    pub(crate) model_reported: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) time_to_first_token_ms: u64,
    pub(crate) duration_ms: u64,
}

/// What a failed call has used up, without price.
#[derive(Debug)]
pub(crate) struct Spent {
    pub(crate) usage: Usage,
    pub(crate) estimated: bool,
    pub(crate) text_bytes: usize,
    pub(crate) time_to_first_token_ms: Option<u64>,
}

/// A call without an answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) class: ErrorClass,
    pub(crate) message: String,
    pub(crate) status: Option<u16>,
    pub(crate) provider_code: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    /// Boxed, because it is rare and large.
    pub(crate) spent: Option<Box<Spent>>,
    pub(crate) sent: bool,
    /// The connection was lost before anything of an answer was seen, so one more try right away is worth it.
    pub(crate) lost: bool,
}

impl Failure {
    /// A failure that is known by its class and text alone.
    pub(crate) fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            status: None,
            provider_code: None,
            retry_after: None,
            spent: None,
            sent: true,
            lost: false,
        }
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
