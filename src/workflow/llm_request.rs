//! The `llm_request` workflow: receive → select_model → call_llm → publish_result.
//!
//! Only `call_llm` reaches out. Its answer is stored before anything else happens, so a crash after it goes on at
//! `publish_result` and does not pay twice. (A crash between the provider's answer and its checkpoint is the one moment
//! in which a call can be repeated; the idempotency key is for providers that know it.)

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::definition::{Definition, Step, StepContext, StepError, StepOutput};
use super::models::{Asking, Called, Failed, Models, Unanswered, answered};
use super::request::LlmRequest;
use super::result::JobResult;
use super::steps::{SUMMARY_CHARS_MAX, banner, count, output, refuse, shortened, to_output};
use crate::config::Config;
use crate::llm::{Advice, Gateway};
use crate::postgres::{Database, DbError};
use crate::queue::Outcome;
use crate::routing::{Choice, LivePolicy, RoutingError, Situation, Wish, draw, select};

/// Name in the `worker` column.
pub const LLM_REQUEST: &str = "llm_request";
/// Name of the workflow.
const NAME: &str = "LlmRequest";
/// When a job looks again whose models are all switched off: nothing else will tell it.
const SWITCHED_OFF_WAIT: Duration = Duration::from_secs(30);

/// What models are chosen by.
#[derive(Clone)]
struct Routing {
    config: Arc<Config>,
    gateway: Arc<Gateway>,
    policy: LivePolicy,
    models: Models,
}

impl Routing {
    /// The model for a request at this moment.
    fn choose(&self, context: &StepContext, request: &LlmRequest) -> Result<Choice, StepError> {
        let wish = Wish {
            model: request.model.as_deref(),
            route: request.route.as_deref(),
            complexity: request.complexity,
            task_type: request.task_type.as_deref(),
        };
        let situation = Situation {
            config: &self.config,
            policy: &self.policy.current(),
            job_type: LLM_REQUEST,
            draw: draw(context.job.id, context.job.attempt),
            is_held_back: &|model| self.gateway.is_held_back(model),
        };
        select(wish, &situation).map_err(|error| match error {
            RoutingError::AllOff(_) => wait_until_on(context, &error),
            _ => refuse(&error, request.id.as_deref(), request.summary(SUMMARY_CHARS_MAX)),
        })
    }
}

/// The definition, bound to configuration, providers and the policy of the moment.
pub fn llm_request(config: Arc<Config>, gateway: Arc<Gateway>, policy: LivePolicy, db: Database) -> Definition {
    let timeout = config.workflows.llm_request.timeout.get();
    let models = Models::new(Arc::clone(&config), Arc::clone(&gateway), db);
    let routing = Routing { config, gateway, policy, models };
    let called = routing.clone();
    Definition {
        worker: LLM_REQUEST,
        name: NAME,
        version: 1,
        timeout,
        steps: vec![
            Step::pure("receive", |context| async move { receive(&context) }),
            Step::pure("select_model", move |context| {
                let routing = routing.clone();
                async move { select_model(&context, &routing) }
            }),
            Step::external("call_llm", move |context| {
                let routing = called.clone();
                async move { call_llm(&context, &routing).await }
            }),
            Step::pure("publish_result", |context| async move { publish_result(&context) }),
        ],
    }
}

/// Checks and normalises the job's arguments. What is wrong with them stays wrong, so the job is not tried again.
fn receive(context: &StepContext) -> Result<StepOutput, StepError> {
    let request = LlmRequest::parse(&context.job.args).map_err(|error| refuse(&error, None, json!({})))?;
    to_output(NAME, &request)
}

fn select_model(context: &StepContext, routing: &Routing) -> Result<StepOutput, StepError> {
    let request: LlmRequest = output(NAME, context, 0)?;
    to_output(NAME, &routing.choose(context, &request)?)
}

