//! The `agent_task` workflow, one agent and one answer: receive → select_model → ask → check → publish.
//!
//! An answer that is not of the form that is expected is shown to the model again, once, with what is wrong with it.
//! If the second is unusable too the job is discarded, and the attempt counts as a failure of the model and of the
//! agent.

use std::sync::Arc;

use serde_json::{Value, json};

use super::pipeline::AgentAnswer;
use super::request::AgentTask;
use crate::config::{Agent, Config, nearest};
use crate::error::Coded;
use crate::llm::{Advice, Answer, ChatRequest, Gateway, Message, Role, Usage};
use crate::postgres::Database;
use crate::queue::Outcome;
use crate::routing::{Choice, LivePolicy, Wish};
use crate::workflow::asker::Asker;
use crate::workflow::definition::{Definition, Step, StepContext, StepError, StepOutput};
use crate::workflow::models::{Asking, Called, Failed, answered};
use crate::workflow::result::{Attempted, JobResult};
use crate::workflow::steps::{
    SUMMARY_CHARS_MAX, banner, count, of_advice, output, refuse, shortened, sum, to_output, unreadable,
};

/// Name in the `worker` column.
pub const AGENT_TASK: &str = "agent_task";
/// Name of the workflow.
const NAME: &str = "AgentTask";

/// No such agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("agent {name:?} is not configured; configured are {known}")]
pub struct UnknownAgent {
    name: String,
    known: String,
    suggestion: Option<String>,
}

impl Coded for UnknownAgent {
    fn code(&self) -> &'static str {
        "E0664"
    }

    fn hint(&self) -> Option<String> {
        Some(match &self.suggestion {
            Some(name) => format!("did you mean {name:?}?"),
            None => format!("name one of these, or add [agents.{}]", self.name),
        })
    }
}

/// An answer that cannot be used, and a second one that cannot either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("agent {agent:?} did not answer as it must, and not on the second try either: {problem}")]
struct Unusable {
    agent: String,
    problem: String,
}

impl Coded for Unusable {
    fn code(&self) -> &'static str {
        "E0665"
    }

    fn hint(&self) -> Option<String> {
        Some(format!("give [agents.{}] a more able model, or a clearer system_prompt", self.agent))
    }
}

/// The agent of this name.
///
/// # Errors
/// [`UnknownAgent`].
pub fn agent<'a>(name: &str, config: &'a Config) -> Result<&'a Agent, UnknownAgent> {
    config.agents.get(name).ok_or_else(|| {
        let names: Vec<&str> = config.agents.keys().map(String::as_str).collect();
        let known = if names.is_empty() { "none".into() } else { names.join(", ") };
        UnknownAgent { name: name.to_owned(), known, suggestion: nearest(name, names).map(str::to_owned) }
    })
}

/// The definition, bound to configuration, providers and the policy of the moment.
pub fn agent_task(config: Arc<Config>, gateway: Arc<Gateway>, policy: LivePolicy, db: Database) -> Definition {
    let timeout = config.workflows.agent_task.timeout.get();
    let asker = Asker::new(config, gateway, policy, db);
    let (selecting, asking, checking, publishing) = (asker.clone(), asker.clone(), asker.clone(), asker);
    Definition {
        worker: AGENT_TASK,
        name: NAME,
        version: 1,
        timeout,
        steps: vec![
            Step::pure("receive", |context| async move { receive(&context) }),
            Step::pure("select_model", move |context| {
                let asker = selecting.clone();
                async move { select_model(&context, &asker) }
            }),
            Step::external("ask", move |context| {
                let asker = asking.clone();
                async move { ask(&context, &asker).await }
            }),
            Step::external("check", move |context| {
                let asker = checking.clone();
                async move { check(&context, &asker).await }
            }),
            Step::pure("publish", move |context| {
                let asker = publishing.clone();
                async move { publish(&context, &asker) }
            }),
        ],
    }
}

fn receive(context: &StepContext) -> Result<StepOutput, StepError> {
    let task = AgentTask::parse(&context.job.args).map_err(|error| refuse(&error, None, json!({})))?;
    to_output(NAME, &task)
}

fn select_model(context: &StepContext, asker: &Asker) -> Result<StepOutput, StepError> {
    let task: AgentTask = output(NAME, context, 0)?;
    to_output(NAME, &choose(asker, context, &task)?)
}

