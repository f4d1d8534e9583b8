//! Configuration → providers and models, with every problem at once.

use std::collections::BTreeMap;

use super::command::Program;
use super::embedding::batch_items_default;
use super::endpoint::Endpoint;
use super::prices::{ModelPrice, PriceError, PriceTable};
use super::simulated;
use super::stream::Wire;
use crate::config::{
    Config, EmbeddingModel, Limits, Model, ModelKind, Provider, ProviderKind, SecretRef, Simulated, Timeouts,
};
use crate::error::Coded;

/// Output limit where neither request nor model names one.
const MAX_TOKENS_DEFAULT: u32 = 1_024;

/// Something in `[providers]` or `[models]` that cannot work.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GatewayProblem {
    /// A model of a provider that is not there.
    #[error("models.{model}.provider is {provider:?}, which is not in [providers]{}", maybe(.suggestion.as_deref()))]
    UnknownProvider {
        /// The model.
        model: String,
        /// What it names.
        provider: String,
        /// The nearest name.
        suggestion: Option<String>,
    },
    /// A model that does not say what the provider calls it.
    #[error("models.{model}.name is blank; write the provider's name of the model")]
    NoName {
        /// The model.
        model: String,
    },
    /// An address that cannot be called.
    #[error("providers.{provider}.base_url: {problem}")]
    Address {
        /// The provider.
        provider: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A provider of the kind `command` without one.
    #[error("providers.{provider}.command: program is missing")]
    NoProgram {
        /// The provider.
        provider: String,
    },
    /// A number out of range.
    #[error("{key} is {value}; allowed is {allowed}")]
    Range {
        /// Dotted key.
        key: String,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A price of a model.
    #[error("models.{model}.price: {problem}")]
    Price {
        /// The model.
        model: String,
        /// What is wrong with it.
        problem: PriceError,
    },
    /// The built-in price table.
    #[error(transparent)]
    Prices(PriceError),
}

impl Coded for GatewayProblem {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownProvider { .. } => "E0530",
            Self::NoName { .. } => "E0531",
            Self::Address { .. } => "E0532",
            Self::Range { .. } => "E0533",
            Self::NoProgram { .. } => "E0534",
            Self::Price { problem, .. } | Self::Prices(problem) => problem.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownProvider { provider, .. } => {
                Some(format!("add [providers.{provider}] or name another provider"))
            }
            Self::Price { problem, .. } | Self::Prices(problem) => problem.hint(),
            _ => None,
        }
    }
}

fn maybe(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

/// The name nearest to `asked`, if one is near enough to be meant.
pub(crate) fn nearest<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    // The bound of most command lines: beyond it suggestions confuse.
    const SIMILARITY_MIN: f64 = 0.7;
    names
        .map(|name| (strsim::jaro_winkler(asked, name), name))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name.to_owned())
}

/// How calls reach a provider.
#[derive(Debug)]
pub(crate) enum Backend {
    Http(Box<Endpoint>),
    Command(Box<Program>),
    Simulated,
}

/// A model as configured.
#[derive(Debug)]
pub(crate) struct ModelSetup {
    pub(crate) provider: String,
    pub(crate) upstream: String,
    pub(crate) kind: ModelKind,
    pub(crate) embedding: EmbeddingModel,
    pub(crate) max_tokens: u32,
    pub(crate) price: Option<ModelPrice>,
    /// The price is the configuration's own.
    pub(crate) price_is_configured: bool,
    pub(crate) simulated: Simulated,
    pub(crate) limits: Limits,
}

/// Everything that the gateway is built from.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) backends: BTreeMap<String, Backend>,
    pub(crate) models: BTreeMap<String, ModelSetup>,
    pub(crate) prices_version: String,
}

/// Reads `[providers]` and `[models]`.
pub(crate) fn read(config: &Config) -> Result<Setup, Vec<GatewayProblem>> {
    let mut problems = Vec::new();
    let prices = PriceTable::embedded().map_err(|problem| vec![GatewayProblem::Prices(problem)])?;
    let mut backends = BTreeMap::new();
    for (name, provider) in &config.providers {
        match backend(name, provider, config, &mut problems) {
            Ok(backend) => drop(backends.insert(name.clone(), backend)),
            Err(problem) => problems.push(problem),
        }
    }
    let mut models = BTreeMap::new();
    for (name, model) in &config.models {
        if !config.providers.contains_key(&model.provider) {
            problems.push(GatewayProblem::UnknownProvider {
                model: name.clone(),
                provider: model.provider.clone(),
                suggestion: nearest(&model.provider, config.providers.keys().map(String::as_str)),
            });
        }
        let mut setup = setup(name, model, &prices, &mut problems);
        if let Some(Backend::Http(endpoint)) = backends.get(&model.provider) {
            let host = endpoint.url.host_str().unwrap_or_default();
            setup.embedding.batch_items.get_or_insert(batch_items_default(host));
        }
        models.insert(name.clone(), setup);
    }
    if problems.is_empty() {
        Ok(Setup { backends, models, prices_version: prices.version().to_owned() })
    } else {
        Err(problems)
    }
}

