//! What one attempt came to, as it travels from the instance that made it to CentralCloud, and the message that carries
//! many of them.
//!
//! A reader takes nothing on trust: a message is another program's, perhaps another version's. Whatever it cannot use
//! it names, and the message becomes a dead letter with that reason.

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};

use crate::workflow::Attempted;

/// Version of the messages that this program writes and reads.
pub const MESSAGE_VERSION: u32 = 1;

/// Records in one message; one of them has about 400 bytes.
pub const RECORDS_PER_MESSAGE_MAX: usize = 100;

/// Largest message that is read; those of this program have a hundredth of it.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// Longest name of a model, a job type and so on, in bytes: four of them still fit into one entry of an index.
pub const NAME_BYTES_MAX: usize = 512;

/// Patterns of one attempt.
const PATTERNS_MAX: usize = 100;

/// Highest cost of one attempt, a million dollars. With it and the two limits below, sums of squares of a billion
/// attempts stay within 128 bits.
const COST_NANOUSD_MAX: i64 = 1_000_000_000_000_000;

/// Most tokens of one attempt, in and out each.
const TOKENS_MAX: i64 = 1_000_000_000_000;

/// Longest attempt, some 300 years.
const DURATION_MS_MAX: i64 = 10_000_000_000_000;

/// Years in which attempts end.
const YEARS: std::ops::RangeInclusive<i32> = 2000..=9999;

/// One attempt. Field names are the keys of the message and, but for `cached` and `patterns`, columns of
/// `central_results`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The job.
    pub job_id: i64,
    /// Its attempt, from 1.
    pub attempt: i32,
    /// Number of the call within the attempt, from 0, where that called several models.
    #[serde(default)]
    pub hop: i32,
    /// Whether it succeeded for its job; what it says about the model is `outcome`.
    pub success: bool,
    /// Worker of the job.
    pub job_type: String,
    /// What was asked for; `None` where the request named its model.
    #[serde(default)]
    pub route: Option<String>,
    /// Who served the model.
    #[serde(default)]
    pub provider: Option<String>,
    /// The model, by its name in the configuration; `None` where none was called.
    #[serde(default)]
    pub model: Option<String>,
    /// Learning whose rule chose the model.
    #[serde(default)]
    pub policy_version: Option<i64>,
    /// Probability with which it was chosen, above 0 and at most 1.
    #[serde(default)]
    pub propensity: Option<f64>,
    /// What the attempt says about the model.
    pub outcome: Attempted,
    /// Whether the answer was made up.
    #[serde(default)]
    pub simulated: bool,
    /// Whether the answer came from a cache; the same as an outcome of `cached`.
    #[serde(default)]
    pub cached: bool,
    /// Cost; `None` where no price is known.
    #[serde(default)]
    pub cost_nanousd: Option<i64>,
    /// Tokens in.
    #[serde(default)]
    pub tokens_input: Option<i64>,
    /// Tokens out.
    #[serde(default)]
    pub tokens_output: Option<i64>,
    /// How long the model took, or the whole attempt where it is not about one call.
    pub duration_ms: i64,
    /// Time to the first token.
    #[serde(default)]
    pub time_to_first_token_ms: Option<i64>,
    /// When it ended.
    pub completed_at: DateTime<Utc>,
    /// Names of patterns that showed in it.
    #[serde(default)]
    pub patterns: Vec<String>,
}

