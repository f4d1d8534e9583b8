//! The model service: everything around one answer that needs the database or a second model.
//!
//! In this order: an answer that is kept for the same request; then, model by model, the budgets of the call, the call
//! itself, and what it cost. Limits of pace and breakers are the gateway's. What concerns one endpoint alone leads to
//! the next model of the route; when none can serve now, the job waits with a visible reason instead of failing.
//!
//! Invariants: money is promised before a call and settled after it; a failed call keeps its cost in a row of its own,
//! also one that ends with the attempt's time; an answer from the cache costs nothing and says so.

mod budget;
mod fallback;
mod key;
mod purse;
mod store;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::budget::{Exhausted, Limited, Window};
use self::fallback::HOPS_MAX;
pub(super) use self::fallback::advice;
use self::purse::NoRoom;
pub(super) use self::purse::{Caller, Purse, calls_until, spent};
use self::store::FailedCall;
pub use self::store::{Answers, Budgets, Holder, Spent};
use super::result::{Attempted, JobResult};
use super::steps::{banner, count};
use super::walk::persist;
use crate::config::Config;
use crate::error::Coded as _;
use crate::llm::{Advice, Answer, ChatRequest, Cost, ErrorClass, FinishReason, Gateway, LlmError, Usage};
use crate::postgres::{Database, DbError};
use crate::queue::Job;
use crate::routing::Choice;

/// Largest answer that is kept, as JSON.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// Wait of a job that has no model at all.
const NO_MODEL_WAIT: Duration = Duration::from_secs(2);
/// `prices_version` of an answer that cost nothing because it was kept.
const CACHE_VERSION: &str = "cache";

/// The service of one instance.
#[derive(Debug, Clone)]
pub struct Models {
    gateway: Arc<Gateway>,
    purse: Purse,
    answers: Answers,
}

/// What is asked, by whom.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The job, at its present attempt.
    pub job: &'a Job,
    /// Fires when the job shall stop.
    pub cancelled: &'a CancellationToken,
    /// When the attempt's time is over.
    pub deadline: Option<std::time::Instant>,
    /// Kind of job, as in `job_results.job_type`.
    pub job_type: &'a str,
    /// Name of the workflow, as in `job_results.workflow_type`.
    pub workflow_type: &'a str,
    /// The model and its fallbacks.
    pub choice: &'a Choice,
    /// The request.
    pub chat: &'a ChatRequest,
    /// How long its answer serves the same request again.
    pub cache: Option<Duration>,
    /// Number of its first call, where the attempt has asked before: one more than that of the last call then. Else 0.
    pub first_hop: i32,
}

impl<'a> Asking<'a> {
    fn caller(&self) -> Caller<'a> {
        Caller { job: self.job, cancelled: self.cancelled }
    }

    /// Number of a call within its attempt, which no other has: one that was snoozed goes on counting.
    fn hop(&self, index: usize) -> i32 {
        let before = snoozes(self.job).saturating_mul(u64::from(HOPS_MAX));
        i32::try_from(before.saturating_add(index as u64)).unwrap_or(i32::MAX).saturating_add(self.first_hop)
    }
}

/// The checkpoint of a call: the answer, and which call of the attempt it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Called {
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
    /// Number of the call within the attempt.
    #[serde(default)]
    pub hop: i32,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The last call failed, which is not recorded yet.
    Failed {
        /// The call.
        call: Box<Failed>,
        /// What the job should do, after all calls: to retry or to give up.
        advice: Advice,
    },
    /// Nobody can serve it now. The reason stands in the job's `meta`, and what calls have cost is recorded.
    Waits(Duration),
    /// The database refused, or the job shall stop.
    Db(DbError),
}

impl From<DbError> for Unanswered {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

/// A call without an answer.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: LlmError,
    /// Number of the call within the attempt.
    pub hop: i32,
    /// How long it took.
    pub took: Duration,
}

