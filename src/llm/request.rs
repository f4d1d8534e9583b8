//! What is asked of a model, in no provider's format.
//!
//! A request is stored as job arguments and read back later, possibly by a newer build, so every field but the messages
//! is optional and the limits are checked again before each call.

use serde::{Deserialize, Serialize};

use crate::error::Coded;

/// Messages in one request.
pub const MESSAGES_MAX: usize = 2_000;
/// Bytes of all messages together: the largest context on the market, a million tokens, at four bytes a token.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest `max_tokens`; eight times what any known model gives.
pub const OUTPUT_TOKENS_MAX: u32 = 1_000_000;
/// Longest idempotency key, in bytes; it travels as a header.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions of the application.
    System,
    /// The person or program that asks.
    User,
    /// The model, in earlier turns.
    Assistant,
}

impl Role {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; not blank.
    pub content: String,
}

/// A request for one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatRequest {
    /// The conversation, oldest first; at least one message that is not a system message.
    pub messages: Vec<Message>,
    /// Output limit in tokens, 1 to [`OUTPUT_TOKENS_MAX`]; the model's own setting when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// 0 to 2; the provider's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Sent as `Idempotency-Key`, so that a provider that knows the header answers a repeated call from its memory.
    /// Visible ASCII of at most [`IDEMPOTENCY_KEY_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// Why a request is not sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// There is nobody to answer.
    #[error("the request has no user or assistant message")]
    NoMessages,
    /// A conversation that is too long to handle.
    #[error("the request has {found} messages; at most {MESSAGES_MAX} are allowed")]
    TooManyMessages {
        /// How many.
        found: usize,
    },
    /// Providers refuse empty turns, each with another message.
    #[error("message {position} ({role}) is blank")]
    BlankMessage {
        /// Index from 0.
        position: usize,
        /// Its role.
        role: &'static str,
    },
    /// More text than any model reads.
    #[error("the messages have {found} bytes together; at most {MESSAGE_BYTES_MAX} are allowed")]
    TooManyBytes {
        /// How many.
        found: usize,
    },
    /// `max_tokens` out of range.
    #[error("max_tokens is {found}; 1 to {OUTPUT_TOKENS_MAX} are allowed")]
    MaxTokens {
        /// The value.
        found: u32,
    },
    /// `temperature` out of range.
    #[error("temperature is {found}; 0 to 2 are allowed")]
    Temperature {
        /// The value.
        found: f64,
    },
    /// A key that cannot travel as a header.
    #[error(
        "idempotency_key is {found:?}; 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters without blanks are allowed"
    )]
    IdempotencyKey {
        /// The value, cut where it is too long.
        found: String,
    },
}

impl Coded for RequestError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoMessages => "E0510",
            Self::TooManyMessages { .. } => "E0511",
            Self::BlankMessage { .. } => "E0512",
            Self::TooManyBytes { .. } => "E0513",
            Self::MaxTokens { .. } => "E0514",
            Self::Temperature { .. } => "E0515",
            Self::IdempotencyKey { .. } => "E0516",
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoMessages => "add a message with the role user",
            Self::TooManyMessages { .. } | Self::TooManyBytes { .. } => "summarise or drop the oldest messages",
            Self::BlankMessage { .. } => "remove the message or give it content",
            Self::MaxTokens { .. } => "leave max_tokens out to use the model's setting",
            Self::Temperature { .. } => "leave temperature out to use the provider's default",
            Self::IdempotencyKey { .. } => "use an identifier such as the job's id",
        };
        Some(text.to_owned())
    }
}

impl ChatRequest {
    /// A request with one user message.
    pub fn prompt(content: impl Into<String>) -> Self {
        Self {
            messages: vec![Message { role: Role::User, content: content.into() }],
            max_tokens: None,
            temperature: None,
            idempotency_key: None,
        }
    }

    /// Bytes of all messages together.
    pub fn message_bytes(&self) -> usize {
        self.messages.iter().map(|message| message.content.len()).sum()
    }

    /// Checks every limit of this module.
    ///
    /// # Errors
    /// The first one that is broken.
    pub fn validate(&self) -> Result<(), RequestError> {
        if self.messages.iter().all(|message| message.role == Role::System) {
            return Err(RequestError::NoMessages);
        }
        if self.messages.len() > MESSAGES_MAX {
            return Err(RequestError::TooManyMessages { found: self.messages.len() });
        }
        let blank = self.messages.iter().enumerate().find(|(_, message)| message.content.trim().is_empty());
        if let Some((position, message)) = blank {
            return Err(RequestError::BlankMessage { position, role: message.role.as_str() });
        }
        let bytes = self.message_bytes();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(RequestError::TooManyBytes { found: bytes });
        }
        if let Some(found) = self.max_tokens.filter(|found| !(1..=OUTPUT_TOKENS_MAX).contains(found)) {
            return Err(RequestError::MaxTokens { found });
        }
        if let Some(found) = self.temperature.filter(|found| !(0.0..=2.0).contains(found)) {
            return Err(RequestError::Temperature { found });
        }
        if let Some(key) = &self.idempotency_key
            && (key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX || !key.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(RequestError::IdempotencyKey { found: key.chars().take(40).collect() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut ChatRequest)) -> Result<(), RequestError> {
        let mut request = ChatRequest::prompt("hello");
        change(&mut request);
        request.validate()
    }

    #[test]
    fn accepts_the_plain_case_and_the_edges() {
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|r| r.max_tokens = Some(OUTPUT_TOKENS_MAX)), Ok(()));
        assert_eq!(with(|r| r.temperature = Some(2.0)), Ok(()));
        assert_eq!(with(|r| r.idempotency_key = Some("job-4711".into())), Ok(()));
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(with(|r| r.messages.clear()), Err(RequestError::NoMessages));
        assert_eq!(with(|r| r.messages[0].role = Role::System), Err(RequestError::NoMessages));
        let blank = with(|r| r.messages[0].content = " \n".into());
        assert_eq!(blank, Err(RequestError::BlankMessage { position: 0, role: "user" }));
        assert!(matches!(
            with(|r| r.messages[0].content = "x".repeat(MESSAGE_BYTES_MAX + 1)),
            Err(RequestError::TooManyBytes { .. })
        ));
        assert!(matches!(
            with(|r| r.messages = vec![r.messages[0].clone(); MESSAGES_MAX + 1]),
            Err(RequestError::TooManyMessages { .. })
        ));
        assert_eq!(with(|r| r.max_tokens = Some(0)), Err(RequestError::MaxTokens { found: 0 }));
        for bad in [-0.1, 2.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(with(|r| r.temperature = Some(bad)), Err(RequestError::Temperature { .. })), "{bad}");
        }
        for bad in ["", "a b", "ä", "a\r\nb", &"k".repeat(256)] {
            let refused = with(|r| r.idempotency_key = Some(bad.to_owned()));
            assert!(matches!(refused, Err(RequestError::IdempotencyKey { .. })), "{bad:?}");
        }
    }

    #[test]
    fn survives_storage() {
        let request: ChatRequest =
            serde_json::from_str(r#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":5}"#).unwrap();
        let again: ChatRequest = serde_json::from_value(serde_json::to_value(&request).unwrap()).unwrap();
        assert_eq!(request, again);
        assert!(serde_json::from_str::<ChatRequest>(r#"{"messages":[],"maxtokens":5}"#).is_err());
    }
}
