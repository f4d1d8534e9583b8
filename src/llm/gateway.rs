//! The one door to all models: names → providers, breakers, prices.
//!
//! Built once from the frozen configuration and shared; calls need no lock but the breakers', which is never held
//! across an await. Which model serves a request is decided elsewhere: here a name is called or not called.
//!
//! There are two breakers on the way of a call, because trouble has two scopes: money and rejected keys concern every
//! model of a provider, everything else the one model.

mod embed;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::answer::Answer;
use super::breaker::{Breaker, BreakerView, Outcome, Permit, Rejection};
use super::endpoint::KeyState;
use super::error::{ErrorClass, LlmError, Partial};
use super::governor::Governor;
use super::pace::Turn;
use super::prices::{CONFIGURED_VERSION, Cost};
use super::reply::{Failure, Reply};
use super::request::ChatRequest;
use super::setup::{self, Backend, GatewayProblem, ModelSetup, nearest};
use super::usage::{Usage, estimate_tokens};
use super::{command, end, http, simulated};
use crate::config::{Config, ModelKind};
use crate::error::Coded as _;

/// Model names that are listed in an error.
const NAMES_SHOWN_MAX: usize = 10;

/// What is known of a model without calling it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// Our name.
    pub name: String,
    /// Our name of its provider.
    pub provider: String,
    /// The provider's name of it.
    pub upstream: String,
    /// What it answers with.
    pub kind: ModelKind,
    /// Output limit of requests that name none, in tokens.
    pub max_tokens: u32,
    /// Its answers are made up.
    pub simulated: bool,
    /// Its cost is known.
    pub priced: bool,
}

/// State of a provider, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderStatus {
    /// Our name.
    pub name: String,
    /// The address that is called; `None` for a program and for a simulated provider.
    pub url: Option<String>,
    /// Its answers are made up.
    pub simulated: bool,
    /// Whether its key is there.
    pub key: KeyState,
    /// Breaker for what concerns the whole account.
    pub breaker: BreakerView,
    /// Breakers of its models.
    pub models: BTreeMap<String, BreakerView>,
}

#[derive(Debug)]
struct ProviderEntry {
    backend: Backend,
    breaker: Mutex<Breaker>,
    governor: Mutex<Governor>,
    /// The last call could not be made as it is configured here.
    is_unusable: AtomicBool,
}

impl ProviderEntry {
    /// Says in the log when calls begin to fail for what is missing here: every one of them would say it otherwise.
    fn tell(&self, name: &str, failure: Option<&Failure>) {
        let missing = failure.filter(|failure| !failure.sent && failure.class == ErrorClass::Misconfigured);
        let was_told = self.is_unusable.swap(missing.is_some(), Ordering::Relaxed);
        if let (Some(Failure { message, .. }), false) = (missing, was_told) {
            tracing::warn!(provider = name, reason = message, "calls cannot be made from here");
        }
    }
}

#[derive(Debug)]
struct ModelEntry {
    info: ModelInfo,
    setup: ModelSetup,
    breaker: Mutex<Breaker>,
    governor: Mutex<Governor>,
}

/// All configured models.
#[derive(Debug)]
pub struct Gateway {
    providers: BTreeMap<String, ProviderEntry>,
    models: BTreeMap<String, ModelEntry>,
    prices_version: String,
    /// Zero of the breakers' clock.
    started: Instant,
}

/// Leave of one breaker; given back without an outcome when the call is dropped.
struct Admission<'a> {
    /// What is held back when it opens: `provider p` or `model m`.
    scope: (&'static str, &'a str),
    breaker: &'a Mutex<Breaker>,
    permit: Option<Permit>,
}

impl Admission<'_> {
    fn record(mut self, now: Duration, outcome: Outcome<'_>) {
        let Some(permit) = self.permit.take() else { return };
        let opened = lock(self.breaker).record(now, permit, outcome);
        if let (true, Outcome::Failed { class, reason, .. }) = (opened, outcome) {
            tracing::warn!(scope = self.scope.0, name = self.scope.1, %class, reason, "calls are held back");
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            lock(self.breaker).abandon(permit);
        }
    }
}

