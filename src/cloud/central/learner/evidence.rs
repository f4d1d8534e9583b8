//! What a decision was concluded from, as it stands in the log: enough to follow it, and to repeat it.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::allocation::Drawn;
use super::arm::Arm;
use super::comparison::Comparison;
use super::fall::Fall;
use super::replay::{Estimate, Replay};
use super::settings::Settings;
use super::wilson::{Z_95, wilson};

/// A share as people read it.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if (percent - percent.round()).abs() < 0.05 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// A model: what was counted, what is believed, what the draws gave it and what it gets.
pub(super) fn of_model(
    model: &str,
    arm: &Arm,
    drawn: Option<&Drawn>,
    weights: (f64, f64),
    since: Option<DateTime<Utc>>,
    settings: &Settings,
) -> Value {
    let counted = arm.successes + arm.failures;
    let (low, high) = wilson(arm.successes, counted, Z_95);
    json!({
        "model": model,
        "n": arm.n,
        "n_weighted": counted,
        "success_rate": if counted > 0.0 { Some(arm.successes / counted) } else { None },
        "success_low": low,
        "success_high": high,
        "success_believed": arm.mean(settings),
        "prior": arm.prior,
        "cost_per_success_nanousd": arm.cost_per_success(settings).map(f64::round),
        "draws_won": drawn.map(|drawn| drawn.won),
        "draws_worse_than_margin": drawn.map(|drawn| drawn.worse),
        "takes_no_part": drawn.and_then(|drawn| drawn.out).map(|out| out.as_str()),
        "too_slow": arm.too_slow,
        "weight_before": weights.0,
        "weight_after": weights.1,
        "since": since,
    })
}

/// Two models beside each other.
pub(super) fn of_comparison(model: &str, found: &Comparison, settings: &Settings) -> Value {
    let side = |sums: &super::view::Sums| {
        let (low, high) = wilson(sums.successes as f64, sums.n as f64, Z_95);
        json!({"n": sums.n, "successes": sums.successes, "success_low": low, "success_high": high})
    };
    json!({
        "model": model,
        "reference": side(&found.reference),
        "candidate": side(&found.candidate),
        "comparisons": found.comparisons,
        "difference": found.difference,
        "difference_low": found.difference_low,
        "margin": settings.margin,
        "alpha": settings.alpha,
        "cost_per_success_nanousd": found.cost.map(|cost| [cost.reference.round(), cost.candidate.round()]),
        "cost_ratio": found.cost.map(|cost| cost.ratio),
        "cost_ratio_high": found.cost.map(|cost| cost.ratio_high),
        "bounds": "asymptotic confidence sequence",
    })
}

/// What a replay found.
pub(super) fn of_replay(replay: &Replay) -> Value {
    let estimate = |estimate: Estimate| json!({"mean": estimate.mean, "error": estimate.error});
    json!({
        "n": replay.n,
        "effective_n": replay.effective_n,
        "success_ips": estimate(replay.success_ips),
        "success_doubly_robust": estimate(replay.success),
        "success_change": estimate(replay.success_change),
        "cost_change_nanousd": estimate(replay.cost_change),
    })
}

/// A fall of a model's success. [`falls`] reads it again.
pub(super) fn of_fall(model: &str, fall: &Fall, reference: f64, settings: &Settings) -> Value {
    json!({
        "model": model,
        "since": fall.since,
        "n": fall.n,
        "success_rate": fall.successes as f64 / fall.n as f64,
        "reference_success": reference,
        "margin": settings.margin,
        "statistic": fall.statistic,
        "threshold": settings.fall_threshold,
    })
}

/// The models that a learning took back, and since when they are another than before.
pub fn falls(evidence: &Value) -> Vec<(String, DateTime<Utc>)> {
    let falls = evidence.get("falls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let read = |fall: &Value| {
        let since = DateTime::parse_from_rfc3339(fall.get("since")?.as_str()?).ok()?;
        Some((fall.get("model")?.as_str()?.to_owned(), since.to_utc()))
    };
    falls.iter().filter_map(read).collect()
}