/// The model for the agent's work at this moment.
fn choose(asker: &Asker, context: &StepContext, task: &AgentTask) -> Result<Choice, StepError> {
    let summary = || task.summary(SUMMARY_CHARS_MAX);
    let agent = agent(&task.agent, &asker.config).map_err(|error| refuse(&error, task.id.as_deref(), summary()))?;
    // An agent without a wish of its own is a kind of task by its name.
    let wish = Wish {
        model: agent.model.as_deref(),
        route: agent.route.as_deref(),
        complexity: agent.complexity,
        task_type: Some(&task.agent),
    };
    asker.choose(context, AGENT_TASK, wish, |error| refuse(error, task.id.as_deref(), summary()))
}

/// The output limit that the agent of a task sets.
fn max_tokens(config: &Config, task: &AgentTask) -> Option<u32> {
    config.agents.get(&task.agent).and_then(|agent| agent.max_tokens)
}

/// One call, with the model that was chosen, unless a person has switched it off since. It is numbered after the call
/// `before`.
async fn call(
    asker: &Asker,
    context: &StepContext,
    task: &AgentTask,
    messages: Vec<Message>,
    before: Option<&Called>,
) -> Result<Called, StepError> {
    let choice = match asker.still(output(NAME, context, 1)?) {
        Some(choice) => choice,
        None => choose(asker, context, task)?,
    };
    let chat = ChatRequest {
        messages,
        max_tokens: max_tokens(&asker.config, task),
        temperature: None,
        idempotency_key: Some(context.idempotency_key.clone()),
    };
    let asking = Asking {
        job: &context.job,
        cancelled: &context.cancelled,
        deadline: context.deadline,
        job_type: AGENT_TASK,
        workflow_type: NAME,
        choice: &choice,
        chat: &chat,
        cache: None,
        first_hop: before.map_or(0, |before| before.hop.saturating_add(1)),
    };
    let before = before.map(|before| &before.answer);
    asker.ask(&asking, |failed, advice| call_failed(failed, advice, context, task, &choice, before)).await
}

/// What the model is told first.
fn opening(task: &AgentTask, config: &Config) -> Vec<Message> {
    let system = config.agents.get(&task.agent).map(|agent| agent.system_prompt.as_str()).unwrap_or_default();
    let system = format!("{system}\n\n{}", task.expect.instructions());
    let mut messages = Vec::with_capacity(2);
    if !system.trim().is_empty() {
        messages.push(Message { role: Role::System, content: system.trim().to_owned() });
    }
    messages.push(Message { role: Role::User, content: task.prompt.clone() });
    messages
}

async fn ask(context: &StepContext, asker: &Asker) -> Result<StepOutput, StepError> {
    let task: AgentTask = output(NAME, context, 0)?;
    let called = call(asker, context, &task, opening(&task, &asker.config), None).await?;
    let cost_nanousd = called.answer.cost.nanousd;
    Ok(StepOutput { cost_nanousd, ..to_output(NAME, &called)? })
}

/// The second answer, where the first cannot be used; else nothing.
async fn check(context: &StepContext, asker: &Asker) -> Result<StepOutput, StepError> {
    let task: AgentTask = output(NAME, context, 0)?;
    let choice: Choice = output(NAME, context, 1)?;
    let first: Called = output(NAME, context, 2)?;
    let Err(problem) = task.expect.check(&first.answer.text) else { return Ok(StepOutput::value(Value::Null)) };
    let mut messages = opening(&task, &asker.config);
    // No format accepts an empty message.
    if !first.answer.text.trim().is_empty() {
        messages.push(Message { role: Role::Assistant, content: first.answer.text.clone() });
    }
    messages.push(Message { role: Role::User, content: task.expect.repair(&problem) });
    let second = call(asker, context, &task, messages, Some(&first)).await?;
    match task.expect.check(&second.answer.text) {
        Ok(_) => {
            let cost_nanousd = second.answer.cost.nanousd;
            Ok(StepOutput { cost_nanousd, ..to_output(NAME, &second)? })
        }
        Err(problem) => Err(unusable(&task, &choice, problem, &first, Some(&second))),
    }
}

