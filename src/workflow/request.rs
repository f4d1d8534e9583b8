//! What an `llm_request` job, or a line of a prompts file, asks for.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::Complexity;
use crate::error::Coded;
use crate::llm::{ChatRequest, Message, RequestError, Role};

/// Longest `id` in characters; the column of request keys holds no more.
pub const REQUEST_ID_CHARS_MAX: usize = 255;

/// One request. As JSON: `prompt` or `messages`; everything else is optional.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlmRequest {
    /// Name of the request: the same id is answered once.
    #[serde(default, alias = "request_id", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A single user message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// A conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Message>>,
    /// A route by name; wins over complexity and task type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Kind of task, for the choice of a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_type: Option<String>,
    /// How demanding it is; wins over the task type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complexity: Option<Complexity>,
    /// A model by name; wins over everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Output limit in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRequest {
    /// Not an object.
    #[error("a request is a JSON object")]
    NoObject,
    /// Not an object of the known fields.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    /// Nothing to ask, or twice.
    #[error("a request has either \"prompt\" or \"messages\"; this one has {0}")]
    PromptOrMessages(&'static str),
    /// Not usable as a key.
    #[error("id {0:?} is not allowed; it has 1 to {REQUEST_ID_CHARS_MAX} characters, none of them a control character")]
    BadId(String),
    /// Breaks a limit of a chat request.
    #[error(transparent)]
    Chat(#[from] RequestError),
}

impl Coded for InvalidRequest {
    fn code(&self) -> &'static str {
        match self {
            Self::NoObject | Self::Shape(_) => "E0601",
            Self::PromptOrMessages(_) => "E0602",
            Self::BadId(_) => "E0603",
            Self::Chat(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoObject | Self::Shape(_) => Some(
                "use the fields prompt or messages, id, task_type, complexity (simple, medium, complex), route, model, \
                 max_tokens, temperature"
                    .into(),
            ),
            Self::PromptOrMessages(_) => Some("give one of them".into()),
            Self::BadId(_) => Some("shorten it, or leave it out".into()),
            Self::Chat(error) => error.hint(),
        }
    }
}

impl LlmRequest {
    /// Reads a request from JSON and checks it.
    ///
    /// # Errors
    /// [`InvalidRequest`], the first problem.
    pub fn parse(value: &Value) -> Result<Self, InvalidRequest> {
        // A derived struct would also be read from an array.
        if !value.is_object() {
            return Err(InvalidRequest::NoObject);
        }
        let request = Self::deserialize(value)?;
        match (&request.prompt, &request.messages) {
            (Some(_), Some(_)) => return Err(InvalidRequest::PromptOrMessages("both")),
            (None, None) => return Err(InvalidRequest::PromptOrMessages("neither")),
            (Some(_), None) | (None, Some(_)) => {}
        }
        if let Some(id) = &request.id
            && (id.is_empty() || id.chars().count() > REQUEST_ID_CHARS_MAX || id.chars().any(char::is_control))
        {
            return Err(InvalidRequest::BadId(id.chars().take(REQUEST_ID_CHARS_MAX).collect()));
        }
        request.chat("key".into()).validate()?;
        Ok(request)
    }

    /// The request in the form that providers are given.
    pub fn chat(&self, idempotency_key: String) -> ChatRequest {
        let prompt = self.prompt.iter().map(|prompt| Message { role: Role::User, content: prompt.clone() });
        ChatRequest {
            messages: self.messages.iter().flatten().cloned().chain(prompt).collect(),
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            idempotency_key: Some(idempotency_key),
        }
    }

    /// SHA-256 of everything but the id, in hexadecimal: two requests with one id must have one fingerprint.
    pub fn fingerprint(&self) -> String {
        let body = Self { id: None, ..self.clone() };
        // Field order is the order of the struct, so equal requests have equal text.
        let text = serde_json::to_string(&body).unwrap_or_default();
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Short form for people: the last user message, cut, and what it asks for.
    pub fn summary(&self, chars_max: usize) -> Value {
        let last = self.messages.iter().flatten().rfind(|message| message.role == Role::User);
        let text = self.prompt.as_deref().or(last.map(|message| message.content.as_str())).unwrap_or_default();
        json!({
            "prompt": text.chars().take(chars_max).collect::<String>(),
            "task_type": self.task_type,
            "complexity": self.complexity,
            "route": self.route,
            "model": self.model,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_prompt_or_a_conversation() {
        let request = LlmRequest::parse(&json!({"prompt": "hi", "request_id": "a"})).unwrap();
        assert_eq!((request.id.as_deref(), request.chat("k".into()).messages.len()), (Some("a"), 1));
        let request = LlmRequest::parse(&json!({"messages": [{"role": "user", "content": "hi"}]})).unwrap();
        assert_eq!(request.summary(1)["prompt"], "h");
    }

    #[test]
    fn says_what_is_wrong() {
        let cases = [
            (json!([]), "E0601"),
            (json!({"prompt": "hi", "promt": 1}), "E0601"),
            (json!({"prompt": "hi", "complexity": "hard"}), "E0601"),
            (json!({}), "E0602"),
            (json!({"prompt": "a", "messages": []}), "E0602"),
            (json!({"prompt": "a", "id": ""}), "E0603"),
            (json!({"prompt": " "}), "E0512"),
            (json!({"prompt": "a", "temperature": 3}), "E0515"),
        ];
        for (value, code) in cases {
            assert_eq!(LlmRequest::parse(&value).unwrap_err().code(), code, "{value}");
        }
    }

    #[test]
    fn the_fingerprint_ignores_the_id_and_nothing_else() {
        let of = |value: Value| LlmRequest::parse(&value).unwrap().fingerprint();
        assert_eq!(of(json!({"prompt": "a", "id": "1"})), of(json!({"id": "2", "prompt": "a"})));
        assert_ne!(of(json!({"prompt": "a"})), of(json!({"prompt": "a", "max_tokens": 5})));
    }
}
