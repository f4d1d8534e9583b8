//! The `llm_request` workflow: receive → select_model → call_llm → publish_result.
//!
//! Only `call_llm` reaches out. Its answer is stored before anything else happens, so a crash after it goes on at
//! `publish_result` and does not pay twice. (A crash between the provider's answer and its checkpoint is the one moment
//! in which a call can be repeated; the idempotency key is for providers that know it.)

use std::sync::Arc;

use serde_json::json;

use super::asker::Asker;
use super::definition::{Definition, Step, StepContext, StepError, StepOutput};
use super::models::{Asking, Called, Failed, answered};
use super::request::LlmRequest;
use super::result::JobResult;
use super::steps::{SUMMARY_CHARS_MAX, banner, count, of_advice, output, refuse, shortened, to_output};
use crate::config::Config;
use crate::llm::{Advice, Gateway};
use crate::postgres::Database;
use crate::routing::{Choice, LivePolicy, Wish};

/// Name in the `worker` column.
pub const LLM_REQUEST: &str = "llm_request";
/// Name of the workflow.
const NAME: &str = "LlmRequest";
/// The model for a request at this moment.
fn choose(asker: &Asker, context: &StepContext, request: &LlmRequest) -> Result<Choice, StepError> {
    let wish = Wish {
        model: request.model.as_deref(),
        route: request.route.as_deref(),
        complexity: request.complexity,
        task_type: request.task_type.as_deref(),
    };
    let refused = |error: &_| refuse(error, request.id.as_deref(), request.summary(SUMMARY_CHARS_MAX));
    asker.choose(context, LLM_REQUEST, wish, refused)
}

/// The definition, bound to configuration, providers and the policy of the moment.
pub fn llm_request(config: Arc<Config>, gateway: Arc<Gateway>, policy: LivePolicy, db: Database) -> Definition {
    let timeout = config.workflows.llm_request.timeout.get();
    let asker = Asker::new(config, gateway, policy, db);
    let called = asker.clone();
    Definition {
        worker: LLM_REQUEST,
        name: NAME,
        version: 1,
        timeout,
        steps: vec![
            Step::pure("receive", |context| async move { receive(&context) }),
            Step::pure("select_model", move |context| {
                let asker = asker.clone();
                async move { select_model(&context, &asker) }
            }),
            Step::external("call_llm", move |context| {
                let asker = called.clone();
                async move { call_llm(&context, &asker).await }
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

fn select_model(context: &StepContext, asker: &Asker) -> Result<StepOutput, StepError> {
    let request: LlmRequest = output(NAME, context, 0)?;
    to_output(NAME, &choose(asker, context, &request)?)
}

async fn call_llm(context: &StepContext, asker: &Asker) -> Result<StepOutput, StepError> {
    let request: LlmRequest = output(NAME, context, 0)?;
    let choice = match asker.still(output(NAME, context, 1)?) {
        Some(choice) => choice,
        None => choose(asker, context, &request)?,
    };
    let asking = Asking {
        job: &context.job,
        cancelled: &context.cancelled,
        deadline: context.deadline,
        job_type: LLM_REQUEST,
        workflow_type: NAME,
        choice: &choice,
        chat: &request.chat(context.idempotency_key.clone()),
        cache: asker.config.workflows.llm_request.cache.get(),
        first_hop: 0,
    };
    let called = asker.ask(&asking, |call, advice| call_failed(call, advice, &request, &choice)).await?;
    let cost_nanousd = called.answer.cost.nanousd;
    Ok(StepOutput { cost_nanousd, ..to_output(NAME, &called)? })
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

fn call_failed(call: &Failed, advice: Advice, request: &LlmRequest, choice: &Choice) -> StepError {
    let result = JobResult {
        request_id: request.id.clone(),
        input_summary: request.summary(SUMMARY_CHARS_MAX),
        ..call.row(choice)
    };
    StepError { outcome: of_advice(advice, banner(&call.error)), result: Some(Box::new(result)) }
}
