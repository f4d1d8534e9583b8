//! Benchmarks: what was measured of each model of a cell, for people to look at.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::decide::{Decision, Draft};
use super::settings::Settings;
use super::view::{CellView, ModelView, Sums};
use super::wilson::{Z_95, wilson};
use crate::cloud::{Benchmark, Payload, PerformanceBenchmark};

/// Fewest attempts of a cell that are told.
const ATTEMPTS_MIN: u64 = 5;

/// They are told again when there are so many times as many: a number of times that grows with the logarithm only.
const GROWTH: f64 = 1.5;

/// The benchmarks of a cell, where there are new ones worth telling.
pub(super) fn benchmarks(view: &CellView, now: DateTime<Utc>, settings: &Settings) -> Option<Decision> {
    let counted: Vec<_> =
        view.models.iter().map(|model| (model, Sums::of(model))).filter(|(_, sums)| sums.n > 0).collect();
    let total: u64 = counted.iter().map(|(_, sums)| sums.n).sum();
    if total < ATTEMPTS_MIN {
        return None;
    }
    if let Some(told) = &view.benchmarks {
        let before: u64 = told.value.iter().map(|benchmark| benchmark.n).sum();
        let grown = total as f64 >= before as f64 * GROWTH || counted.len() > told.value.len();
        if !grown && !told.is_old(now) {
            return None;
        }
    }
    let benchmarks: Vec<_> = counted.iter().map(|(model, sums)| measured(view, model, sums)).collect();
    let best = benchmarks
        .iter()
        .filter_map(|benchmark| Some((benchmark.cost_per_success_nanousd?, benchmark)))
        .min_by_key(|(cost, _)| *cost);
    let cheapest = best.map_or_else(String::new, |(_, best)| format!(", the cheapest success is {}'s", best.model));
    let summary = format!("{total} attempts in {} measured{cheapest}.", view.cell);
    let evidence = json!({"n": total, "window_days": settings.window.as_secs() / 86_400, "intervals": "Wilson, 95 %"});
    let payload = Payload::PerformanceBenchmark(PerformanceBenchmark { benchmarks });
    Some(Decision::publish("benchmark", Draft::new(payload, summary, evidence, settings.claim_lifetime)))
}

fn measured(view: &CellView, model: &ModelView, sums: &Sums) -> Benchmark {
    let (successes, n) = (sums.successes as f64, sums.n as f64);
    let (success_low, success_high) = wilson(successes, n, Z_95);
    let cost = sums.cost_each().filter(|_| sums.successes > 0).map(|each| (each * n / successes).round() as i64);
    let mut latencies: Vec<u64> = model
        .current_rows()
        .iter()
        .filter(|row| row.outcome.is_spent())
        .filter_map(|row| u64::try_from(row.duration_ms).ok())
        .collect();
    latencies.sort_unstable();
    Benchmark {
        job_type: view.cell.job_type.clone(),
        route: view.cell.route.clone(),
        model: model.model.clone(),
        n: sums.n,
        success_rate: successes / n,
        success_low,
        success_high,
        cost_per_success_nanousd: cost,
        latency_p50_ms: quantile(&latencies, 0.5),
        latency_p95_ms: quantile(&latencies, 0.95),
    }
}

/// The least value that at least this share of the sorted values does not exceed.
fn quantile(sorted: &[u64], share: f64) -> Option<u64> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.95)), (Some(50), Some(95)));
        assert_eq!((quantile(&[7], 0.95), quantile(&[], 0.5)), (Some(7), None));
    }
}
