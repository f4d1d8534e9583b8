//! What a call costs, in integers.
//!
//! A price is whole pico-dollars a token (every list price of the large providers is), a call is summed up in `i128`,
//! and one rounding at the end gives nano-dollars. A model without a price has no cost: `None`, never 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::usage::{ServiceTier, Usage};
use crate::config::Price;
use crate::error::Coded;

/// The table that is built in.
const EMBEDDED: &str = include_str!("../../prices.toml");
/// `prices_version` of a cost that was calculated with `[models.NAME.price]`.
pub const CONFIGURED_VERSION: &str = "actors.toml";
/// Decimals of a price in dollars per million tokens; the sixth is one pico-dollar a token.
const DECIMALS_MAX: usize = 6;
/// Largest price in pico-dollars a token: a dollar. Beyond it somebody wrote dollars a token or cents.
const PICOUSD_MAX: i64 = 1_000_000_000_000;
const PICO_PER_NANO: i128 = 1_000;

/// What a call cost and by which table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Billionths of a dollar; `None` when the model has no known price.
    pub nanousd: Option<i64>,
    /// Version of the table, or [`CONFIGURED_VERSION`].
    pub prices_version: String,
}

/// Pico-dollars a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Fresh input.
    pub input: i64,
    /// Output, reasoning included.
    pub output: i64,
    /// Input from the cache.
    pub cache_read: i64,
    /// Input written to the cache for five minutes.
    pub cache_write_5m: i64,
    /// Input written to the cache for an hour.
    pub cache_write_1h: i64,
}

/// The price of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelPrice {
    standard: Tariff,
    /// Of the other service tiers, as far as they are listed.
    others: Others,
    /// Above so many input tokens the whole call has the rates `above` of its tariff.
    boundary: Option<u64>,
    /// The price of the configuration: what its author pays, by whichever tier.
    is_configured: bool,
}

/// The rates of one service tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tariff {
    base: Rates,
    /// Of calls above the model's boundary; `None` where none are listed.
    above: Option<Rates>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Others {
    batch: Option<Tariff>,
    flex: Option<Tariff>,
    priority: Option<Tariff>,
    ultrafast: Option<Tariff>,
}

/// Prices by the providers' model names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceTable {
    version: String,
    models: BTreeMap<String, ModelPrice>,
}

/// Why a price or a table is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// No TOML, or not the table's shape.
    #[error("the price table cannot be read: {0}")]
    Table(String),
    /// Not an amount of money.
    #[error(
        "price {key} is {value:?}; a decimal from 0 to 1000000 with at most 6 decimals is allowed (dollars per million tokens)"
    )]
    Amount {
        /// Which price.
        key: String,
        /// What was written.
        value: String,
    },
}

