//! Agents: who can do what, how a task is taken apart, and the two workflows that have it done.
//!
//! A task is a job of `agent_coordination`; what single agents do for it are its children, jobs of `agent_task`. The
//! choice of an agent, the check of plans and answers and the order of subtasks are pure; effects are in `facts`,
//! `task` and `coordination` alone.

mod answer;
mod coordination;
mod facts;
mod pipeline;
mod plan;
mod registry;
mod request;
mod task;

pub use answer::{Classification, Expect};
pub use coordination::{AGENT_COORDINATION, META_PICK, agent_coordination};
pub use facts::{Facts, RUNS_DAYS, RUNS_MAX};
pub use pipeline::{AgentAnswer, CLASSIFY, DECOMPOSE, Route};
pub use plan::{PLAN_ID_CHARS_MAX, PLAN_PROMPT_CHARS_MAX, PLAN_TASKS_MAX, PlannedTask, TaskPlan};
pub use registry::{Candidate, Considered, EXPECTED_RATE, EXPECTED_RUNS, NoAgent, Pick, capabilities, choose};
pub use request::{
    AgentTask, CoordinationRequest, Decompose, InvalidTask, PROMPT_BYTES_MAX, TASK_BYTES_MAX, TASK_ID_CHARS_MAX,
};
pub use task::{AGENT_TASK, UnknownAgent, agent, agent_task};
