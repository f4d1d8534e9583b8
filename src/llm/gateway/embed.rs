//! Vectors through the same door: providers, breakers and prices as of every call.

use std::ops::Range;

use tokio::time::Instant;

use super::{Gateway, ModelEntry, ProviderEntry, record, unsent};
use crate::config::ModelKind;
use crate::llm::breaker::Outcome;
use crate::llm::embedding::{BATCH_ITEMS_DEFAULT, BATCH_TOKENS_DEFAULT, Batch, Embedded, batches};
use crate::llm::error::{ErrorClass, LlmError};
use crate::llm::reply::{Failure, Spent, millis};
use crate::llm::setup::Backend;
use crate::llm::usage::{Usage, estimate_tokens};
use crate::llm::{embedding_http, end, hashing};

/// Numbers in the vectors of one request: whoever stores an answer as it came wants it below 4 MiB.
const BATCH_NUMBERS_MAX: usize = 600_000;
/// How long vectors are taken to be whose length the configuration does not say.
const DIMENSIONS_UNKNOWN: u32 = 4_096;

/// What is known after some of the requests.
struct Sum {
    embedded: Vec<Vec<f32>>,
    usage: Usage,
    estimated: bool,
    raw_usage: Vec<serde_json::Value>,
    model_reported: Option<String>,
}

impl Gateway {
    /// The requests that `texts` are asked by, as places in the list: in order, within the limits of the model.
    ///
    /// # Errors
    /// `E0506` for a model that is not configured.
    pub fn embedding_batches(&self, model: &str, texts: &[&str]) -> Result<Vec<Range<usize>>, LlmError> {
        let Some(entry) = self.models.get(model) else { return Err(self.unknown(model)) };
        Ok(batches_of(entry, texts))
    }

    /// What vectors for `texts` may cost by what is known before, at four bytes a token. `None` where no price is
    /// known.
    pub fn estimate_embedding_nanousd(&self, model: &str, texts: &[&str]) -> Option<i64> {
        let bytes = texts.iter().map(|text| text.len()).fold(0, usize::saturating_add);
        self.models.get(model)?.setup.price?.cost_nanousd(&Usage::estimate(bytes, 0))
    }

    /// A vector for each text, in order, by as few requests as the model's limits allow, one after the other.
    ///
    /// `idempotency_key` names the whole; each request has a key made from it and its number.
    ///
    /// Cancel safety: dropping the future closes the connection. What the provider bills is then recorded nowhere.
    ///
    /// # Errors
    /// `E0501` to `E0507`, by class; what requests before the failed one have spent is in `partial`.
    pub async fn embed(&self, model: &str, texts: &[&str], idempotency_key: &str) -> Result<Embedded, LlmError> {
        self.embed_until(model, texts, idempotency_key, None).await
    }

    /// The same for somebody who has no time after `until`, as of [`Gateway::chat_until`].
    ///
    /// # Errors
    /// As [`Gateway::embed`].
    pub async fn embed_until(
        &self,
        model: &str,
        texts: &[&str],
        idempotency_key: &str,
        until: Option<Instant>,
    ) -> Result<Embedded, LlmError> {
        let started = Instant::now();
        let Some(entry) = self.models.get(model) else { return Err(self.unknown(model)) };
        let Some(provider) = self.providers.get(&entry.info.provider) else { return Err(self.unknown(model)) };
        let refuse = |message: String| self.error(entry, unsent(ErrorClass::Permanent, message));
        if entry.info.kind != ModelKind::Embedding {
            return Err(refuse(
                "it answers with text, not with vectors; name a model with kind = \"embedding\"".into(),
            ));
        }
        if let Some(blank) = texts.iter().position(|text| text.trim().is_empty()) {
            return Err(refuse(format!("text {blank} is blank")));
        }
        let mut sum = Sum {
            embedded: Vec::with_capacity(texts.len()),
            usage: Usage::default(),
            estimated: false,
            raw_usage: Vec::new(),
            model_reported: None,
        };
        for (number, range) in batches_of(entry, texts).into_iter().enumerate() {
            let key = format!("{idempotency_key}-{number}");
            match self.embed_batch(entry, provider, &texts[range], &key, until).await {
                Ok(batch) => self.add(entry, &mut sum, batch)?,
                Err(error) => return Err(self.with_spent(entry, error, &sum)),
            }
        }
        Ok(Embedded {
            cost: self.cost(entry, &sum.usage),
            vectors: sum.embedded,
            model: entry.info.name.clone(),
            model_reported: sum.model_reported,
            provider: entry.info.provider.clone(),
            usage: sum.usage,
            usage_estimated: sum.estimated,
            raw_usage: sum.raw_usage,
            simulated: entry.info.simulated,
            duration_ms: millis(started.elapsed()),
        })
    }

