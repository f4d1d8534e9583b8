//! The `llm_request` workflow: receive → select_model → call_llm → publish_result.
//!
//! Only `call_llm` reaches out. Its answer is stored before anything else happens, so a crash after it goes on at
//! `publish_result` and does not pay twice. (A crash between the provider's answer and its checkpoint is the one moment
//! in which a call can be repeated; the idempotency key is for providers that know it.)

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::definition::{Definition, Step, StepContext, StepError, StepOutput};
use super::request::LlmRequest;
use super::result::JobResult;
use crate::config::Config;
use crate::error::Coded;
use crate::llm::{Advice, Answer, Gateway, LlmError};
use crate::queue::Outcome;
use crate::routing::{Choice, LivePolicy, RoutingError, Situation, Wish, draw, select};

/// Name in the `worker` column.
pub const LLM_REQUEST: &str = "llm_request";
/// Characters of a prompt or answer that summaries keep.
const SUMMARY_CHARS_MAX: usize = 200;
/// When a job looks again whose models are all switched off: nothing else will tell it.
const SWITCHED_OFF_WAIT: Duration = Duration::from_secs(30);

/// What models are chosen by.
#[derive(Clone)]
struct Routing {
    config: Arc<Config>,
    gateway: Arc<Gateway>,
    policy: LivePolicy,
}

impl Routing {
    /// The model for a request at this moment.
    fn choose(&self, context: &StepContext, request: &LlmRequest) -> Result<Choice, StepError> {
        let wish = Wish {
            model: request.model.as_deref(),
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
            _ => refuse(&error, Some(request)),
        })
    }
}

/// The definition, bound to configuration, providers and the policy of the moment.
pub fn llm_request(config: Arc<Config>, gateway: Arc<Gateway>, policy: LivePolicy) -> Definition {
    let timeout = config.workflows.llm_request.timeout.get();
    let routing = Routing { config, gateway, policy };
    let called = routing.clone();
    Definition {
        worker: LLM_REQUEST,
        name: "LlmRequest",
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
    let request = LlmRequest::parse(&context.job.args).map_err(|error| refuse(&error, None))?;
    to_output(&request)
}

fn select_model(context: &StepContext, routing: &Routing) -> Result<StepOutput, StepError> {
    let request: LlmRequest = output(context, 0)?;
    to_output(&routing.choose(context, &request)?)
}

async fn call_llm(context: &StepContext, routing: &Routing) -> Result<StepOutput, StepError> {
    let request: LlmRequest = output(context, 0)?;
    let mut choice: Choice = output(context, 1)?;
    // The choice may be an earlier attempt's, and a person may have switched its model off since.
    if routing.policy.current().is_off(&choice.model) {
        choice = routing.choose(context, &request)?;
    }
    let chat = request.chat(context.idempotency_key.clone());
    // Snoozes give the attempt back, so the number of failures and snoozes tells one call from the next.
    let calls = context.job.meta.get("snoozed").and_then(Value::as_u64).unwrap_or(0);
    let call = u32::try_from(calls).unwrap_or(u32::MAX).saturating_add(context.job.attempt.unsigned_abs());
    match routing.gateway.chat(&choice.model, &chat, call).await {
        Ok(answer) => {
            let output = to_output(&answer)?;
            Ok(StepOutput { cost_nanousd: answer.cost.nanousd, ..output })
        }
        Err(error) => Err(call_failed(&error, &request, &choice)),
    }
}

fn publish_result(context: &StepContext) -> Result<StepOutput, StepError> {
    let request: LlmRequest = output(context, 0)?;
    let choice: Choice = output(context, 1)?;
    let answer: Answer = output(context, 2)?;
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
        })),
        error_reason: None,
    };
    Ok(StepOutput { value: json!({ "published": true }), result: Some(Box::new(result)), ..StepOutput::default() })
}

