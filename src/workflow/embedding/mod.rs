//! The `embedding` workflow: receive → validate → generate → publish.
//!
//! `generate` asks the model in batches, several at a time. What a batch came to is stored before anything else
//! happens, so a crash after it pays nothing twice; then its vectors are written to their table, guarded by the job's
//! attempt. That may be repeated: it writes the same again. So vectors of a large request appear batch by batch.
//! Budgets count each request to the model; where one has no room the job waits with what it has stored.

mod ranking;
mod request;
mod vectors;

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use ranking::cosine;
pub use request::{
    COLLECTION_DEFAULT, EmbeddingRequest, InvalidEmbedding, Item, KEY_CHARS_MAX, TEXT_BYTES_MAX, TEXT_TOKENS_MAX,
    TEXTS_MAX,
};
pub use vectors::{
    Collection, Entry, Found, LISTING_MAX, Match, NewVectors, Query, SEARCH_LIMIT_MAX, SEARCH_VECTORS_MAX, SearchError,
    Vectors, Written,
};

use super::definition::{Definition, Effect, Step, StepContext, StepError, StepOutput, Work};
use super::models::{Caller, Purse, advice, calls_until, failed_call, snoozes, spent};
use super::result::{Attempted, JobResult};
use super::steps::{SUMMARY_CHARS_MAX, banner, count, database, output, refuse, sum, to_output, unreadable};
use super::walk::persist;
use crate::config::{Config, ModelKind, nearest};
use crate::error::Coded;
use crate::llm::{Advice, Gateway, LlmError};
use crate::postgres::Database;
use crate::queue::{HANDED_BACK_WAIT, Outcome};

/// Name in the `worker` column.
pub const EMBEDDING: &str = "embedding";
/// Name of the workflow.
const NAME: &str = "Embedding";
/// Requests of one job to its model at the same time.
const BATCHES_PARALLEL: usize = 4;

/// Why a request cannot be served as it is configured here.
#[derive(Debug, thiserror::Error)]
pub enum UnservableEmbedding {
    /// No such model, or one that answers with text.
    #[error("model {name:?} is {problem}; models that make vectors are {known}")]
    Model {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
        /// Those that could be named.
        known: String,
        /// The nearest of them.
        suggestion: Option<String>,
    },
    /// A text that does not fit into a request to this model.
    #[error("text {position} has about {found} tokens, and a request to model {model:?} at most {max}")]
    TextTooLong {
        /// Its place, from 0.
        position: usize,
        /// Its size.
        found: u64,
        /// The model.
        model: String,
        /// What is allowed.
        max: u32,
    },
}

impl Coded for UnservableEmbedding {
    fn code(&self) -> &'static str {
        "E0655"
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Model { suggestion: Some(name), .. } => format!("did you mean {name:?}?"),
            Self::Model { suggestion: None, .. } => {
                "name one of these, leave the model out, or add it to [models] with kind = \"embedding\"".into()
            }
            Self::TextTooLong { model, .. } => {
                format!("split the text, or raise batch_tokens in [models.{model}.embedding]")
            }
        })
    }
}

/// One request to the model: an element of the list that `validate` comes to.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Batch {
    model: String,
    /// Texts from here.
    from: usize,
    /// To here, exclusive.
    to: usize,
}

/// What a request to the model came to: vectors as they are stored, in base64.
#[derive(Debug, Serialize, Deserialize)]
struct Generated {
    batch: Batch,
    vectors: Vec<String>,
    made: Made,
}

/// What is known of a batch apart from its vectors.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Made {
    dimensions: usize,
    provider: String,
    model: String,
    model_reported: Option<String>,
    simulated: bool,
    tokens_input: i64,
    usage_estimated: bool,
    usage: Vec<Value>,
    cost_nanousd: Option<i64>,
    prices_version: String,
}

/// What became of a batch: an element of the list that `generate` comes to.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    stored: i64,
    newer: i64,
    made: Made,
}