impl Coded for PriceError {
    fn code(&self) -> &'static str {
        match self {
            Self::Table(_) => "E0520",
            Self::Amount { .. } => "E0521",
        }
    }

    fn hint(&self) -> Option<String> {
        Some("write dollars per million tokens, for example 2 or 0.125".to_owned())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    version: String,
    models: BTreeMap<String, RawModel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    input: String,
    output: String,
    cache_read: Option<String>,
    cache_write: Option<String>,
    cache_write_1h: Option<String>,
    tier: Option<RawTier>,
    batch: Option<RawRates>,
    batch_tier: Option<RawRates>,
    flex: Option<RawRates>,
    flex_tier: Option<RawRates>,
    priority: Option<RawRates>,
    priority_tier: Option<RawRates>,
    ultrafast: Option<RawRates>,
    ultrafast_tier: Option<RawRates>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRates {
    input: String,
    output: String,
    cache_read: Option<String>,
    cache_write: Option<String>,
    cache_write_1h: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTier {
    above_input_tokens: u64,
    input: String,
    output: String,
    cache_read: Option<String>,
    cache_write: Option<String>,
    cache_write_1h: Option<String>,
}

impl RawModel {
    fn price(self, name: &str) -> Result<ModelPrice, PriceError> {
        let base = RawRates {
            input: self.input,
            output: self.output,
            cache_read: self.cache_read,
            cache_write: self.cache_write,
            cache_write_1h: self.cache_write_1h,
        };
        let boundary = self.tier.as_ref().map(|tier| tier.above_input_tokens);
        let above = self.tier.map(|tier| RawRates {
            input: tier.input,
            output: tier.output,
            cache_read: tier.cache_read,
            cache_write: tier.cache_write,
            cache_write_1h: tier.cache_write_1h,
        });
        let tariff = |key: &str, base: Option<RawRates>, above: Option<RawRates>| {
            let read = |suffix: &str, raw: Option<RawRates>| {
                raw.map(|raw| raw.rates(&format!("{name}{key}{suffix}"))).transpose()
            };
            let above = read(if key.is_empty() { ".tier" } else { "_tier" }, above)?;
            match read("", base)? {
                None if above.is_some() => Err(PriceError::Table(format!("{name}{key}_tier stands without {key}"))),
                _ if above.is_some() && boundary.is_none() => Err(PriceError::Table(format!(
                    "{name}{key}_tier stands without tier, which says above how many tokens"
                ))),
                base => Ok(base.map(|base| Tariff { base, above })),
            }
        };
        let standard = tariff("", Some(base), above)?;
        Ok(ModelPrice {
            standard: standard.ok_or_else(|| PriceError::Table(format!("{name} has no price")))?,
            others: Others {
                batch: tariff(".batch", self.batch, self.batch_tier)?,
                flex: tariff(".flex", self.flex, self.flex_tier)?,
                priority: tariff(".priority", self.priority, self.priority_tier)?,
                ultrafast: tariff(".ultrafast", self.ultrafast, self.ultrafast_tier)?,
            },
            boundary,
            is_configured: false,
        })
    }
}

impl RawRates {
    fn rates(&self, name: &str) -> Result<Rates, PriceError> {
        let amount = |key: &str, text: &str| picousd(&format!("{name}.{key}"), text);
        let or =
            |key: &str, text: &Option<String>, default: i64| text.as_deref().map_or(Ok(default), |t| amount(key, t));
        let input = amount("input", &self.input)?;
        let cache_write_5m = or("cache_write", &self.cache_write, input)?;
        Ok(Rates {
            input,
            output: amount("output", &self.output)?,
            cache_read: or("cache_read", &self.cache_read, input)?,
            cache_write_5m,
            cache_write_1h: or("cache_write_1h", &self.cache_write_1h, cache_write_5m)?,
        })
    }
}

impl Rates {
    /// What the tokens cost, in nano-dollars, rounded half up once; `None` when it does not fit into 64 bits.
    fn cost_nanousd(&self, usage: &Usage) -> Option<i64> {
        let parts = [
            (usage.input_fresh, self.input),
            (usage.input_cache_read, self.cache_read),
            (usage.input_cache_write_5m, self.cache_write_5m),
            (usage.input_cache_write_1h, self.cache_write_1h),
            (usage.output, self.output),
        ];
        let picousd: i128 = parts.iter().map(|(tokens, rate)| i128::from(*tokens) * i128::from(*rate)).sum();
        i64::try_from((picousd + PICO_PER_NANO / 2).div_euclid(PICO_PER_NANO)).ok()
    }
}

impl ModelPrice {
    /// What a call with this usage costs, in nano-dollars; `None` when no price is known for its service tier, or it
    /// does not fit into 64 bits.
    pub fn cost_nanousd(&self, usage: &Usage) -> Option<i64> {
        let tariff = match usage.service_tier {
            _ if self.is_configured => self.standard,
            ServiceTier::Standard => self.standard,
            ServiceTier::Batch => self.others.batch?,
            ServiceTier::Flex => self.others.flex?,
            ServiceTier::Priority => self.others.priority?,
            ServiceTier::Ultrafast => self.others.ultrafast?,
            ServiceTier::Unpriced => return None,
        };
        let is_above = self.boundary.is_some_and(|boundary| usage.input_total() > boundary);
        if is_above { tariff.above? } else { tariff.base }.cost_nanousd(usage)
    }

    /// Rates of a small call of the standard tier.
    pub const fn rates(&self) -> Rates {
        self.standard.base
    }

    /// The price of `[models.NAME.price]`, which holds for every service tier. An hour in the cache costs twice the
    /// input price, as at the only provider that offers it.
    ///
    /// # Errors
    /// `E0521` when an amount is negative, not finite, too large or finer than a pico-dollar a token.
    pub fn from_config(price: &Price) -> Result<Self, PriceError> {
        // The shortest text that gives the same float is what was written, so no binary fraction gets into the money.
        let amount = |key: &str, value: f64| picousd(key, &value.to_string());
        let input = amount("input", price.input)?;
        let optional = |key: &str, value: Option<f64>| value.map_or(Ok(input), |value| amount(key, value));
        let rates = Rates {
            input,
            output: amount("output", price.output)?,
            cache_read: optional("cache_read", price.cache_read)?,
            cache_write_5m: optional("cache_write", price.cache_write)?,
            cache_write_1h: input * 2,
        };
        let standard = Tariff { base: rates, above: None };
        Ok(Self { standard, others: Others::default(), boundary: None, is_configured: true })
    }
}

impl PriceTable {
    /// The table that is built in.
    ///
    /// # Errors
    /// As [`PriceTable::parse`]; a test keeps the built-in table readable.
    pub fn embedded() -> Result<Self, PriceError> {
        Self::parse(EMBEDDED)
    }

    /// Reads a table of the form of `prices.toml`.
    ///
    /// # Errors
    /// `E0520` for anything but that form, `E0521` for an amount that is none.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let raw: RawTable = toml::from_str(text).map_err(|error| PriceError::Table(error.to_string()))?;
        let mut models = BTreeMap::new();
        for (name, model) in raw.models {
            let price = model.price(&name)?;
            models.insert(name, price);
        }
        Ok(Self { version: raw.version, models })
    }

    /// Date of the table.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The price of a model by the provider's name for it. A trailing date (`-20251101`, `-2024-11-20`) names a
    /// snapshot at its model's price and is ignored when the full name is not listed.
    pub fn get(&self, model: &str) -> Option<&ModelPrice> {
        self.models.get(model).or_else(|| self.models.get(without_date(model)?))
    }
}

/// The name of a model without the date of its snapshot.
fn without_date(model: &str) -> Option<&str> {
    ["-00000000", "-0000-00-00"].into_iter().find_map(|form| {
        let (stem, date) = model.split_at_checked(model.len().checked_sub(form.len())?)?;
        let fits = |(found, wanted): (u8, u8)| if wanted == b'0' { found.is_ascii_digit() } else { found == wanted };
        date.bytes().zip(form.bytes()).all(fits).then_some(stem)
    })
}

/// Dollars per million tokens as decimal text → pico-dollars a token, exactly.
fn picousd(key: &str, text: &str) -> Result<i64, PriceError> {
    let problem = || PriceError::Amount { key: key.to_owned(), value: text.chars().take(40).collect() };
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let decimals = decimals.trim_end_matches('0');
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(decimals) || decimals.len() > DECIMALS_MAX {
        return Err(problem());
    }
    let digits = format!("{whole}{decimals:0<DECIMALS_MAX$}");
    digits.parse().ok().filter(|picousd| *picousd <= PICOUSD_MAX).ok_or_else(problem)
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests;
