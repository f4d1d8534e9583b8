//! What many attempts came to, as sums: the columns of `model_performance`.
//!
//! Averages cannot be added, sums can: those of two instances or of two periods, added, are those of both. All of it is
//! integers, so nothing is lost however often they are added.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::workflow::Attempted;

/// Counts of latencies that are told apart: the last holds all that take 2^62 ms or more.
const LATENCY_COUNTS_MAX: usize = 63;

/// Sums of the attempts of one job type, route and model.
///
/// An attempt that a cache answered counts in `attempts` alone. Throttled and crashed ones count as `infrastructure`,
/// and in cost and latency; those with a wrong input not in the four counts of outcomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Worker of the jobs.
    pub job_type: String,
    /// What was asked for; empty where the requests named their model.
    pub route: String,
    /// The model; empty where none was called.
    pub model: String,
    /// All attempts.
    pub attempts: i64,
    /// Of these, successful ones.
    pub successes: i64,
    /// Those whose answer could not be used.
    pub failures: i64,
    /// Those that the model refused.
    pub refusals: i64,
    /// Those that say nothing about the model's quality.
    pub infrastructure: i64,
    /// Those whose cost is known.
    pub priced: i64,
    /// Their cost.
    pub cost_nanousd: i128,
    /// The squares of their costs.
    pub cost_nanousd_squared: i128,
    /// Tokens in.
    pub tokens_input: i128,
    /// Tokens out.
    pub tokens_output: i128,
    /// Latencies, from claim to result.
    pub latency_ms: i128,
    /// Their squares.
    pub latency_ms_squared: i128,
    /// How many took how long: counted from 1, element i has those below 2^i ms that the one before has not.
    pub latency_counts: Vec<i64>,
    /// When the first ended.
    pub first_at: DateTime<Utc>,
    /// When the last ended.
    pub last_at: DateTime<Utc>,
}

impl Sums {
    /// The sums of `records`, in order of job type, route and model.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<Self> {
        let mut cells: BTreeMap<(&str, &str, &str), Self> = BTreeMap::new();
        for record in records {
            let (route, model) = (record.route.as_deref(), record.model.as_deref());
            let key = (&*record.job_type, route.unwrap_or_default(), model.unwrap_or_default());
            cells.entry(key).or_insert_with(|| Self::none(key, record.completed_at)).add(record);
        }
        cells.into_values().collect()
    }

    fn none((job_type, route, model): (&str, &str, &str), at: DateTime<Utc>) -> Self {
        Self {
            job_type: job_type.into(),
            route: route.into(),
            model: model.into(),
            attempts: 0,
            successes: 0,
            failures: 0,
            refusals: 0,
            infrastructure: 0,
            priced: 0,
            cost_nanousd: 0,
            cost_nanousd_squared: 0,
            tokens_input: 0,
            tokens_output: 0,
            latency_ms: 0,
            latency_ms_squared: 0,
            latency_counts: Vec::new(),
            first_at: at,
            last_at: at,
        }
    }

    fn add(&mut self, record: &Record) {
        self.attempts += 1;
        self.first_at = self.first_at.min(record.completed_at);
        self.last_at = self.last_at.max(record.completed_at);
        match record.outcome {
            Attempted::Success => self.successes += 1,
            Attempted::Failure => self.failures += 1,
            Attempted::Refused => self.refusals += 1,
            Attempted::Infrastructure => self.infrastructure += 1,
            Attempted::Invalid => {}
            Attempted::Cached => return,
        }
        if let Some(cost) = record.cost_nanousd {
            self.priced += 1;
            add(&mut self.cost_nanousd, cost, 1);
            add(&mut self.cost_nanousd_squared, cost, cost);
        }
        add(&mut self.tokens_input, record.tokens_input.unwrap_or_default(), 1);
        add(&mut self.tokens_output, record.tokens_output.unwrap_or_default(), 1);
        add(&mut self.latency_ms, record.duration_ms, 1);
        add(&mut self.latency_ms_squared, record.duration_ms, record.duration_ms);
        let place = latency_place(record.duration_ms);
        if self.latency_counts.len() <= place {
            self.latency_counts.resize(place + 1, 0);
        }
        self.latency_counts[place] += 1;
    }
}

/// Adds a product; numbers that no attempt has end at the limit instead of beginning anew.
fn add(sum: &mut i128, value: i64, factor: i64) {
    *sum = sum.saturating_add(i128::from(value) * i128::from(factor));
}

/// Index, from 0, of the count for a latency: the number of its bits, less one.
fn latency_place(latency_ms: i64) -> usize {
    let bits = i64::BITS - latency_ms.max(1).leading_zeros();
    usize::try_from(bits.saturating_sub(1)).unwrap_or_default().min(LATENCY_COUNTS_MAX - 1)
}

#[cfg(test)]
pub(super) mod tests;