impl Failed {
    /// What it leaves, in the words of `job_results`.
    pub(super) fn row(&self, choice: &Choice) -> JobResult {
        JobResult {
            hop: self.hop,
            call_ms: Some(i64::try_from(self.took.as_millis()).unwrap_or(i64::MAX)),
            route: choice.route.clone(),
            policy_version: choice.policy_version,
            propensity: (self.error.model == choice.model).then_some(choice.propensity),
            ..failed_call(&self.error)
        }
    }
}

/// What calls without an answer came to.
#[derive(Default)]
struct Failures {
    is_last_attempt: bool,
    snoozes: u64,
    advice: Option<Advice>,
    reasons: Vec<String>,
    /// The last one, unless it is recorded.
    last: Option<Failed>,
    /// Those before that found something wrong with the request. Whether that is so, or says something about their
    /// models, is known when the others were asked.
    refused: Vec<Failed>,
}

impl Models {
    /// A service on top of `gateway` and the tables of `db`.
    pub fn new(config: Arc<Config>, gateway: Arc<Gateway>, db: Database) -> Self {
        Self { gateway, purse: Purse::new(config, db.clone()), answers: Answers::new(db) }
    }

    /// The models themselves.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Asks for an answer, and tells which call of the attempt gave it.
    ///
    /// Cancel safety: dropping the future ends the call. What was promised to it is given back to its budgets at the
    /// job's next attempt, or when the promise expires.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn ask(&self, asking: &Asking<'_>) -> Result<Called, Unanswered> {
        let caller = asking.caller();
        self.purse.unpark(caller).await?;
        if let Some(answer) = self.kept(asking).await? {
            return Ok(Called { answer, hop: asking.hop(0) });
        }
        let is_last_attempt = asking.job.attempt >= asking.job.max_attempts;
        let until = calls_until(asking.deadline);
        let mut failures = Failures { is_last_attempt, snoozes: snoozes(asking.job), ..Failures::default() };
        let models = std::iter::once(&asking.choice.model).chain(&asking.choice.fallbacks).take(usize::from(HOPS_MAX));
        for (index, model) in models.enumerate() {
            let hop = asking.hop(index);
            let promise = match self.promise(asking, model).await? {
                Ok(promise) => promise,
                Err(none) => {
                    failures.waits(none.exhausted.to_string(), none.wait());
                    // What is left of a provider's own budget says nothing about the others.
                    if none.is_everybodys {
                        break;
                    }
                    continue;
                }
            };
            let started = Instant::now();
            let chat = of_model(asking.chat, model);
            let called = self.gateway.chat_until(model, &chat, call_number(asking.job), until).await;
            let spent = spent(called.as_ref().map(|answer| answer.cost.nanousd));
            self.purse.settle(caller, promise, spent).await?;
            match called {
                Ok(answer) => {
                    self.record(asking, &mut failures, true).await?;
                    self.record_refused(asking, &mut failures, Attempted::Failure).await?;
                    self.keep(asking, model, &answer).await;
                    return Ok(Called { answer, hop });
                }
                Err(error) => {
                    self.record(asking, &mut failures, true).await?;
                    let ends = !fallback::falls_back(&error);
                    failures.add(error, hop, started.elapsed(), ends);
                    if ends || until.is_some_and(|until| until <= Instant::now()) {
                        break;
                    }
                }
            }
        }
        self.unanswered(asking, failures).await
    }

    async fn unanswered(&self, asking: &Asking<'_>, mut failures: Failures) -> Result<Called, Unanswered> {
        let mut advice = failures.advice.unwrap_or(Advice::Retry);
        let is_refusal = |call: &Failed| call.error.sent && call.error.class == ErrorClass::Permanent;
        if failures.refused.iter().chain(&failures.last).any(is_refusal) {
            advice = fallback::when_refused(advice);
        }
        if !matches!(advice, Advice::Snooze(_)) && failures.last.as_ref().is_none_or(|call| !call.error.sent) {
            // Who was asked has more to say than who was not.
            failures.last = failures.refused.pop().or(failures.last);
        }
        match (advice, failures.last.take()) {
            (Advice::Retry | Advice::Cancel, Some(call)) => {
                self.record_refused(asking, &mut failures, Attempted::Invalid).await?;
                Err(Unanswered::Failed { call: Box::new(call), advice })
            }
            (Advice::Snooze(wait), last) => {
                failures.last = last;
                // Where it was the only call, nothing was answered and nothing spent: no row says anything new.
                let only = failures.reasons.len() == 1;
                self.record(asking, &mut failures, !only).await?;
                self.record_refused(asking, &mut failures, Attempted::Invalid).await?;
                self.purse.park(asking.caller(), &failures.reasons.join("; then "), wait).await?;
                Err(Unanswered::Waits(wait))
            }
            // Without a model there is no failure either; routing does not let that happen.
            (Advice::Retry | Advice::Cancel, None) => Err(Unanswered::Waits(NO_MODEL_WAIT)),
        }
    }

    /// Reserves money and a request for a call of `model`; `None` when no budget limits it.
    async fn promise(&self, asking: &Asking<'_>, model: &str) -> Result<Result<Option<Uuid>, NoRoom>, DbError> {
        let Some(info) = self.gateway.model(model) else { return Ok(Ok(None)) };
        let nanousd = self.gateway.estimate_nanousd(model, asking.chat).unwrap_or(0);
        self.purse.promise(asking.caller(), asking.choice.route.as_deref(), &info.provider, nanousd).await
    }

    /// Stores the last failure, when it was a call that was `followed` by another or has cost something. One that
    /// refused the request is put by.
    async fn record(&self, asking: &Asking<'_>, failures: &mut Failures, followed: bool) -> Result<(), DbError> {
        let Some(failed) = failures.last.take() else { return Ok(()) };
        let error = &failed.error;
        if !error.sent || !(followed || error.partial.is_some()) {
            return Ok(());
        }
        if error.class == ErrorClass::Permanent {
            failures.refused.push(failed);
            return Ok(());
        }
        let outcome = fallback::outcome(error.class);
        self.store(asking, &failed, outcome).await
    }

    /// Stores the calls that were put by. That they were wrong about the request is a failure of their models.
    async fn record_refused(
        &self,
        asking: &Asking<'_>,
        failures: &mut Failures,
        outcome: Attempted,
    ) -> Result<(), DbError> {
        for failed in failures.refused.drain(..) {
            self.store(asking, &failed, outcome).await?;
        }
        Ok(())
    }

    async fn store(&self, asking: &Asking<'_>, failed: &Failed, outcome: Attempted) -> Result<(), DbError> {
        let result = JobResult { outcome: Some(outcome), ..failed.row(asking.choice) };
        let (job_type, workflow_type) = (asking.job_type, asking.workflow_type);
        let call = FailedCall { job_type, workflow_type, result };
        self.purse.failed(asking.caller(), &call).await
    }

    /// The answer that is kept for this request, as one that cost nothing.
    async fn kept(&self, asking: &Asking<'_>) -> Result<Option<Answer>, DbError> {
        let (Some(_), Some(info)) = (asking.cache, self.gateway.model(&asking.choice.model)) else { return Ok(None) };
        let started = Instant::now();
        let key = key::key(info, asking.chat);
        let stored = persist(asking.cancelled, || self.answers.find(&key)).await?;
        // One that cannot be read was kept by another program; it is asked for anew.
        let Some(answer) = stored.and_then(|value| serde_json::from_value::<Answer>(value).ok()) else {
            return Ok(None);
        };
        let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Some(Answer {
            usage: Usage::default(),
            usage_estimated: false,
            raw_usage: Value::Null,
            time_to_first_token_ms: took,
            duration_ms: took,
            cost: Cost { nanousd: Some(0), prices_version: CACHE_VERSION.to_owned() },
            cached: true,
            ..answer
        }))
    }

    /// Keeps a whole answer. It is there for later requests; this one has what it wants, so trouble is only told.
    async fn keep(&self, asking: &Asking<'_>, model: &str, answer: &Answer) {
        let (Some(period), Some(info)) = (asking.cache, self.gateway.model(model)) else { return };
        let Ok(value) = serde_json::to_value(answer) else { return };
        if answer.finish_reason != FinishReason::Stop || value.to_string().len() > KEPT_BYTES_MAX {
            return;
        }
        let key = key::key(info, asking.chat);
        if let Err(error) = self.answers.keep(&key, model, &value, period).await {
            tracing::warn!(target: "job", id = asking.job.id, %error, "the answer was not kept for later requests");
        }
    }
}

