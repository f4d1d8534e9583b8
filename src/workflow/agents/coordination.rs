//! The `agent_coordination` workflow: receive → validate → route → run → publish.
//!
//! `run` waits for its children, jobs of `agent_task`, without holding a slot, and decides after each what comes next.
//! All that it needs for that is in the job's arguments and in what the children came to, so it goes on after a crash
//! anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::facts::Facts;
use super::pipeline::{AgentAnswer, Merged, Next, Progress, Route, Wanted, Who};
use super::registry::{Candidate, NoAgent, Pick, capabilities, choose};
use super::request::{AgentTask, CoordinationRequest};
use super::task::{AGENT_TASK, agent};
use crate::config::Config;
use crate::queue::NewJob;
use crate::workflow::children::{ChildJob, Children, Plan, Wait};
use crate::workflow::definition::{Definition, Effect, Step, StepContext, StepError, StepOutput, Work};
use crate::workflow::result::JobResult;
use crate::workflow::steps::{SUMMARY_CHARS_MAX, database, output, refuse, shortened, sum, to_output, unreadable};
use crate::workflow::walk::persist;

/// Name in the `worker` column.
pub const AGENT_COORDINATION: &str = "agent_coordination";
/// Name of the workflow.
const NAME: &str = "AgentCoordination";
/// Key in a child's `meta` under which stands why its agent was chosen.
pub const META_PICK: &str = "agent_pick";

/// The result of `route`.
#[derive(Debug, Serialize, Deserialize)]
struct Routed {
    route: Route,
    /// What some agent can do; answers are checked against it.
    capabilities: Vec<String>,
    /// Who would begin, as things stood.
    first: Option<Pick>,
}

/// The definition, bound to configuration and database.
pub fn agent_coordination(config: Arc<Config>, facts: Facts) -> Definition {
    let timeout = config.workflows.agent_coordination.timeout.get();
    let (validating, routing, running) = (Arc::clone(&config), Arc::clone(&config), config);
    let at_start = facts.clone();
    Definition {
        worker: AGENT_COORDINATION,
        name: NAME,
        version: 1,
        timeout,
        steps: vec![
            Step::pure("receive", |context| async move { receive(&context) }),
            Step::pure("validate", move |context| {
                let config = Arc::clone(&validating);
                async move { validate(&context, &config) }
            }),
            Step::external("route", move |context| {
                let (config, facts) = (Arc::clone(&routing), at_start.clone());
                async move { route(&context, &config, &facts).await }
            }),
            Step::new(
                "run",
                Effect::External,
                Work::Children(Arc::new(move |context: StepContext, children: Children| {
                    let (config, facts) = (Arc::clone(&running), facts.clone());
                    Box::pin(async move { run(&context, &children, &config, &facts).await })
                })),
            ),
            Step::pure("publish", |context| async move { publish(&context) }),
        ],
    }
}

fn receive(context: &StepContext) -> Result<StepOutput, StepError> {
    let request = CoordinationRequest::parse(&context.job.args).map_err(|error| refuse(&error, None, json!({})))?;
    to_output(NAME, &request)
}

/// Whether what is configured here can begin with the task.
fn validate(context: &StepContext, config: &Config) -> Result<StepOutput, StepError> {
    let request: CoordinationRequest = output(NAME, context, 0)?;
    let (id, summary) = (request.id.as_deref(), request.summary(SUMMARY_CHARS_MAX));
    let route = Route::of(&request);
    if let Route::Agent { agent: name } = &route {
        agent(name, config).map_err(|error| refuse(&error, id, summary))?;
    } else if let Some(capability) = route.first_capability() {
        let known: BTreeSet<&String> = config.agents.values().flat_map(|agent| &agent.capabilities).collect();
        if !known.iter().any(|name| name.as_str() == capability) {
            let known = known.into_iter().cloned().collect();
            return Err(refuse(&NoAgent { capability: capability.to_owned(), known }, id, summary));
        }
    }
    to_output(NAME, &route)
}

async fn route(context: &StepContext, config: &Config, facts: &Facts) -> Result<StepOutput, StepError> {
    let request: CoordinationRequest = output(NAME, context, 0)?;
    let route: Route = output(NAME, context, 1)?;
    let candidates = candidates(context, config, facts).await?;
    let first = route.first_capability().map(|capability| choose(capability, &candidates)).transpose();
    let first = first.map_err(|error| refuse(&error, request.id.as_deref(), request.summary(SUMMARY_CHARS_MAX)))?;
    to_output(NAME, &Routed { route, capabilities: capabilities(&candidates), first })
}

async fn candidates(context: &StepContext, config: &Config, facts: &Facts) -> Result<Vec<Candidate>, StepError> {
    persist(&context.cancelled, || facts.candidates(config)).await.map_err(database)
}

