//! What an agent must answer, how it is told so, and whether an answer is that. Pure.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::plan::{PLAN_TASKS_MAX, TaskPlan};

/// Characters of an answer that a message repeats.
const SHOWN_CHARS_MAX: usize = 200;

/// What is expected of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Expect {
    /// Any text that is not blank.
    #[default]
    Text,
    /// Which capability a task needs, and whether to take it apart: a [`Classification`].
    Classification {
        /// Those that there are.
        capabilities: Vec<String>,
    },
    /// A task taken apart: a [`TaskPlan`].
    Plan {
        /// Those that there are.
        capabilities: Vec<String>,
    },
}

/// What a classifier says about a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classification {
    /// What an agent must be able to do for it.
    pub capability: String,
    /// Whether it is to be taken apart into subtasks.
    pub decompose: bool,
}

impl Expect {
    /// What the model is told about the form of its answer; empty where any text will do.
    pub fn instructions(&self) -> String {
        match self {
            Self::Text => String::new(),
            Self::Classification { capabilities } => format!(
                "Answer with one JSON object and nothing else: {{\"capability\": C, \"decompose\": D}}. C is the one of \
                 these capabilities that the task needs: {}. D is true when the task is to be taken apart into smaller \
                 ones, else false.",
                capabilities.join(", ")
            ),
            Self::Plan { capabilities } => format!(
                "Answer with one JSON object and nothing else: {{\"tasks\": [{{\"id\": I, \"capability\": C, \"prompt\": \
                 P, \"after\": [I, ...]}}, ...]}}. Each task has an id of its own (letters, digits, _ or -); a capability, \
                 one of {}; a prompt that tells all that is to be done; and in \"after\" the ids of the tasks whose results \
                 it needs. Tasks that do not need each other run at the same time. At most {PLAN_TASKS_MAX} tasks.",
                capabilities.join(", ")
            ),
        }
    }

    /// The answer as a value, or what is wrong with it, as one sentence without its beginning.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Text if text.trim().is_empty() => Err("it is blank".into()),
            Self::Text => Ok(json!(text)),
            Self::Classification { capabilities } => {
                let found: Classification = json_of(text)?;
                if !capabilities.contains(&found.capability) {
                    let known = capabilities.join(", ");
                    return Err(format!("there is no capability {:?}; there are {known}", found.capability));
                }
                serde_json::to_value(found).map_err(|error| error.to_string())
            }
            Self::Plan { capabilities } => {
                let plan = TaskPlan::parse(text, capabilities)?;
                serde_json::to_value(plan).map_err(|error| error.to_string())
            }
        }
    }

    /// What a model is asked whose answer could not be used.
    pub fn repair(&self, problem: &str) -> String {
        format!("Your answer cannot be used: {problem}. {}", self.instructions()).trim_end().to_owned()
    }
}

/// Reads an answer that is one JSON value, alone or within one fence of Markdown.
pub(super) fn json_of<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let trimmed = text.trim();
    let inner = trimmed.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    // The first line of a fence names the language.
    let json = inner.map_or(trimmed, |inner| inner.split_once('\n').map_or(inner, |(_, body)| body));
    serde_json::from_str(json).map_err(|error| {
        let shown: String = trimmed.chars().take(SHOWN_CHARS_MAX).collect();
        format!("it is not the JSON that was asked for ({error}): {shown:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_classification_is_read_and_its_capability_must_be_there() {
        let expect = Expect::Classification { capabilities: vec!["code".into(), "write".into()] };
        assert!(expect.instructions().contains("code, write"));
        let answer = r#"{"capability": "code", "decompose": true}"#;
        assert_eq!(expect.check(answer).unwrap(), json!({"capability": "code", "decompose": true}));
        for (answer, says) in [
            (r#"{"capability": "paint", "decompose": true}"#, "no capability \"paint\"; there are code, write"),
            (r#"{"capability": "code"}"#, "decompose"),
            ("code", "not the JSON that was asked for"),
            (r#"{"capability": "code", "decompose": true} and more"#, "trailing characters"),
        ] {
            let problem = expect.check(answer).unwrap_err();
            assert!(problem.contains(says), "{answer}: {problem}");
            assert!(expect.repair(&problem).contains("Answer with one JSON object"));
        }
    }

    #[test]
    fn any_text_but_a_blank_one_is_an_answer() {
        assert_eq!(Expect::Text.check("hello").unwrap(), json!("hello"));
        assert_eq!(Expect::Text.check(" \n").unwrap_err(), "it is blank");
        assert_eq!(
            (Expect::Text.instructions(), Expect::Text.repair("x")),
            (String::new(), "Your answer cannot be used: x.".into())
        );
    }

    #[test]
    fn survives_storage() {
        let expect = Expect::Plan { capabilities: vec!["a".into()] };
        let stored = serde_json::to_value(&expect).unwrap();
        assert_eq!(stored, json!({"kind": "plan", "capabilities": ["a"]}));
        assert_eq!(serde_json::from_value::<Expect>(stored).unwrap(), expect);
    }
}