async fn call_llm(context: &StepContext, routing: &Routing) -> Result<StepOutput, StepError> {
    let request: LlmRequest = output(NAME, context, 0)?;
    let choice: Choice = output(NAME, context, 1)?;
    // The choice may be an earlier attempt's, and a person may have switched models off since.
    let choice = match choice.still(&routing.policy.current()) {
        Some(choice) => choice,
        None => routing.choose(context, &request)?,
    };
    let asking = Asking {
        job: &context.job,
        cancelled: &context.cancelled,
        deadline: context.deadline,
        job_type: LLM_REQUEST,
        workflow_type: NAME,
        choice: &choice,
        chat: &request.chat(context.idempotency_key.clone()),
        cache: routing.config.workflows.llm_request.cache.get(),
        first_hop: 0,
    };
    match routing.models.ask(&asking).await {
        Ok(called) => {
            let cost_nanousd = called.answer.cost.nanousd;
            Ok(StepOutput { cost_nanousd, ..to_output(NAME, &called)? })
        }
        Err(Unanswered::Failed { call, advice }) => Err(call_failed(&call, advice, &request, &choice)),
        // No failure: nothing was answered, and what was spent is recorded.
        Err(Unanswered::Waits(wait)) => Err(StepError { outcome: Outcome::Snoozed(wait), result: None }),
        Err(Unanswered::Db(DbError::Stopped { .. })) => Err(StepError { outcome: Outcome::HandedBack, result: None }),
        Err(Unanswered::Db(error)) => {
            let outcome = Outcome::Failed { error: format!("** (Database) {error}"), retry_in: None };
            Err(StepError { outcome, result: None })
        }
    }
}

fn publish_result(context: &StepContext) -> Result<StepOutput, StepError> {
    let request: LlmRequest = output(NAME, context, 0)?;
    let choice: Choice = output(NAME, context, 1)?;
    let Called { answer, hop } = output(NAME, context, 2)?;
    let result = JobResult {
        request_id: request.id.clone(),
        success: true,
        cost_nanousd: answer.cost.nanousd,
        prices_version: Some(answer.cost.prices_version.clone()),
        provider: Some(answer.provider.clone()),
        model_used: Some(answer.model.clone()),
        route: choice.route.clone(),
        policy_version: choice.policy_version,
        propensity: (answer.model == choice.model).then_some(choice.propensity),
        simulated: answer.simulated,
        tokens_input: Some(count(answer.usage.input_total())),
        tokens_output: Some(count(answer.usage.output)),
        time_to_first_token_ms: Some(count(answer.time_to_first_token_ms)),
        call_ms: Some(count(answer.duration_ms)),
        usage: Some(answer.raw_usage.clone()),
        input_summary: request.summary(SUMMARY_CHARS_MAX),
        result_summary: json!({
            "text": shortened(&answer.text),
            "finish_reason": answer.finish_reason,
            "complexity": choice.complexity,
            "reason": choice.reason,
        }),
        result: Some(json!({
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "model_reported": answer.model_reported,
            "provider_request_id": answer.provider_request_id,
            "simulated": answer.simulated,
            "cached": answer.cached,
        })),
        error_reason: None,
        outcome: Some(answered(&answer, request.max_tokens)),
        hop,
        patterns: Vec::new(),
    };
    Ok(StepOutput { value: json!({ "published": true }), result: Some(Box::new(result)), ..StepOutput::default() })
}

/// What failed calls do to the job: trouble that may pass is retried with the queue's backoff, everything else is given
/// up with its reason. (What waiting cures is a wait already.)
fn call_failed(call: &Failed, advice: Advice, request: &LlmRequest, choice: &Choice) -> StepError {
    let text = banner(&call.error);
    let outcome = match advice {
        Advice::Retry => Outcome::Failed { error: text, retry_in: None },
        Advice::Snooze(delay) => Outcome::Snoozed(delay),
        Advice::Cancel => Outcome::Cancelled(text),
    };
    let result = JobResult {
        request_id: request.id.clone(),
        input_summary: request.summary(SUMMARY_CHARS_MAX),
        ..call.row(choice)
    };
    StepError { outcome, result: Some(Box::new(result)) }
}

/// A person switched off what the request needs, and may switch it on again: the job waits and spends no attempt.
fn wait_until_on(context: &StepContext, error: &RoutingError) -> StepError {
    tracing::info!(target: "job", id = context.job.id, %error, wait = ?SWITCHED_OFF_WAIT, "the job waits");
    StepError { outcome: Outcome::Snoozed(SWITCHED_OFF_WAIT), result: None }
}
