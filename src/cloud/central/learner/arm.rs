//! What allocation believes about a model now: short memory, so that it follows when the model or its price changes.

use chrono::{DateTime, Utc};

use super::row::Row;
use super::settings::Settings;
use super::view::ModelView;
use super::wilson::{Z_95, wilson};

/// Newest attempts that say how good a model is.
const QUALITY_MEMORY: usize = 1_000;

/// Newest of these attempts that say what it costs: prices change at once, and their spread is small.
const COST_MEMORY: usize = 100;

/// Newest attempts that say how long it takes.
const LATENCY_MEMORY: usize = 500;

/// Share of the attempts that may be slower than the ceiling.
const SLOW_SHARE: f64 = 0.05;

/// Least share of the attempts that say how good a model is whose cost must be known to speak of its cost. What
/// infrastructure failed does not count here: whether it was billed is often unknown, and an outage must not put a
/// model of known price, or all that are compared with it, out of the running.
pub(super) const PRICED_SHARE: f64 = 0.9;

const DAY_SECONDS: f64 = 86_400.0;

/// A belief about one model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arm {
    /// Attempts that say how good it is, those that count for little included.
    pub n: u64,
    /// Successes and failures by weight: what is old counts less.
    pub successes: f64,
    pub failures: f64,
    /// Success as it is believed before the first attempt.
    pub prior: f64,
    /// Cost of all attempts for each that says how good it is, in nano-dollars, with its standard error.
    pub cost: Option<(f64, f64)>,
    /// Share of attempts that were slower than the ceiling is surely too large.
    pub too_slow: bool,
}

impl Arm {
    pub(super) fn of(view: &ModelView, fallback: f64, now: DateTime<Utc>, settings: &Settings) -> Self {
        let rows = view.current_rows();
        let (mut n, mut successes, mut failures) = (0, 0.0, 0.0);
        let decay = settings.keep_per_day.ln() / DAY_SECONDS;
        for row in rows.iter().rev().filter(|row| row.outcome.is_quality()).take(QUALITY_MEMORY) {
            let age = (now - row.completed_at).num_seconds().max(0) as f64;
            let weight = (decay * age).exp();
            n += 1;
            successes += weight * row.reward();
            failures += weight * (1.0 - row.reward());
        }
        let prior = if view.parent.1 > 0 { smoothed(view.parent.0, view.parent.1) } else { fallback };
        Self { n, successes, failures, prior, cost: cost(rows), too_slow: is_too_slow(rows, settings) }
    }

    /// Parameters of its Beta distribution.
    pub(super) fn beta(&self, settings: &Settings) -> (f64, f64) {
        let mass = settings.prior_mass;
        (self.successes + mass * self.prior, self.failures + mass * (1.0 - self.prior))
    }

    /// Success as it is believed now.
    pub(super) fn mean(&self, settings: &Settings) -> f64 {
        let (a, b) = self.beta(settings);
        a / (a + b)
    }

    /// Success as it is believed now, less its standard error: a bar that is not too high by chance.
    pub(super) fn cautious(&self, settings: &Settings) -> f64 {
        let (a, b) = self.beta(settings);
        let mean = a / (a + b);
        (mean - (mean * (1.0 - mean) / (a + b + 1.0)).sqrt()).max(0.0)
    }

    /// Nano-dollars a success, as they are believed now.
    pub(super) fn cost_per_success(&self, settings: &Settings) -> Option<f64> {
        self.cost.map(|(cost, _)| cost / self.mean(settings))
    }
}

/// A share that is never quite 0 or 1.
pub(super) fn smoothed(successes: u64, n: u64) -> f64 {
    (successes as f64 + 1.0) / (n as f64 + 2.0)
}

fn cost(rows: &[Row]) -> Option<(f64, f64)> {
    let (mut quality, mut priced, mut sum, mut squares, mut lost, mut lost_squares) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    let mut last = COST_MEMORY;
    for row in rows.iter().rev().filter(|row| row.outcome.is_spent()) {
        let cost = row.cost_nanousd.map(|cost| cost as f64);
        if !row.outcome.is_quality() {
            let cost = cost.unwrap_or(0.0);
            lost += cost;
            lost_squares += cost * cost;
            continue;
        }
        if last == 0 {
            break;
        }
        last -= 1;
        quality += 1.0;
        if let Some(cost) = cost {
            priced += 1.0;
            sum += cost;
            squares += cost * cost;
        }
    }
    if priced == 0.0 || priced < PRICED_SHARE * quality {
        return None;
    }
    let mean = sum / priced;
    let variance = (squares / priced - mean * mean).max(0.0);
    // Attempts that infrastructure failed are paid for by those that were worth something. How many they are is chance
    // too: the variance of such a sum is the sum of the squares.
    Some((mean + lost / quality, (variance / priced + lost_squares / (quality * quality)).sqrt()))
}

fn is_too_slow(rows: &[Row], settings: &Settings) -> bool {
    let Some(ceiling) = settings.latency_ceiling_ms else { return false };
    let (mut n, mut slow) = (0.0, 0.0);
    for row in rows.iter().rev().filter(|row| row.outcome.is_spent()).take(LATENCY_MEMORY) {
        n += 1.0;
        slow += f64::from(u8::from(u64::try_from(row.duration_ms).is_ok_and(|duration| duration > ceiling)));
    }
    wilson(slow, n, Z_95).0 > SLOW_SHARE
}