/// The definition, bound to configuration, providers and tables.
pub fn embedding(config: Arc<Config>, gateway: Arc<Gateway>, db: Database) -> Definition {
    let timeout = config.workflows.embedding.timeout.get();
    let (purse, vectors) = (Purse::new(Arc::clone(&config), db.clone()), Vectors::new(db));
    let batching = Arc::clone(&gateway);
    let ask = Step::external("ask", move |context: StepContext| {
        let (gateway, purse) = (Arc::clone(&gateway), purse.clone());
        async move { ask(&context, &gateway, &purse).await }
    });
    let store = Step::external("store", move |context: StepContext| {
        let vectors = vectors.clone();
        async move { store(&context, &vectors).await }
    });
    let batch = Work::Steps(Arc::from([ask, store]));
    Definition {
        worker: EMBEDDING,
        name: NAME,
        version: 1,
        timeout,
        steps: vec![
            Step::pure("receive", |context| async move { receive(&context) }),
            Step::pure("validate", move |context| {
                let (config, gateway) = (Arc::clone(&config), Arc::clone(&batching));
                async move { validate(&context, &config, &gateway) }
            }),
            Step::new("generate", Effect::External, Work::Each { work: Box::new(batch), parallel: BATCHES_PARALLEL }),
            Step::pure("publish", |context| async move { publish(&context) }),
        ],
    }
}

/// Checks and normalises the job's arguments. What is wrong with them stays wrong, so the job is not tried again.
fn receive(context: &StepContext) -> Result<StepOutput, StepError> {
    let request = parsed(context).map_err(|error| refuse(&error, None, json!({})))?;
    to_output(NAME, &request)
}

fn parsed(context: &StepContext) -> Result<EmbeddingRequest, InvalidEmbedding> {
    EmbeddingRequest::parse(&context.job.args)
}

/// Whether what is configured here can serve the request, and by which requests to its model.
fn validate(context: &StepContext, config: &Config, gateway: &Gateway) -> Result<StepOutput, StepError> {
    let request: EmbeddingRequest = output(NAME, context, 0)?;
    let (id, summary) = (request.id.as_deref(), request.summary(SUMMARY_CHARS_MAX));
    let model = plan(&request, config).map_err(|error| refuse(&error, id, summary.clone()))?;
    let ranges = gateway.embedding_batches(&model, &request.texts()).map_err(|error| refuse(&error, id, summary))?;
    let batches: Vec<Batch> =
        ranges.into_iter().map(|range| Batch { model: model.clone(), from: range.start, to: range.end }).collect();
    to_output(NAME, &batches)
}

/// The model that serves the request.
///
/// # Errors
/// [`UnservableEmbedding`].
fn plan(request: &EmbeddingRequest, config: &Config) -> Result<String, UnservableEmbedding> {
    let name = request.model.as_ref().filter(|name| *name != "auto").unwrap_or(&config.workflows.embedding.model);
    let makes_vectors = || config.models.iter().filter(|(_, model)| model.kind == ModelKind::Embedding);
    let Some(model) = config.models.get(name).filter(|model| model.kind == ModelKind::Embedding) else {
        let names: Vec<&str> = makes_vectors().map(|(name, _)| name.as_str()).collect();
        return Err(UnservableEmbedding::Model {
            name: name.clone(),
            problem: if config.models.contains_key(name) { "one that answers with text" } else { "not configured" },
            known: if names.is_empty() { "none".into() } else { names.join(", ") },
            suggestion: nearest(name, names).map(str::to_owned),
        });
    };
    let max = model.embedding.as_ref().and_then(|spec| spec.batch_tokens).unwrap_or(crate::llm::BATCH_TOKENS_DEFAULT);
    let sizes = request.items.iter().map(|item| crate::llm::estimate_tokens(item.text.len()));
    match sizes.enumerate().find(|(_, size)| *size > u64::from(max)) {
        Some((position, found)) => Err(UnservableEmbedding::TextTooLong { position, found, model: name.clone(), max }),
        None => Ok(name.clone()),
    }
}