impl Failures {
    /// A failure that `ends` the calls decides alone what the job does.
    fn add(&mut self, error: LlmError, hop: i32, took: Duration, ends: bool) {
        let advice = fallback::advice(&error, self.snoozes, rand::random());
        self.advise(advice, self.advice.filter(|_| !ends));
        self.reasons.push(format!("[{}] {error}", error.code()));
        self.last = Some(Failed { error, hop, took });
    }

    fn waits(&mut self, reason: String, wait: Duration) {
        self.advise(Advice::Snooze(wait), self.advice);
        self.reasons.push(reason);
    }

    fn advise(&mut self, advice: Advice, so_far: Option<Advice>) {
        self.advice = Some(so_far.map_or(advice, |so_far| fallback::better(so_far, advice, self.is_last_attempt)));
    }
}

/// The request as it is sent to this model: with a key of its own, the same at every attempt. A gateway in front of
/// several models would answer the second by what it remembers of the first. (A header holds it: names of models are at
/// most 127 letters, digits and underscores.)
fn of_model(chat: &ChatRequest, model: &str) -> ChatRequest {
    let key = chat.idempotency_key.as_ref();
    ChatRequest { idempotency_key: key.map(|key| format!("{key}-{model}")), ..chat.clone() }
}

/// What a failed call leaves, in the words of `job_results`.
pub(super) fn failed_call(error: &LlmError) -> JobResult {
    let partial = error.partial.as_deref();
    JobResult {
        error_reason: Some(banner(error)),
        cost_nanousd: match spent(Err(error)) {
            Spent::Call(nanousd) => nanousd,
            Spent::Nothing => Some(0),
        },
        prices_version: partial.map(|partial| partial.cost.prices_version.clone()),
        provider: (!error.provider.is_empty()).then(|| error.provider.clone()),
        model_used: Some(error.model.clone()),
        simulated: error.simulated,
        tokens_input: partial.map(|partial| count(partial.usage.input_total())),
        tokens_output: partial.map(|partial| count(partial.usage.output)),
        time_to_first_token_ms: partial.and_then(|partial| partial.time_to_first_token_ms).map(count),
        input_summary: json!({}),
        result_summary: json!({ "class": error.class, "status": error.status, "provider_code": error.provider_code }),
        outcome: Some(fallback::outcome(error.class)),
        ..JobResult::default()
    }
}

/// What an answered call says about its model. One that did not come to its end has failed, although its job has the
/// text; but who sets a limit, `max_tokens`, wants what fits into it.
pub(super) fn answered(answer: &Answer, max_tokens: Option<u32>) -> Attempted {
    match answer.finish_reason {
        _ if answer.cached => Attempted::Cached,
        FinishReason::Length if max_tokens.is_none() => Attempted::Failure,
        _ => Attempted::Success,
    }
}

/// How often the job was put off.
pub(super) fn snoozes(job: &Job) -> u64 {
    job.meta.get("snoozed").and_then(Value::as_u64).unwrap_or(0)
}

/// Snoozes give the attempt back, so the number of failures and snoozes tells one call from the next.
fn call_number(job: &Job) -> u32 {
    u32::try_from(snoozes(job)).unwrap_or(u32::MAX).saturating_add(job.attempt.unsigned_abs())
}
