//! Agents as typed values, and answers that simulated models give them.

use serde::{Deserialize, Serialize};

use super::model::{Complexity, Workflow};
use super::period::Period;

/// `[agents.NAME]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// What it can do, at least one. `classify` and `decompose` are steps of the coordination itself.
    pub capabilities: Vec<String>,
    /// What its model is told first.
    pub system_prompt: String,
    /// How demanding its work is, for the choice of a model. Without it and `model` the agent's name is its task type.
    pub complexity: Option<Complexity>,
    /// A route of `[routing.routes]`; wins over `complexity`.
    pub route: Option<String>,
    /// A model by name; wins over both.
    pub model: Option<String>,
    /// Output limit in tokens; 1 to 1,000,000. Default: that of the model.
    pub max_tokens: Option<u32>,
    /// Runs at the same time, in the whole fleet, at which it is given half as much as when it is idle; 1 to 10,000.
    /// Default 4.
    pub parallel: u32,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            capabilities: Vec::new(),
            system_prompt: String::new(),
            complexity: None,
            route: None,
            model: None,
            max_tokens: None,
            parallel: 4,
        }
    }
}

/// `[workflows.agent_coordination]` and `[workflows.agent_task]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentWorkflow {
    /// Queue of its jobs.
    pub queue: String,
    /// Attempts before a job is discarded; 1 to 32,767. Default 5.
    pub max_attempts: u32,
    /// Limit of one attempt; 100 ms to 7 days. Default 10 minutes.
    pub timeout: Period,
}

impl Default for AgentWorkflow {
    fn default() -> Self {
        let Workflow { queue, max_attempts, timeout, .. } = Workflow::default();
        Self { queue, max_attempts, timeout }
    }
}

/// `[models.NAME.simulated.answers.NAME]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatedAnswer {
    /// Text that some message of the request contains.
    pub when: String,
    /// The answer.
    pub text: String,
}