fn publish(context: &StepContext, asker: &Asker) -> Result<StepOutput, StepError> {
    let task: AgentTask = output(NAME, context, 0)?;
    let choice: Choice = output(NAME, context, 1)?;
    let first: Called = output(NAME, context, 2)?;
    let second: Option<Called> = output(NAME, context, 3)?;
    let Called { answer: used, .. } = second.as_ref().unwrap_or(&first);
    // Both were checked before; only another version of this program can see it otherwise.
    let answer =
        task.expect.check(&used.text).map_err(|problem| unusable(&task, &choice, problem, &first, second.as_ref()))?;
    let spent = Spent::of(&first, second.as_ref());
    let answer = AgentAnswer {
        agent: task.agent.clone(),
        answer,
        model: used.model.clone(),
        simulated: used.simulated,
        repaired: second.is_some(),
        cost_nanousd: spent.cost_nanousd,
    };
    let stored = serde_json::to_value(&answer).map_err(|error| unreadable(NAME, 4, &error))?;
    let result = JobResult {
        success: true,
        outcome: Some(answered(used, max_tokens(&asker.config, &task))),
        result_summary: json!({
            "agent": task.agent,
            "answer": shortened(&used.text),
            "repaired": answer.repaired,
            "reason": choice.reason,
        }),
        result: Some(stored),
        ..spent.result(&task, &choice, second.as_ref().unwrap_or(&first))
    };
    Ok(StepOutput { value: json!({ "published": true }), result: Some(Box::new(result)), ..StepOutput::default() })
}

/// Tokens and money of both calls.
struct Spent {
    usage: Usage,
    cost_nanousd: Option<i64>,
    raw_usage: Vec<Value>,
}

impl Spent {
    fn of(first: &Called, second: Option<&Called>) -> Self {
        let calls = || std::iter::once(first).chain(second).map(|called| &called.answer);
        let tokens = |part: fn(&Usage) -> u64| calls().map(|answer| part(&answer.usage)).fold(0, u64::saturating_add);
        Self {
            usage: Usage {
                input_fresh: tokens(|usage| usage.input_total()),
                output: tokens(|usage| usage.output),
                ..Usage::default()
            },
            cost_nanousd: sum(calls().map(|answer| answer.cost.nanousd)),
            raw_usage: calls().map(|answer| answer.raw_usage.clone()).collect(),
        }
    }

    fn result(self, task: &AgentTask, choice: &Choice, Called { answer: used, hop }: &Called) -> JobResult {
        JobResult {
            route: choice.route.clone(),
            policy_version: choice.policy_version,
            propensity: (used.model == choice.model).then_some(choice.propensity),
            request_id: task.id.clone(),
            cost_nanousd: self.cost_nanousd,
            prices_version: Some(used.cost.prices_version.clone()),
            provider: Some(used.provider.clone()),
            model_used: Some(used.model.clone()),
            simulated: used.simulated,
            tokens_input: Some(count(self.usage.input_total())),
            tokens_output: Some(count(self.usage.output)),
            time_to_first_token_ms: Some(count(used.time_to_first_token_ms)),
            call_ms: Some(count(used.duration_ms)),
            usage: Some(json!(self.raw_usage)),
            input_summary: task.summary(SUMMARY_CHARS_MAX),
            hop: *hop,
            ..JobResult::default()
        }
    }
}

fn unusable(task: &AgentTask, choice: &Choice, problem: String, first: &Called, second: Option<&Called>) -> StepError {
    let used = second.unwrap_or(first);
    let text = banner(&Unusable { agent: task.agent.clone(), problem });
    let result = JobResult {
        error_reason: Some(text.clone()),
        outcome: Some(Attempted::Failure),
        result_summary: json!({ "agent": task.agent, "answer": shortened(&used.answer.text) }),
        ..Spent::of(first, second).result(task, choice, used)
    };
    StepError { outcome: Outcome::Discarded(text), result: Some(Box::new(result)) }
}

/// What failed calls do to the job, as for `llm_request`. An answer before them is stored with its step, and counts
/// with the attempt that succeeds; where there will be none, with this one.
fn call_failed(
    call: &Failed,
    advice: Advice,
    context: &StepContext,
    task: &AgentTask,
    choice: &Choice,
    before: Option<&Answer>,
) -> StepError {
    let outcome = of_advice(advice, banner(&call.error));
    let is_last = matches!(outcome, Outcome::Cancelled(_)) || context.job.attempt >= context.job.max_attempts;
    let failed = call.row(choice);
    let (mut cost, mut input, mut written) = (failed.cost_nanousd, failed.tokens_input, failed.tokens_output);
    if let Some(before) = before.filter(|_| is_last) {
        cost = cost.zip(before.cost.nanousd).map(|(cost, earlier)| cost.saturating_add(earlier));
        input = Some(input.unwrap_or(0).saturating_add(count(before.usage.input_total())));
        written = Some(written.unwrap_or(0).saturating_add(count(before.usage.output)));
    }
    let result = JobResult {
        request_id: task.id.clone(),
        cost_nanousd: cost,
        tokens_input: input,
        tokens_output: written,
        input_summary: task.summary(SUMMARY_CHARS_MAX),
        ..failed
    };
    StepError { outcome, result: Some(Box::new(result)) }
}
