//! What an instance did in one period: the aggregate that it sends to CentralCloud, beside the records themselves.
//!
//! Rates and averages are for people; the sums are what can be added to those of other instances and periods.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::record::{self, MESSAGE_VERSION, Record};
use super::sums::Sums;
use crate::workflow::Attempted;

/// Nano-dollars of a cent.
const NANOUSD_PER_CENT: f64 = 10_000_000.0;

/// Whose report it is, which one, and about what time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// Whose attempts they were.
    pub instance_id: String,
    /// Who reports: the instance itself, or another because it is offline.
    pub reported_by: String,
    /// Number of the report, from 1, without gaps for one instance.
    pub number: i64,
    /// End of the report before, or begin of the instance.
    pub start: DateTime<Utc>,
    /// When it was made, by the database's clock.
    pub end: DateTime<Utc>,
}

impl Period {
    /// What makes the report the same however often it arrives.
    pub fn key(&self) -> String {
        format!("{}:{}", self.instance_id, self.number)
    }
}

/// The aggregate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`MESSAGE_VERSION`].
    pub v: u32,
    /// Key of the report.
    pub report_key: String,
    /// Whose attempts they were.
    pub instance_id: String,
    /// Who reports.
    pub reported_by: String,
    /// When.
    pub timestamp: DateTime<Utc>,
    /// Length of the period.
    pub period_seconds: i64,
    /// Begin of the period.
    pub period_start: DateTime<Utc>,
    /// End of the period.
    pub period_end: DateTime<Utc>,
    /// Attempts.
    pub job_count: i64,
    /// Of these, those that did not succeed.
    pub failures: i64,
    /// Share of those that succeeded; `None` of none.
    pub success_rate: Option<f64>,
    /// Average of the costs that are known; `None` where none is.
    pub avg_cost_cents: Option<f64>,
    /// Average time from claim to result, answers from caches left out; `None` of none.
    pub avg_latency_ms: Option<f64>,
    /// Attempts by model.
    pub models_used: Vec<ModelUse>,
    /// Names of patterns, each once.
    pub patterns_discovered: Vec<String>,
    /// Tokens, in and out.
    pub total_tokens: i128,
    /// Sums by job type, route and model.
    pub sums: Vec<Sums>,
}

/// How often a model was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUse {
    /// The model.
    pub model: String,
    /// Attempts.
    pub count: i64,
}

impl Report {
    /// The report of `records`.
    pub fn of(period: &Period, records: &[Record]) -> Self {
        let sums = Sums::of(records);
        let total = |column: fn(&Sums) -> i128| sums.iter().map(column).fold(0_i128, i128::saturating_add);
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let successes = records.iter().filter(|record| record.success).count();
        let timed = records.iter().filter(|record| record.outcome != Attempted::Cached).count();
        let cents = ratio(total(|sums| sums.cost_nanousd), total(|sums| sums.priced.into()));
        let mut models: BTreeMap<&str, i64> = BTreeMap::new();
        for model in records.iter().filter_map(|record| record.model.as_deref()) {
            *models.entry(model).or_default() += 1;
        }
        let patterns: BTreeSet<&String> = records.iter().flat_map(|record| &record.patterns).collect();
        Self {
            v: MESSAGE_VERSION,
            report_key: period.key(),
            instance_id: period.instance_id.clone(),
            reported_by: period.reported_by.clone(),
            timestamp: period.end,
            period_seconds: (period.end - period.start).num_seconds(),
            period_start: period.start,
            period_end: period.end,
            job_count: count(records.len()),
            failures: count(records.len() - successes),
            success_rate: ratio(i128_of(successes), i128_of(records.len())),
            avg_cost_cents: cents.map(|nanousd| nanousd / NANOUSD_PER_CENT),
            avg_latency_ms: ratio(total(|sums| sums.latency_ms), i128_of(timed)),
            models_used: models.into_iter().map(|(model, count)| ModelUse { model: model.into(), count }).collect(),
            patterns_discovered: patterns.into_iter().cloned().collect(),
            total_tokens: total(|sums| sums.tokens_input).saturating_add(total(|sums| sums.tokens_output)),
            sums,
        }
    }

    /// Reads a message; an error says what about it cannot be used.
    ///
    /// # Errors
    /// The reason, for the dead letter.
    pub fn parse(body: Option<&str>) -> Result<Self, String> {
        let report: Self = record::versioned(body)?;
        record::name("instance_id", &report.instance_id)?;
        record::name("report_key", &report.report_key)?;
        record::in_range("job_count", Some(report.job_count), 0, i64::MAX)?;
        record::moment("period_start", report.period_start)?;
        record::moment("period_end", report.period_end)?;
        Ok(report)
    }
}

fn i128_of(count: usize) -> i128 {
    i128::try_from(count).unwrap_or(i128::MAX)
}

/// A quotient, for people; `None` of nothing.
#[expect(clippy::cast_precision_loss, reason = "people read a few digits")]
fn ratio(sum: i128, count: i128) -> Option<f64> {
    (count > 0).then(|| sum as f64 / count as f64)
}

#[cfg(test)]
mod tests;