/// The batch and the request that it is of. Steps inside of a list see the list's element, not what stands before it.
fn within<T: DeserializeOwned>(context: &StepContext) -> Result<(T, EmbeddingRequest), StepError> {
    let input = T::deserialize(&context.input).map_err(|error| unreadable(NAME, 2, &error))?;
    let request = parsed(context).map_err(|error| unreadable(NAME, 0, &error))?;
    Ok((input, request))
}

async fn ask(context: &StepContext, gateway: &Gateway, purse: &Purse) -> Result<StepOutput, StepError> {
    let (batch, request): (Batch, EmbeddingRequest) = within(context)?;
    let texts = request.texts();
    let texts = texts.get(batch.from..batch.to).unwrap_or_default();
    let caller = Caller { job: &context.job, cancelled: &context.cancelled };
    purse.unpark(caller).await.map_err(database)?;
    let provider = gateway.model(&batch.model).map_or("", |model| model.provider.as_str());
    let nanousd = gateway.estimate_embedding_nanousd(&batch.model, texts).unwrap_or(0);
    let promise = match purse.promise(caller, None, provider, nanousd).await.map_err(database)? {
        Ok(promise) => promise,
        Err(none) => {
            let wait = none.wait();
            purse.park(caller, &none.exhausted.to_string(), wait).await.map_err(database)?;
            return Err(StepError::new(Outcome::Snoozed(wait)));
        }
    };
    let until = calls_until(context.deadline);
    let embedded = gateway.embed_until(&batch.model, texts, &context.idempotency_key, until).await;
    let spent = spent(embedded.as_ref().map(|embedded| embedded.cost.nanousd));
    purse.settle(caller, promise, spent).await.map_err(database)?;
    let embedded = match embedded {
        Ok(embedded) => embedded,
        Err(error) => return Err(call_failed(&error, &request, purse, caller).await),
    };
    let cost_nanousd = embedded.cost.nanousd;
    let generated = Generated {
        batch,
        vectors: embedded.vectors.iter().map(|vector| BASE64_STANDARD.encode(vectors::bytes(vector))).collect(),
        made: Made {
            dimensions: embedded.vectors.first().map_or(0, Vec::len),
            provider: embedded.provider,
            model: embedded.model,
            model_reported: embedded.model_reported,
            simulated: embedded.simulated,
            tokens_input: count(embedded.usage.input_total()),
            usage_estimated: embedded.usage_estimated,
            usage: embedded.raw_usage,
            cost_nanousd,
            prices_version: embedded.cost.prices_version,
        },
    };
    Ok(StepOutput { cost_nanousd, ..to_output(NAME, &generated)? })
}

async fn store(context: &StepContext, vectors: &Vectors) -> Result<StepOutput, StepError> {
    let (generated, request): (Generated, EmbeddingRequest) = within(context)?;
    let Generated { batch, vectors: encoded, made } = generated;
    let decoded: Result<Vec<Vec<u8>>, _> = encoded.iter().map(|text| BASE64_STANDARD.decode(text)).collect();
    let decoded = decoded.map_err(|error| unreadable(NAME, 2, &error))?;
    let items = request.items.get(batch.from..batch.to).unwrap_or_default();
    let new = NewVectors {
        collection: &request.collection,
        model: &made.model,
        simulated: made.simulated,
        keys: items.iter().map(|item| item.key.clone()).collect(),
        vectors: decoded.iter().map(|bytes| vectors::numbers(bytes)).collect(),
        contents: items.iter().map(|item| item.text.clone()).collect(),
    };
    match persist(&context.cancelled, || vectors.put(&context.job, &new)).await {
        Ok(Some(Written { stored, newer })) => to_output(NAME, &Stored { stored, newer, made }),
        // The completion's guard will say so too, whatever is reported.
        Ok(None) => Err(StepError::new(Outcome::Snoozed(HANDED_BACK_WAIT))),
        Err(error) => Err(database(error)),
    }
}