/// What a failed call does to the job, by its class: a busy or throttled provider snoozes it, trouble that may pass is
/// retried with the queue's backoff, everything else is given up with its reason.
fn call_failed(error: &LlmError, request: &LlmRequest, choice: &Choice) -> StepError {
    let text = banner(error);
    let outcome = match error.advice(rand::random()) {
        Advice::Retry => Outcome::Failed { error: text.clone(), retry_in: None },
        // No failure: nothing was answered and nothing was spent.
        Advice::Snooze(delay) => return StepError { outcome: Outcome::Snoozed(delay), result: None },
        Advice::Cancel => Outcome::Cancelled(text.clone()),
    };
    let partial = error.partial.as_deref();
    let result = JobResult {
        request_id: request.id.clone(),
        error_reason: Some(text),
        cost_nanousd: partial.and_then(|partial| partial.cost.nanousd).or((!error.sent).then_some(0)),
        prices_version: partial.map(|partial| partial.cost.prices_version.clone()),
        provider: (!error.provider.is_empty()).then(|| error.provider.clone()),
        model_used: Some(error.model.clone()),
        route: choice.route.clone(),
        policy_version: choice.policy_version,
        propensity: (error.model == choice.model).then_some(choice.propensity),
        simulated: error.simulated,
        tokens_input: partial.map(|partial| count(partial.usage.input_total())),
        tokens_output: partial.map(|partial| count(partial.usage.output)),
        time_to_first_token_ms: partial.and_then(|partial| partial.time_to_first_token_ms).map(count),
        input_summary: request.summary(SUMMARY_CHARS_MAX),
        result_summary: json!({ "class": error.class, "status": error.status, "provider_code": error.provider_code }),
        ..JobResult::default()
    };
    StepError { outcome, result: Some(Box::new(result)) }
}

/// A person switched off what the request needs, and may switch it on again: the job waits and spends no attempt.
fn wait_until_on(context: &StepContext, error: &RoutingError) -> StepError {
    tracing::info!(target: "job", id = context.job.id, %error, wait = ?SWITCHED_OFF_WAIT, "the job waits");
    StepError { outcome: Outcome::Snoozed(SWITCHED_OFF_WAIT), result: None }
}

/// A request that no attempt can serve.
fn refuse(error: &impl Coded, request: Option<&LlmRequest>) -> StepError {
    let text = banner(error);
    let result = JobResult {
        request_id: request.and_then(|request| request.id.clone()),
        error_reason: Some(text.clone()),
        cost_nanousd: Some(0),
        input_summary: request.map_or_else(|| json!({}), |request| request.summary(SUMMARY_CHARS_MAX)),
        result_summary: json!({}),
        ..JobResult::default()
    };
    StepError { outcome: Outcome::Cancelled(text), result: Some(Box::new(result)) }
}

/// One line with code and hint, as it is stored in `errors` and `error_reason`.
fn banner(error: &impl Coded) -> String {
    match error.hint() {
        Some(hint) => format!("** ({}) {error}; try: {hint}", error.code()),
        None => format!("** ({}) {error}", error.code()),
    }
}

/// Reads the result of an earlier step. One that cannot be read was written by another program version.
fn output<T: DeserializeOwned>(context: &StepContext, position: usize) -> Result<T, StepError> {
    let value = context.outputs.get(position).cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|error| unreadable(position, &error))
}

fn to_output(value: &impl serde::Serialize) -> Result<StepOutput, StepError> {
    serde_json::to_value(value).map(StepOutput::value).map_err(|error| unreadable(usize::MAX, &error))
}

fn unreadable(position: usize, error: &serde_json::Error) -> StepError {
    let text = format!("** (E0604) the stored result of step {position} of LlmRequest cannot be used: {error}");
    StepError { outcome: Outcome::Discarded(text), result: None }
}

fn shortened(text: &str) -> String {
    text.chars().take(SUMMARY_CHARS_MAX).collect()
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