fn backend(
    name: &str,
    provider: &Provider,
    config: &Config,
    problems: &mut Vec<GatewayProblem>,
) -> Result<Backend, GatewayProblem> {
    let wire = match provider.kind {
        ProviderKind::Openai => Wire::Openai,
        ProviderKind::Anthropic => Wire::Anthropic,
        ProviderKind::Simulated => return Ok(Backend::Simulated),
        ProviderKind::Command => {
            let spec = provider.command.clone().filter(|spec| !spec.program.is_empty());
            let spec = spec.ok_or_else(|| GatewayProblem::NoProgram { provider: name.to_owned() })?;
            let hidden = secrets_of_others(name, config);
            return Ok(Backend::Command(Box::new(Program { spec, total: provider.timeouts.total, hidden })));
        }
    };
    let Timeouts { connect, first_byte, idle, total } = &provider.timeouts;
    for (key, limit) in [("connect", connect), ("first_byte", first_byte), ("idle", idle), ("total", total)] {
        if limit.get().is_zero() {
            problems.push(GatewayProblem::Range {
                key: format!("providers.{name}.timeouts.{key}"),
                value: limit.to_string(),
                allowed: "1ms and more",
            });
        }
    }
    let base_url = provider.base_url.as_deref();
    Endpoint::new(wire, base_url, provider.api_key.as_ref(), &provider.timeouts)
        .map(|http| Backend::Http(Box::new(http.with_output_limit(provider.output_limit))))
        .map_err(|problem| GatewayProblem::Address { provider: name.to_owned(), problem })
}

/// Environment variables with secrets that are not this provider's.
fn secrets_of_others(name: &str, config: &Config) -> Vec<String> {
    let keys =
        config.providers.iter().filter(|(other, _)| *other != name).filter_map(|(_, other)| other.api_key.as_ref());
    let own = config.providers.get(name).and_then(|provider| provider.api_key.as_ref());
    keys.chain([&config.database.url])
        .filter(|reference| Some(*reference) != own)
        .filter_map(|reference| match reference {
            SecretRef::Env(variable) => Some(variable.clone()),
            SecretRef::File(_) => None,
        })
        .collect()
}

fn setup(name: &str, model: &Model, prices: &PriceTable, problems: &mut Vec<GatewayProblem>) -> ModelSetup {
    if model.name.trim().is_empty() {
        problems.push(GatewayProblem::NoName { model: name.to_owned() });
    }
    if model.max_tokens == Some(0) {
        problems.push(GatewayProblem::Range {
            key: format!("models.{name}.max_tokens"),
            value: "0".to_owned(),
            allowed: "1 and more",
        });
    }
    let price = match model.price.as_ref().map(ModelPrice::from_config) {
        None => prices.get(&model.name).copied(),
        Some(Ok(price)) => Some(price),
        Some(Err(problem)) => {
            problems.push(GatewayProblem::Price { model: name.to_owned(), problem });
            None
        }
    };
    if let Some(simulated) = &model.simulated {
        check_simulated(name, simulated, problems);
    }
    ModelSetup {
        provider: model.provider.clone(),
        upstream: model.name.clone(),
        kind: model.kind,
        embedding: model.embedding.clone().unwrap_or_default(),
        max_tokens: model.max_tokens.unwrap_or(MAX_TOKENS_DEFAULT),
        price,
        price_is_configured: model.price.is_some(),
        simulated: model.simulated.clone().unwrap_or_default(),
        limits: model.limits,
    }
}

fn check_simulated(name: &str, spec: &Simulated, problems: &mut Vec<GatewayProblem>) {
    let mut check = |key: &str, value: String, holds: bool, allowed| {
        if !holds {
            problems.push(GatewayProblem::Range { key: format!("models.{name}.simulated.{key}"), value, allowed });
        }
    };
    let share = 0.0..=1.0;
    for (key, value) in [
        ("jitter", spec.jitter),
        ("failure_rate", spec.failure_rate),
        ("throttle_rate", spec.throttle_rate),
        ("refusal_rate", spec.refusal_rate),
    ] {
        check(key, value.to_string(), share.contains(&value), "0 to 1");
    }
    let rates = [spec.failure_rate, spec.throttle_rate, spec.refusal_rate];
    let sum: f64 = rates.iter().sum();
    let each_holds = rates.iter().all(|rate| share.contains(rate));
    // Written shares such as 0.9 and 0.1 may add up to a hair more than 1.
    let sum_holds = !each_holds || sum <= 1.0 + 1e-9;
    check("failure_rate + throttle_rate + refusal_rate", sum.to_string(), sum_holds, "0 to 1 together");
    let (least, most) = spec.output_tokens;
    let holds = least >= 1 && least <= most && most <= simulated::OUTPUT_TOKENS_MAX;
    check("output_tokens", format!("({least}, {most})"), holds, "smallest and largest, from 1 to 100000");
}