fn publish(context: &StepContext) -> Result<StepOutput, StepError> {
    let request: EmbeddingRequest = output(NAME, context, 0)?;
    let batches: Vec<Stored> = output(NAME, context, 2)?;
    let all = || batches.iter().map(|batch| &batch.made);
    let first = all().next();
    let stored = json!({
        "collection": request.collection,
        "vectors": request.items.len(),
        "dimensions": first.map(|made| made.dimensions),
        "stored": batches.iter().map(|batch| batch.stored).sum::<i64>(),
        "left_for_newer": batches.iter().map(|batch| batch.newer).sum::<i64>(),
        "simulated": all().any(|made| made.simulated),
    });
    let mut result = stored.clone();
    result["keys"] = request.items.iter().map(|item| item.key.as_str()).collect();
    result["model_reported"] = json!(first.map(|made| &made.model_reported));
    result["usage_estimated"] = json!(all().any(|made| made.usage_estimated));
    let result = JobResult {
        request_id: request.id.clone(),
        success: true,
        outcome: Some(Attempted::Success),
        cost_nanousd: sum(all().map(|made| made.cost_nanousd)),
        prices_version: first.map(|made| made.prices_version.clone()),
        provider: first.map(|made| made.provider.clone()),
        model_used: first.map(|made| made.model.clone()),
        simulated: all().any(|made| made.simulated),
        tokens_input: Some(all().map(|made| made.tokens_input).fold(0, i64::saturating_add)),
        tokens_output: Some(0),
        usage: Some(all().flat_map(|made| made.usage.clone()).collect()),
        input_summary: request.summary(SUMMARY_CHARS_MAX),
        result_summary: stored.clone(),
        result: Some(result),
        ..JobResult::default()
    };
    Ok(StepOutput { value: stored, result: Some(Box::new(result)), ..StepOutput::default() })
}

/// What a failed call does to the job, by its class, as for `llm_request`. Batches that went well are stored and count
/// with the attempt that succeeds.
async fn call_failed(error: &LlmError, request: &EmbeddingRequest, purse: &Purse, caller: Caller<'_>) -> StepError {
    let text = banner(error);
    let outcome = match advice(error, snoozes(caller.job), rand::random()) {
        Advice::Retry => Outcome::Failed { error: text, retry_in: None },
        Advice::Snooze(wait) => {
            let parked = purse.park(caller, &format!("[{}] {error}", error.code()), wait).await;
            return parked.map_or_else(database, |()| StepError::new(Outcome::Snoozed(wait)));
        }
        Advice::Cancel => Outcome::Cancelled(text),
    };
    let result = JobResult {
        request_id: request.id.clone(),
        input_summary: request.summary(SUMMARY_CHARS_MAX),
        ..failed_call(error)
    };
    StepError { outcome, result: Some(Box::new(result)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(request: &Value) -> Result<String, UnservableEmbedding> {
        let config = Config::shipped().unwrap();
        plan(&EmbeddingRequest::parse(request).unwrap(), &config)
    }

    #[test]
    fn a_request_without_a_model_gets_the_configured_one() {
        assert_eq!(planned(&json!({"text": "a"})).unwrap(), "sim_embedding");
        assert_eq!(planned(&json!({"text": "a", "model": "auto"})).unwrap(), "sim_embedding");
        assert_eq!(planned(&json!({"text": "a", "model": "embedding_small"})).unwrap(), "embedding_small");
    }

    #[test]
    fn a_model_that_makes_no_vectors_is_refused_with_those_that_do() {
        let text = planned(&json!({"text": "a", "model": "opus"})).unwrap_err().to_string();
        assert!(
            text.contains("answers with text; models that make vectors are embedding_small, sim_embedding"),
            "{text}"
        );
        let unknown = planned(&json!({"text": "a", "model": "sim_embeding"})).unwrap_err();
        assert_eq!((unknown.code(), unknown.hint().as_deref()), ("E0655", Some("did you mean \"sim_embedding\"?")));
    }
}