impl Record {
    /// What makes the record unusable.
    fn check(&self) -> Result<(), String> {
        in_range("job_id", Some(self.job_id), 1, i64::MAX)?;
        in_range("attempt", Some(self.attempt.into()), 1, i32::MAX.into())?;
        in_range("hop", Some(self.hop.into()), 0, i32::MAX.into())?;
        in_range("policy_version", self.policy_version, 1, i64::MAX)?;
        in_range("cost_nanousd", self.cost_nanousd, 0, COST_NANOUSD_MAX)?;
        in_range("tokens_input", self.tokens_input, 0, TOKENS_MAX)?;
        in_range("tokens_output", self.tokens_output, 0, TOKENS_MAX)?;
        in_range("duration_ms", Some(self.duration_ms), 0, DURATION_MS_MAX)?;
        in_range("time_to_first_token_ms", self.time_to_first_token_ms, 0, DURATION_MS_MAX)?;
        name("job_type", &self.job_type)?;
        for (field, text) in [("route", &self.route), ("provider", &self.provider), ("model", &self.model)] {
            text.as_deref().map_or(Ok(()), |text| name(field, text))?;
        }
        if self.patterns.len() > PATTERNS_MAX {
            return Err(format!("patterns: {} of them, at most {PATTERNS_MAX} are allowed", self.patterns.len()));
        }
        self.patterns.iter().try_for_each(|pattern| name("patterns", pattern))?;
        if self.propensity.is_some_and(|propensity| !(propensity > 0.0 && propensity <= 1.0)) {
            return Err("propensity: not above 0 and at most 1".into());
        }
        moment("completed_at", self.completed_at)?;
        if self.success && !matches!(self.outcome, Attempted::Success | Attempted::Failure | Attempted::Cached) {
            return Err(format!("outcome: {} of an attempt that succeeded", self.outcome.as_str()));
        }
        Ok(())
    }
}

/// Many records of one instance, as one message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Records {
    /// [`MESSAGE_VERSION`].
    pub v: u32,
    /// Whose attempts they were.
    pub instance_id: String,
    /// The attempts, at most [`RECORDS_PER_MESSAGE_MAX`] by this program; a reader takes more.
    pub records: Vec<Record>,
}

impl Records {
    /// Reads a message; an error says what about it cannot be used.
    ///
    /// # Errors
    /// The reason, for the dead letter.
    pub fn parse(body: Option<&str>) -> Result<Self, String> {
        let records: Self = versioned(body)?;
        name("instance_id", &records.instance_id)?;
        for (place, record) in records.records.iter().enumerate() {
            record.check().map_err(|reason| format!("records[{place}].{reason}"))?;
        }
        Ok(records)
    }
}

/// Reads a JSON message of a version that is known.
pub(super) fn versioned<T: for<'de> Deserialize<'de>>(body: Option<&str>) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Version {
        v: serde_json::Value,
    }
    let body = body.ok_or("the message is SQL's NULL")?;
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(format!("the message has {} bytes, allowed are {MESSAGE_BYTES_MAX}", body.len()));
    }
    if !body.trim_start().starts_with('{') {
        return Err("the message is no object".into());
    }
    let Version { v } = serde_json::from_str(body).map_err(|error| format!("version: {error}"))?;
    if v.as_u64() != Some(MESSAGE_VERSION.into()) {
        return Err(format!("version {v} is not known, only {MESSAGE_VERSION} is"));
    }
    serde_json::from_str(body).map_err(|error| error.to_string())
}

/// Checks the length of a name.
pub(super) fn name(field: &str, text: &str) -> Result<(), String> {
    if (1..=NAME_BYTES_MAX).contains(&text.len()) {
        return Ok(());
    }
    Err(format!("{field}: {} bytes, allowed are 1 to {NAME_BYTES_MAX}", text.len()))
}

/// Checks a moment: PostgreSQL knows fewer than this program.
pub(super) fn moment(field: &str, at: DateTime<Utc>) -> Result<(), String> {
    if YEARS.contains(&at.year()) {
        return Ok(());
    }
    Err(format!("{field}: {at} is not in the years {} to {}", YEARS.start(), YEARS.end()))
}

/// Checks a number that may be missing.
pub(super) fn in_range(field: &str, value: Option<i64>, min: i64, max: i64) -> Result<(), String> {
    match value {
        Some(value) if !(min..=max).contains(&value) => {
            Err(format!("{field}: {value} is out of range, allowed are {min} to {max}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