    /// One request, past both breakers.
    async fn embed_batch(
        &self,
        entry: &ModelEntry,
        provider: &ProviderEntry,
        texts: &[&str],
        key: &str,
        until: Option<Instant>,
    ) -> Result<Batch, LlmError> {
        let guess = texts.iter().map(|text| estimate_tokens(text.len())).fold(0, u64::saturating_add);
        let turn = self.turn(entry, provider, guess)?;
        turn.wait().await;
        end::in_time(until).map_err(|failure| self.error(entry, failure))?;
        let now = self.started.elapsed();
        let account_leave = self.admit(entry, ("provider", &entry.info.provider), &provider.breaker, now)?;
        let model_leave = self.admit(entry, ("model", &entry.info.name), &entry.breaker, now)?;
        let spec = &entry.setup.embedding;
        let outcome = match &provider.backend {
            Backend::Http(endpoint) => {
                embedding_http::call(endpoint, &entry.info.upstream, spec, texts, key, until).await
            }
            Backend::Command(_) => {
                let message = "its provider is a local program, which makes no vectors; use one of kind \"openai\"";
                Err(unsent(ErrorClass::Permanent, message.to_owned()))
            }
            Backend::Simulated => Ok(hashed(texts, spec.dimensions.unwrap_or(hashing::DIMENSIONS_DEFAULT)).await),
        };
        let now = self.started.elapsed();
        provider.tell(&entry.info.provider, outcome.as_ref().err());
        match outcome {
            Ok(batch) => {
                turn.answered(batch.usage.total());
                account_leave.record(now, Outcome::Healthy);
                model_leave.record(now, Outcome::Healthy);
                Ok(batch)
            }
            Err(failure) => {
                turn.failed(&failure, now);
                record(now, account_leave, model_leave, &failure);
                Err(self.error(entry, failure))
            }
        }
    }

    /// Takes a request's vectors; those of another length than the ones before are refused.
    fn add(&self, entry: &ModelEntry, sum: &mut Sum, batch: Batch) -> Result<(), LlmError> {
        sum.usage = plus(&sum.usage, &batch.usage);
        sum.estimated |= batch.usage_estimated;
        let length = |vectors: &[Vec<f32>]| vectors.first().map(Vec::len);
        if let (Some(before), Some(now)) = (length(&sum.embedded), length(&batch.vectors))
            && before != now
        {
            let message = format!("its vectors have {before} numbers in one answer and {now} in the next");
            let failure = Failure::new(ErrorClass::Transient, message);
            return Err(self.with_spent(entry, self.error(entry, failure), sum));
        }
        sum.embedded.extend(batch.vectors);
        sum.raw_usage.push(batch.raw_usage);
        sum.model_reported = batch.model_reported.or(sum.model_reported.take());
        Ok(())
    }

    /// The error with what all requests until then have spent.
    fn with_spent(&self, entry: &ModelEntry, error: LlmError, sum: &Sum) -> LlmError {
        if sum.usage == Usage::default() {
            return error;
        }
        let (usage, estimated) = match &error.partial {
            Some(partial) => (plus(&sum.usage, &partial.usage), sum.estimated || partial.estimated),
            None => (sum.usage, sum.estimated),
        };
        let spent = Spent { usage, estimated, text_bytes: 0, time_to_first_token_ms: None };
        let whole = Failure { spent: Some(Box::new(spent)), ..Failure::new(error.class, "") };
        LlmError { partial: self.error(entry, whole).partial, sent: true, ..error }
    }
}

fn batches_of(entry: &ModelEntry, texts: &[&str]) -> Vec<Range<usize>> {
    let spec = &entry.setup.embedding;
    let items = usize::try_from(spec.batch_items.unwrap_or(BATCH_ITEMS_DEFAULT)).unwrap_or(1);
    let dimensions = usize::try_from(spec.dimensions.unwrap_or(DIMENSIONS_UNKNOWN)).unwrap_or(1);
    let items = items.min(BATCH_NUMBERS_MAX / dimensions.max(1)).max(1);
    batches(texts, items, u64::from(spec.batch_tokens.unwrap_or(BATCH_TOKENS_DEFAULT)))
}

/// Vectors of the embedder that needs no network. It computes for long, so it lets others run between two texts.
async fn hashed(texts: &[&str], dimensions: u32) -> Batch {
    let mut vectors = Vec::with_capacity(texts.len());
    for text in texts {
        vectors.push(hashing::embed(text, dimensions));
        tokio::task::yield_now().await;
    }
    let usage = Usage::estimate(texts.iter().map(|text| text.len()).sum(), 0);
    Batch {
        vectors,
        model_reported: None,
        usage,
        usage_estimated: true,
        raw_usage: serde_json::json!({
            "simulated": true, "embedder": hashing::EMBEDDER, "prompt_tokens": usage.input_fresh
        }),
    }
}

fn plus(left: &Usage, right: &Usage) -> Usage {
    Usage {
        input_fresh: left.input_fresh.saturating_add(right.input_fresh),
        input_cache_read: left.input_cache_read.saturating_add(right.input_cache_read),
        input_cache_write_5m: left.input_cache_write_5m.saturating_add(right.input_cache_write_5m),
        input_cache_write_1h: left.input_cache_write_1h.saturating_add(right.input_cache_write_1h),
        output: left.output.saturating_add(right.output),
        service_tier: right.service_tier,
        output_reasoning: left.output_reasoning.saturating_add(right.output_reasoning),
    }
}