/// A breaker is whole between any two of its statements that can panic, so a poisoned lock is as good as another.
fn lock(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gateway {
    /// Builds all providers and models. No key is read and no connection made: a missing key is an error of the call
    /// that needs it.
    ///
    /// # Errors
    /// Every problem of `[providers]` and `[models]` at once.
    pub fn new(config: &Config) -> Result<Self, Vec<GatewayProblem>> {
        let setup = setup::read(config)?;
        let mut models = BTreeMap::new();
        for (name, model) in setup.models {
            let info = ModelInfo {
                name: name.clone(),
                provider: model.provider.clone(),
                upstream: model.upstream.clone(),
                kind: model.kind,
                max_tokens: model.max_tokens,
                simulated: matches!(setup.backends.get(&model.provider), Some(Backend::Simulated)),
                priced: model.price.is_some(),
            };
            let governor = Mutex::new(Governor::new(&model.limits));
            models.insert(name, ModelEntry { info, setup: model, breaker: Mutex::default(), governor });
        }
        let entry = |(name, backend): (String, Backend)| {
            let limits = config.providers.get(&name).map(|provider| provider.limits).unwrap_or_default();
            let governor = Mutex::new(Governor::new(&limits));
            let is_unusable = AtomicBool::new(false);
            (name, ProviderEntry { backend, breaker: Mutex::default(), governor, is_unusable })
        };
        Ok(Self {
            providers: setup.backends.into_iter().map(entry).collect(),
            models,
            prices_version: setup.prices_version,
            started: Instant::now(),
        })
    }

    /// What is known of a model; `None` when it is not configured.
    pub fn model(&self, name: &str) -> Option<&ModelInfo> {
        self.models.get(name).map(|entry| &entry.info)
    }

    /// All models by name.
    pub fn models(&self) -> impl Iterator<Item = &ModelInfo> {
        self.models.values().map(|entry| &entry.info)
    }

    /// Date of the price table in use.
    pub fn prices_version(&self) -> &str {
        &self.prices_version
    }

    /// Keys and breakers of all providers. Reads the key references anew.
    pub fn providers_status(&self) -> Vec<ProviderStatus> {
        let now = self.started.elapsed();
        let status = |(name, provider): (&String, &ProviderEntry)| {
            let (url, key, simulated) = match &provider.backend {
                Backend::Http(http) => (Some(http.url().to_owned()), http.key_state(), false),
                Backend::Command(_) => (None, KeyState::NotNeeded, false),
                Backend::Simulated => (None, KeyState::NotNeeded, true),
            };
            let models = self.models.values().filter(|model| model.info.provider == *name);
            ProviderStatus {
                name: name.clone(),
                url,
                simulated,
                key,
                breaker: lock(&provider.breaker).view(now),
                models: models.map(|model| (model.info.name.clone(), lock(&model.breaker).view(now))).collect(),
            }
        };
        self.providers.iter().map(status).collect()
    }

    /// Whether a call of this model would be refused now because of earlier failures; also of one that is not
    /// configured. A model whose probe is due counts as one that can be called.
    pub fn is_held_back(&self, model: &str) -> bool {
        let Some(entry) = self.models.get(model) else { return true };
        let now = self.started.elapsed();
        let is_open = |breaker: &Mutex<Breaker>| match lock(breaker).view(now) {
            BreakerView::Closed => false,
            BreakerView::Open { retry_in_ms, .. } => retry_in_ms > 0,
            BreakerView::HalfOpen { .. } => true,
        };
        is_open(&entry.breaker) || self.providers.get(&entry.info.provider).is_none_or(|own| is_open(&own.breaker))
    }

    /// Asks a model, at the pace of the configured limits: a call that would be too early by a moment waits here, by
    /// more than [`super::PACE_PATIENCE`] is throttled without being sent.
    ///
    /// A connection that fails before anything of an answer came is tried once more in place; everything
    /// else is the job's to repeat, see [`LlmError::advice`].
    ///
    /// `attempt` numbers the calls for one request, from 1. It must differ from call to call, snoozed ones included,
    /// which spend no attempt of the job: a simulated model draws the fate of a call from it.
    ///
    /// Cancel safety: dropping the future closes the connection and frees a breaker's probe. What the provider bills
    /// for the part that it produced is recorded nowhere; who has a limit of its own asks by [`Gateway::chat_until`].
    ///
    /// # Errors
    /// `E0501` to `E0508`, by class.
    pub async fn chat(&self, model: &str, request: &ChatRequest, attempt: u32) -> Result<Answer, LlmError> {
        self.chat_until(model, request, attempt, None).await
    }

    /// The same for somebody who has no time after `until`. A call that is not over then ends as one that took longer
    /// than the provider may: with what it used up, and counted by the breaker.
    ///
    /// # Errors
    /// As [`Gateway::chat`].
    pub async fn chat_until(
        &self,
        model: &str,
        request: &ChatRequest,
        attempt: u32,
        until: Option<Instant>,
    ) -> Result<Answer, LlmError> {
        let Some(entry) = self.models.get(model) else { return Err(self.unknown(model)) };
        let Some(provider) = self.providers.get(&entry.info.provider) else { return Err(self.unknown(model)) };
        if entry.info.kind != ModelKind::Chat {
            let message = "it answers with vectors, not with text; name a model with kind = \"chat\"";
            return Err(self.error(entry, unsent(ErrorClass::Permanent, message.to_owned())));
        }
        if let Err(problem) = request.validate() {
            let message = match problem.hint() {
                Some(hint) => format!("{problem}; {hint}"),
                None => problem.to_string(),
            };
            return Err(self.error(entry, unsent(ErrorClass::Permanent, message)));
        }
        let max_tokens = request.max_tokens.unwrap_or(entry.info.max_tokens);
        let guess = estimate_tokens(request.message_bytes()).saturating_add(u64::from(max_tokens));
        let turn = self.turn(entry, provider, guess)?;
        turn.wait().await;
        end::in_time(until).map_err(|failure| self.error(entry, failure))?;
        let now = self.started.elapsed();
        let account_leave = self.admit(entry, ("provider", &entry.info.provider), &provider.breaker, now)?;
        let model_leave = self.admit(entry, ("model", &entry.info.name), &entry.breaker, now)?;
        let upstream = &entry.info.upstream;
        let outcome = match &provider.backend {
            Backend::Http(endpoint) => http::call(endpoint, upstream, request, max_tokens, until).await,
            Backend::Command(program) => command::call(program, upstream, request, max_tokens, until).await,
            Backend::Simulated => {
                let call = simulated::call(&entry.setup.simulated, upstream, request, max_tokens, attempt);
                end::within(until, call).await
            }
        };
        let now = self.started.elapsed();
        provider.tell(&entry.info.provider, outcome.as_ref().err());
        match outcome {
            Ok(reply) => {
                turn.answered(reply.usage.total());
                account_leave.record(now, Outcome::Healthy);
                model_leave.record(now, Outcome::Healthy);
                Ok(self.answer(entry, reply))
            }
            Err(failure) => {
                turn.failed(&failure, now);
                record(now, account_leave, model_leave, &failure);
                let error = self.error(entry, failure);
                tracing::debug!(model, provider = %error.provider, class = %error.class, status = error.status, "call failed");
                Err(error)
            }
        }
    }

    /// What a call may cost at most by what is known before it: the texts at four bytes a token, and the output limit.
    /// `None` where no price is known.
    pub fn estimate_nanousd(&self, model: &str, request: &ChatRequest) -> Option<i64> {
        let entry = self.models.get(model)?;
        let max_tokens = request.max_tokens.unwrap_or(entry.info.max_tokens);
        let usage = Usage { output: u64::from(max_tokens), ..Usage::estimate(request.message_bytes(), 0) };
        entry.setup.price?.cost_nanousd(&usage)
    }

    /// Leave of the limits of pace for a call of about so many tokens.
    fn turn<'a>(&self, entry: &'a ModelEntry, provider: &'a ProviderEntry, guess: u64) -> Result<Turn<'a>, LlmError> {
        Turn::take([&provider.governor, &entry.governor], guess, self.started.elapsed()).map_err(|slow| {
            let scope = ["providers", "models"][slow.governor.min(1)];
            let name = [&entry.info.provider, &entry.info.name][slow.governor.min(1)];
            let message = format!("not called, because {scope}.{name}.limits.{} is reached", slow.limit);
            self.error(entry, Failure { retry_after: Some(slow.wait), ..unsent(ErrorClass::Throttled, message) })
        })
    }

    fn admit<'a>(
        &self,
        entry: &ModelEntry,
        scope: (&'static str, &'a str),
        breaker: &'a Mutex<Breaker>,
        now: Duration,
    ) -> Result<Admission<'a>, LlmError> {
        match lock(breaker).admit(now) {
            Ok(permit) => Ok(Admission { scope, breaker, permit: Some(permit) }),
            Err(Rejection { class, reason, retry_after }) => {
                let failure = unsent(class, format!("not called, because of an earlier failure: {reason}"));
                Err(self.error(entry, Failure { retry_after: Some(retry_after), ..failure }))
            }
        }
    }

    fn answer(&self, entry: &ModelEntry, reply: Reply) -> Answer {
        Answer {
            cost: self.cost(entry, &reply.usage),
            text: reply.text,
            finish_reason: reply.finish_reason,
            usage: reply.usage,
            usage_estimated: reply.usage_estimated,
            raw_usage: reply.raw_usage,
            model: entry.info.name.clone(),
            model_reported: reply.model_reported,
            provider: entry.info.provider.clone(),
            provider_request_id: reply.request_id,
            time_to_first_token_ms: reply.time_to_first_token_ms,
            duration_ms: reply.duration_ms,
            simulated: entry.info.simulated,
            cached: false,
        }
    }

    fn error(&self, entry: &ModelEntry, failure: Failure) -> LlmError {
        let partial = failure.spent.map(|spent| {
            Box::new(Partial {
                cost: self.cost(entry, &spent.usage),
                usage: spent.usage,
                estimated: spent.estimated,
                text_bytes: spent.text_bytes,
                time_to_first_token_ms: spent.time_to_first_token_ms,
            })
        });
        LlmError {
            class: failure.class,
            message: failure.message,
            status: failure.status,
            provider_code: failure.provider_code.map(String::into_boxed_str),
            retry_after: failure.retry_after,
            partial,
            provider: entry.info.provider.clone(),
            model: entry.info.name.clone(),
            simulated: entry.info.simulated,
            sent: failure.sent,
        }
    }

    fn cost(&self, entry: &ModelEntry, usage: &Usage) -> Cost {
        let version = if entry.setup.price_is_configured { CONFIGURED_VERSION } else { &self.prices_version };
        let nanousd = entry.setup.price.and_then(|price| price.cost_nanousd(usage));
        Cost { nanousd, prices_version: version.to_owned() }
    }

    fn unknown(&self, model: &str) -> LlmError {
        let names = || self.models.keys().map(String::as_str);
        let asked: String = model.chars().take(64).collect();
        let mut message = format!("model {asked:?} is not in [models]");
        match nearest(model, names()) {
            Some(name) => message.push_str(&format!("; did you mean {name:?}?")),
            None if self.models.is_empty() => message.push_str(", which is empty"),
            None => {
                let shown: Vec<&str> = names().take(NAMES_SHOWN_MAX).collect();
                let more = if self.models.len() > shown.len() { ", …" } else { "" };
                message.push_str(&format!("; there are {}{more}", shown.join(", ")));
            }
        }
        LlmError {
            class: ErrorClass::Misconfigured,
            message,
            status: None,
            provider_code: None,
            retry_after: None,
            partial: None,
            provider: String::new(),
            model: asked,
            simulated: false,
            sent: false,
        }
    }
}

fn unsent(class: ErrorClass, message: String) -> Failure {
    Failure { sent: false, ..Failure::new(class, message) }
}

/// Tells each breaker what concerns it.
fn record(now: Duration, account: Admission<'_>, endpoint: Admission<'_>, failure: &Failure) {
    // A key that is not there costs no call, and works from the moment it is: nothing to hold back.
    if !failure.sent {
        return;
    }
    let outcome = Outcome::Failed { class: failure.class, reason: &failure.message, retry_after: failure.retry_after };
    // 403 may concern one model only, so the whole account is held back for 401 alone.
    let concerns_account = failure.class == ErrorClass::Exhausted
        || (failure.class == ErrorClass::Misconfigured && failure.status == Some(401));
    if concerns_account {
        account.record(now, outcome);
        return;
    }
    // A network error says nothing about key and money; any other answer says that they were accepted.
    if failure.class != ErrorClass::Transient {
        account.record(now, Outcome::Healthy);
    }
    endpoint.record(now, outcome);
}
