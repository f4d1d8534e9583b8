//! What jobs of `agent_coordination` and `agent_task` ask for.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::Expect;
use crate::error::Coded;

/// Bytes of a task.
pub const TASK_BYTES_MAX: usize = 200_000;
/// Bytes of what an agent is told: a task, and the results that it waited for.
pub const PROMPT_BYTES_MAX: usize = 1_000_000;
/// Longest `id` in characters.
pub const TASK_ID_CHARS_MAX: usize = 255;

/// Whether a task is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decompose {
    /// A classifier decides; a task that names its capability or its agent is not.
    #[default]
    Auto,
    /// It is.
    Always,
    /// It is not.
    Never,
}

/// A job of `agent_coordination`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinationRequest {
    /// Name of the request, for whoever looks for its result.
    #[serde(default, alias = "request_id", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What is to be done.
    pub task: String,
    /// What an agent must be able to do for it. Without it, and without `agent`, a classifier is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// The agent that does it, whatever the registry would choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Whether it is taken apart.
    #[serde(default)]
    pub decompose: Decompose,
}

/// A job of `agent_task`: one agent, one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentTask {
    /// Name of the request, for whoever looks for its result.
    #[serde(default, alias = "request_id", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The agent, one of `[agents]`.
    pub agent: String,
    /// What it is told.
    pub prompt: String,
    /// What it must answer. Default: any text.
    #[serde(default)]
    pub expect: Expect,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTask {
    /// Not an object.
    #[error("a task for agents is a JSON object")]
    NoObject,
    /// Not an object of the known fields.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    /// Nothing to do, or too much.
    #[error("{field} has {bytes} bytes; 1 to {max} are allowed, not all blank")]
    Size {
        /// Which field.
        field: &'static str,
        /// Its size.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not usable as a name.
    #[error("id {0:?} is not allowed; it has 1 to {TASK_ID_CHARS_MAX} characters, none of them a control character")]
    BadId(String),
    /// Two wishes that exclude each other.
    #[error("a task cannot have {0}")]
    Contradiction(&'static str),
}

impl Coded for InvalidTask {
    fn code(&self) -> &'static str {
        match self {
            Self::NoObject | Self::Shape(_) => "E0661",
            Self::Size { .. } | Self::BadId(_) => "E0662",
            Self::Contradiction(_) => "E0663",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoObject | Self::Shape(_) => {
                "agent_coordination has the fields task, capability or agent, decompose (auto, always, never), id; \
                 agent_task has agent, prompt, expect, id"
                    .into()
            }
            Self::Size { .. } => "write what is to be done, and leave out what is not needed for it".into(),
            Self::BadId(_) => "shorten it, or leave it out".into(),
            Self::Contradiction(_) => "leave one of both out".into(),
        })
    }
}

impl CoordinationRequest {
    /// Reads a request from JSON and checks it.
    ///
    /// # Errors
    /// [`InvalidTask`], the first problem.
    pub fn parse(value: &Value) -> Result<Self, InvalidTask> {
        let request: Self = object(value)?;
        check_text("task", &request.task, TASK_BYTES_MAX)?;
        check_id(request.id.as_deref())?;
        match (&request.agent, &request.capability, request.decompose) {
            (Some(_), Some(_), _) => Err(InvalidTask::Contradiction("an agent and a capability")),
            (Some(_), _, Decompose::Always) => Err(InvalidTask::Contradiction("one agent and be taken apart")),
            (_, Some(_), Decompose::Always) => {
                Err(InvalidTask::Contradiction("one capability and be taken apart: each subtask gets its own"))
            }
            _ => Ok(request),
        }
    }

    /// Short form for people.
    pub fn summary(&self, chars_max: usize) -> Value {
        json!({
            "task": self.task.chars().take(chars_max).collect::<String>(),
            "capability": self.capability,
            "agent": self.agent,
            "decompose": self.decompose,
        })
    }
}

impl AgentTask {
    /// Reads a request from JSON and checks it.
    ///
    /// # Errors
    /// [`InvalidTask`], the first problem.
    pub fn parse(value: &Value) -> Result<Self, InvalidTask> {
        let request: Self = object(value)?;
        check_text("prompt", &request.prompt, PROMPT_BYTES_MAX)?;
        check_id(request.id.as_deref())?;
        Ok(request)
    }

    /// Short form for people, and for the count of an agent's successes, which looks at `agent`.
    pub fn summary(&self, chars_max: usize) -> Value {
        json!({ "agent": self.agent, "prompt": self.prompt.chars().take(chars_max).collect::<String>() })
    }
}

fn object<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, InvalidTask> {
    // A derived struct would also be read from an array.
    if value.is_object() { Ok(T::deserialize(value)?) } else { Err(InvalidTask::NoObject) }
}

fn check_text(field: &'static str, text: &str, max: usize) -> Result<(), InvalidTask> {
    let bytes = text.len();
    if text.trim().is_empty() || bytes > max { Err(InvalidTask::Size { field, bytes, max }) } else { Ok(()) }
}

fn check_id(id: Option<&str>) -> Result<(), InvalidTask> {
    match id {
        Some(id) if id.is_empty() || id.chars().count() > TASK_ID_CHARS_MAX || id.chars().any(char::is_control) => {
            Err(InvalidTask::BadId(id.chars().take(TASK_ID_CHARS_MAX).collect()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_read_and_one_without_more_is_left_to_a_classifier() {
        let request = CoordinationRequest::parse(&json!({"task": "build it", "request_id": "r"})).unwrap();
        assert_eq!((request.id.as_deref(), request.decompose), (Some("r"), Decompose::Auto));
        let task = AgentTask::parse(&json!({"agent": "coder", "prompt": "go"})).unwrap();
        assert_eq!((task.expect, task.id), (Expect::Text, None));
    }

    #[test]
    fn says_what_is_wrong() {
        let long = "x".repeat(TASK_BYTES_MAX + 1);
        for (value, code) in [
            (json!([]), "E0661"),
            (json!({}), "E0661"),
            (json!({"task": "a", "taks": "b"}), "E0661"),
            (json!({"task": "a", "decompose": "maybe"}), "E0661"),
            (json!({"task": " "}), "E0662"),
            (json!({"task": long}), "E0662"),
            (json!({"task": "a", "id": ""}), "E0662"),
            (json!({"task": "a", "agent": "b", "capability": "c"}), "E0663"),
            (json!({"task": "a", "agent": "b", "decompose": "always"}), "E0663"),
            (json!({"task": "a", "capability": "b", "decompose": "always"}), "E0663"),
        ] {
            assert_eq!(CoordinationRequest::parse(&value).unwrap_err().code(), code, "{value:.200}");
        }
        for prompt in [String::new(), "x".repeat(PROMPT_BYTES_MAX + 1)] {
            assert_eq!(AgentTask::parse(&json!({"agent": "a", "prompt": prompt})).unwrap_err().code(), "E0662");
        }
    }
}