async fn run(
    context: &StepContext,
    children: &Children,
    config: &Config,
    facts: &Facts,
) -> Result<Plan<StepOutput>, StepError> {
    let request: CoordinationRequest = output(NAME, context, 0)?;
    let routed: Routed = output(NAME, context, 2)?;
    let mut answers = BTreeMap::new();
    for child in children.all.values().filter(|child| child.has_ended()) {
        // One that did not complete ends the whole task; its siblings are cancelled with it.
        answers.insert(child.key.clone(), child.output::<AgentAnswer>()?);
    }
    let begun: BTreeSet<String> = children.all.keys().cloned().collect();
    let progress = Progress {
        request: &request,
        route: &routed.route,
        capabilities: &routed.capabilities,
        begun: &begun,
        answers: &answers,
    };
    let enqueue = match progress.next().map_err(|error| unreadable(NAME, 3, &error))? {
        Next::Done(merged) => return Ok(Plan::Done(done(&merged, &answers)?)),
        Next::Wait => Vec::new(),
        Next::Begin(wanted) => {
            let mut candidates = candidates(context, config, facts).await?;
            let jobs = wanted.into_iter().map(|wanted| job(wanted, &mut candidates, config));
            let jobs: Result<Vec<ChildJob>, NoAgent> = jobs.collect();
            jobs.map_err(|error| refuse(&error, request.id.as_deref(), request.summary(SUMMARY_CHARS_MAX)))?
        }
    };
    Ok(Plan::Wait { enqueue, until: Wait::Any })
}

/// The job of one agent. It counts as under way for the choices after it.
fn job(wanted: Wanted, candidates: &mut [Candidate], config: &Config) -> Result<ChildJob, NoAgent> {
    let pick = match &wanted.who {
        Who::Agent(_) => None,
        Who::Capable(capability) => Some(choose(capability, candidates)?),
    };
    let agent = match (&pick, wanted.who) {
        (Some(pick), _) => pick.agent.clone(),
        (None, Who::Agent(agent) | Who::Capable(agent)) => agent,
    };
    if let Some(candidate) = candidates.iter_mut().find(|candidate| candidate.name == agent) {
        candidate.running = candidate.running.saturating_add(1);
    }
    let task = AgentTask { id: None, agent, prompt: wanted.prompt, expect: wanted.expect };
    let workflow = &config.workflows.agent_task;
    let args = serde_json::to_value(&task).unwrap_or_default();
    let mut job = NewJob::new(AGENT_TASK, args)
        .queue(workflow.queue.clone())
        .max_attempts(i32::try_from(workflow.max_attempts).unwrap_or(i32::MAX));
    job.meta.insert(META_PICK.to_owned(), serde_json::to_value(&pick).unwrap_or_default());
    Ok(ChildJob { key: wanted.key, job })
}

/// The result of `run`: what the children's answers come to together.
#[derive(Debug, Serialize, Deserialize)]
struct Ran {
    merged: Merged,
    /// Of all agents; `None` where the price of one is not known. Each agent's own row in `job_results` has its part.
    agents_cost_nanousd: Option<i64>,
    agents: usize,
    simulated: bool,
}

fn done(merged: &Merged, answers: &BTreeMap<String, AgentAnswer>) -> Result<StepOutput, StepError> {
    to_output(
        NAME,
        &Ran {
            merged: merged.clone(),
            agents_cost_nanousd: sum(answers.values().map(|answer| answer.cost_nanousd)),
            agents: answers.len(),
            simulated: answers.values().any(|answer| answer.simulated),
        },
    )
}

fn publish(context: &StepContext) -> Result<StepOutput, StepError> {
    let request: CoordinationRequest = output(NAME, context, 0)?;
    let ran: Ran = output(NAME, context, 3)?;
    let merged = ran.merged;
    let value = json!({
        "text": merged.text,
        "pattern": merged.pattern,
        "results": merged.results,
        "agents_cost_nanousd": ran.agents_cost_nanousd,
        "simulated": ran.simulated,
    });
    let result = JobResult {
        request_id: request.id.clone(),
        success: true,
        // What the agents cost stands in their own rows: a sum over all rows counts it once.
        cost_nanousd: Some(0),
        simulated: ran.simulated,
        patterns: vec![merged.pattern.clone()],
        input_summary: request.summary(SUMMARY_CHARS_MAX),
        result_summary: json!({
            "text": shortened(&merged.text),
            "pattern": merged.pattern,
            "answers": ran.agents,
            "agents_cost_nanousd": ran.agents_cost_nanousd,
        }),
        result: Some(value.clone()),
        ..JobResult::default()
    };
    Ok(StepOutput { value: json!({ "published": true }), result: Some(Box::new(result)), ..StepOutput::default() })
}
