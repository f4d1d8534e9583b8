//! Claims: "use this model more, it is cheaper and not worse", told only when they are proven.
//!
//! Proven are both at once: the success of the candidate is surely not lower than the reference's minus the margin,
//! and the cost of its success is surely lower. Both bounds are confidence sequences, so that looking every few
//! minutes does not make a wrong claim likelier.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::arm::Arm;
use super::comparison::{Comparison, CostComparison};
use super::decide::{Decision, Draft};
use super::evidence::{of_comparison, percent};
use super::settings::Settings;
use super::view::{CellView, InForce};
use crate::cloud::{CostOptimization, EstimatedSavings, Payload, Preference};

/// A claim is told again when what it saves has changed by so much.
const SAVINGS_CHANGE: f64 = 0.05;

/// The claim that is proven, or the one in force that no longer holds. `comparisons` are those of the candidates.
pub(super) fn claim(
    view: &CellView,
    arms: &[Arm],
    comparisons: &[Option<Comparison>],
    now: DateTime<Utc>,
    settings: &Settings,
) -> Option<Decision> {
    let (reference, candidates) = view.models.split_first()?;
    let (bar, others) = arms.split_first()?;
    let proven = |index: usize| {
        let found = comparisons.get(index)?.as_ref()?;
        let enough = found.reference.n.min(found.candidate.n) >= settings.claim_attempts;
        let cost = found.cost.filter(|cost| cost.ratio_high < 1.0)?;
        let holds = enough && found.difference_low > -settings.margin && still_holds(bar, others.get(index)?, settings);
        holds.then_some((index, found, cost))
    };
    let best = (0..candidates.len()).filter_map(proven).min_by(|a, b| a.2.ratio.total_cmp(&b.2.ratio));
    let Some((index, found, cost)) = best else {
        return withdraw(view, arms, settings);
    };
    let model = &candidates[index].model;
    let fraction = 1.0 - cost.ratio;
    if let Some(InForce { value, .. }) = view.claim.as_ref().filter(|told| !told.is_old(now)) {
        let same = value.settings.prefer == *model && value.settings.instead_of == reference.model;
        if same && (value.estimated_savings.fraction - fraction).abs() < SAVINGS_CHANGE {
            return None;
        }
    }
    let summary = format!(
        "Use {model} more in {}: {} cheaper than {} for each success, and not worse by more than {} points.",
        view.cell,
        percent(fraction),
        reference.model,
        settings.margin * 100.0,
    );
    let evidence = of_comparison(model, found, settings);
    let payload = told(view, model, &reference.model, cost);
    Some(Decision::publish("claim", Draft::new(payload, summary, evidence, settings.claim_lifetime)))
}

fn told(view: &CellView, prefer: &str, instead_of: &str, cost: CostComparison) -> Payload {
    Payload::CostOptimization(CostOptimization {
        estimated_savings: EstimatedSavings {
            fraction: 1.0 - cost.ratio,
            per_success_nanousd: (cost.reference - cost.candidate).round() as i64,
        },
        settings: Preference { cell: view.cell.clone(), prefer: prefer.to_owned(), instead_of: instead_of.to_owned() },
    })
}

/// The newest attempts alone do not speak against it: bounds over weeks are slow to notice a new price.
fn still_holds(reference: &Arm, candidate: &Arm, settings: &Settings) -> bool {
    let cheaper = match (reference.cost_per_success(settings), candidate.cost_per_success(settings)) {
        (Some(reference), Some(candidate)) => candidate < reference,
        _ => false,
    };
    cheaper && candidate.mean(settings) > reference.mean(settings) - settings.margin
}

/// Takes a claim back that the newest attempts speak against: the opposite is preferred, which saves nothing. It must
/// not end before the claim would, or whoever comes later would find the claim alone.
fn withdraw(view: &CellView, arms: &[Arm], settings: &Settings) -> Option<Decision> {
    let told = view.claim.as_ref()?;
    let place = |name: &str| view.models.iter().position(|model| model.model == name);
    let (prefer, instead_of) = (&told.value.settings.prefer, &told.value.settings.instead_of);
    let holds = match (place(instead_of).and_then(|at| arms.get(at)), place(prefer).and_then(|at| arms.get(at))) {
        (Some(reference), Some(candidate)) => {
            // Few attempts after a change say nothing yet; the claim then ends by itself.
            candidate.n < settings.nursery_jobs || still_holds(reference, candidate, settings)
        }
        _ => false,
    };
    if holds {
        return None;
    }
    let summary = format!("{prefer} is no longer cheaper than {instead_of} and as good in {}.", view.cell);
    let payload = Payload::CostOptimization(CostOptimization {
        estimated_savings: EstimatedSavings { fraction: 0.0, per_success_nanousd: 0 },
        settings: Preference { cell: view.cell.clone(), prefer: instead_of.clone(), instead_of: prefer.clone() },
    });
    let evidence = json!({"withdraws": told.id});
    let draft = Draft { rolls_back: Some(told.id), ..Draft::new(payload, summary, evidence, settings.claim_lifetime) };
    Some(Decision::publish("withdraw_claim", draft))
}
