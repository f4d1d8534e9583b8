//! One decision about a cell, from what is known to what is published.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use serde_json::{Value, json};

use super::allocation::{Drawn, draw, settle, weights};
use super::arm::{Arm, smoothed};
use super::benchmark::benchmarks;
use super::claim::claim;
use super::comparison::{Comparison, compare};
use super::evidence::{of_comparison, of_fall, of_model, of_replay, percent};
use super::fall::fallen;
use super::news::{CHANGE_MIN, is_news};
use super::replay::{Belief, Logged, Replay, replay};
use super::settings::Settings;
use super::view::CellView;
use crate::cloud::{ModelRouting, Payload, RoutingRule, WeightedModel};

/// Attempts that the rule in force must have chosen before a share rises again.
const SEEN_MIN: usize = 20;

/// What was decided about a cell or a pattern, also where nothing is published.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// One word: `reallocate`, `confirm`, `keep`, `object`, `roll_back`, `claim`, `withdraw_claim`, `benchmark`,
    /// `discover_pattern`.
    pub name: &'static str,
    /// Why; of what is published its evidence says it.
    pub detail: Value,
    /// What is published.
    pub draft: Option<Draft>,
}

/// A learning that has no number yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What it says.
    pub payload: Payload,
    /// One sentence for people.
    pub summary: String,
    /// What it was concluded from.
    pub evidence: Value,
    /// Number of the learning that it takes back.
    pub rolls_back: Option<i64>,
    /// How long it holds.
    pub lifetime: Duration,
}

impl Draft {
    pub(super) fn new(payload: Payload, summary: String, evidence: Value, lifetime: Duration) -> Self {
        Self { payload, summary, evidence, rolls_back: None, lifetime }
    }
}

impl Decision {
    pub(super) fn publish(name: &'static str, draft: Draft) -> Self {
        Self { name, detail: Value::Object(serde_json::Map::new()), draft: Some(draft) }
    }

    fn note(name: &'static str, detail: Value) -> Self {
        Self { name, detail, draft: None }
    }
}

/// A cell with what is believed of its models.
struct Known<'a> {
    view: &'a CellView,
    settings: &'a Settings,
    arms: Vec<Arm>,
    comparisons: Vec<Option<Comparison>>,
    /// Present weights, those of the rule in force or all on the reference.
    weights: Vec<f64>,
    now: DateTime<Utc>,
    seed: u64,
}

/// Decides about a cell. Pure: the same view, settings, time and seed give the same decisions.
///
/// At most one decision about routing comes first, then at most one claim and one benchmark. A cell that nothing was
/// measured in gets none.
pub fn decide(view: &CellView, settings: &Settings, now: DateTime<Utc>, seed: u64) -> Vec<Decision> {
    let known = Known::of(view, settings, now, seed);
    if known.arms.iter().all(|arm| arm.n == 0) {
        return Vec::new();
    }
    let routing = (view.models.len() > 1).then(|| known.roll_back().unwrap_or_else(|| known.reallocate()));
    let claim = claim(view, &known.arms, &known.comparisons, now, settings);
    routing.into_iter().chain(claim).chain(benchmarks(view, now, settings)).collect()
}

impl<'a> Known<'a> {
    fn of(view: &'a CellView, settings: &'a Settings, now: DateTime<Utc>, seed: u64) -> Self {
        let (mut successes, mut n) = (0, 0);
        for sums in view.models.iter().flat_map(|model| model.sums.values()) {
            (successes, n) = (successes + sums.successes, n + sums.n);
        }
        let fallback = smoothed(successes, n);
        let arms: Vec<_> = view.models.iter().map(|model| Arm::of(model, fallback, now, settings)).collect();
        let candidates = view.models.len().saturating_sub(1);
        let alpha = settings.alpha / candidates.max(1) as f64;
        let comparisons = match view.models.split_first() {
            Some((reference, others)) => others.iter().map(|other| compare(reference, other, alpha)).collect(),
            None => Vec::new(),
        };
        let rule = view.rule.as_ref();
        let mut weights: Vec<f64> =
            view.models.iter().map(|model| rule.map_or(0.0, |rule| rule.value.weight(&model.model))).collect();
        let given: f64 = weights.iter().skip(1).sum();
        // Models that are no longer configured leave their share to the reference.
        if let Some(reference) = weights.first_mut() {
            *reference = 1.0 - given;
        }
        Self { view, settings, arms, comparisons, weights, now, seed }
    }

    /// Takes every model back whose success fell, at once and not by the ramp.
    fn roll_back(&self) -> Option<Decision> {
        let rule = self.view.rule.as_ref()?;
        let floor = self.settings.floor_of(self.arms.len() - 1);
        let bar = self.arms.first()?.cautious(self.settings);
        let mut weights = self.weights.clone();
        let (mut falls, mut names) = (Vec::new(), Vec::new());
        for (index, model) in self.view.models.iter().enumerate().skip(1) {
            if weights[index] <= floor + CHANGE_MIN / 2.0 {
                continue;
            }
            let margin = self.settings.margin;
            if let Some(fall) = fallen(model.current_rows(), bar, margin, self.settings.fall_threshold) {
                falls.push(of_fall(&model.model, &fall, bar, self.settings));
                names.push(model.model.as_str());
                weights[index] = floor;
            }
        }
        if falls.is_empty() {
            return None;
        }
        let weights = settle(weights);
        let mut evidence = self.evidence(None, &weights, None);
        evidence["falls"] = Value::Array(falls);
        let summary = format!(
            "{} in {} succeeds less than before: back to {}.",
            names.join(", "),
            self.view.cell,
            self.view.models[0].model
        );
        let draft = Draft { rolls_back: Some(rule.id), ..self.rule(&weights, summary, evidence) };
        Some(Decision::publish("roll_back", draft))
    }

    /// Moves weights towards what the draws say.
    fn reallocate(&self) -> Decision {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let drawn = draw(&self.arms, self.settings, &mut rng);
        let next = weights(&drawn, &self.weights, self.has_been_seen(), self.settings);
        let same_models = self.view.rule.as_ref().is_some_and(|rule| {
            let names = |rule: &RoutingRule| rule.models.iter().map(|model| model.model.clone()).collect::<Vec<_>>();
            rule.value.reference == self.view.models[0].model
                && names(&rule.value).into_iter().eq(self.view.models.iter().map(|model| model.model.clone()))
        });
        let confirm = self.view.rule.as_ref().is_some_and(|rule| rule.is_old(self.now));
        if same_models && !is_news(&drawn, &self.weights, &next, self.settings) {
            if !confirm {
                return Decision::note("keep", self.evidence(Some(&drawn), &self.weights, None));
            }
            let evidence = self.evidence(Some(&drawn), &self.weights, None);
            let summary = format!("What holds in {} still holds.", self.view.cell);
            return Decision::publish("confirm", self.rule(&settle(self.weights.clone()), summary, evidence));
        }
        let replayed = self.replay(&next);
        let mut evidence = self.evidence(Some(&drawn), &next, replayed.as_ref());
        // Going back to the reference is always allowed.
        let leaves_reference = next.first() < self.weights.first();
        let replayed = replayed.filter(|_| leaves_reference);
        if let Some(objection) = replayed.and_then(|replayed| replayed.objection(self.settings.margin)) {
            evidence["objection"] = objection.into();
            return Decision::note("object", evidence);
        }
        Decision::publish("reallocate", self.rule(&next, self.summary(&next), evidence))
    }

    /// Enough has come in that the rule in force chose.
    fn has_been_seen(&self) -> bool {
        let Some(rule) = &self.view.rule else { return true };
        let chosen = |row: &&super::row::Row| row.policy_version == Some(rule.id) && row.outcome.is_spent();
        let rows = self.view.models.iter().flat_map(|model| model.rows.iter().rev());
        rows.filter(chosen).take(SEEN_MIN).count() == SEEN_MIN
    }

    fn replay(&self, next: &[f64]) -> Option<Replay> {
        let mut logged = Vec::new();
        for (index, model) in self.view.models.iter().enumerate() {
            let rows = model.current_rows().iter().filter(|row| row.outcome.is_spent());
            logged.extend(rows.filter_map(|row| {
                let cost_nanousd = row.cost_nanousd.map(|cost| cost as f64);
                let success = row.outcome.is_quality().then(|| row.reward());
                Some(Logged { model: index, propensity: row.propensity?, success, cost_nanousd })
            }));
        }
        let belief = |arm: &Arm| Belief {
            success: arm.mean(self.settings),
            cost_nanousd: arm.cost.map_or(0.0, |(cost, _)| cost),
        };
        let beliefs: Vec<_> = self.arms.iter().map(belief).collect();
        replay(&logged, &beliefs, &self.weights, next)
    }

    fn rule(&self, weights: &[f64], summary: String, evidence: Value) -> Draft {
        let models = self.view.models.iter().zip(weights);
        let rule = RoutingRule {
            job_type: self.view.cell.job_type.clone(),
            route: self.view.cell.route.clone(),
            reference: self.view.models.first().map(|model| model.model.clone()).unwrap_or_default(),
            models: models
                .map(|(model, weight)| WeightedModel { model: model.model.clone(), weight: *weight })
                .collect(),
        };
        let payload = Payload::ModelRouting(ModelRouting::of(rule));
        Draft::new(payload, summary, evidence, self.settings.routing_lifetime)
    }

    /// Whose share changes most, in words.
    fn summary(&self, next: &[f64]) -> String {
        let change = |index: &usize| (next[*index] - self.weights[*index]).abs();
        let most = (1..next.len()).max_by(|a, b| change(a).total_cmp(&change(b))).unwrap_or_default();
        let model = &self.view.models[most].model;
        let (before, after) = (percent(self.weights[most]), percent(next[most]));
        format!("Send {after} of {} to {model}, {before} before.", self.view.cell)
    }

    fn evidence(&self, drawn: Option<&[Drawn]>, next: &[f64], replayed: Option<&Replay>) -> Value {
        let models = self.view.models.iter().enumerate().map(|(index, model)| {
            let weights = (self.weights[index], next[index]);
            let drawn = drawn.and_then(|drawn| drawn.get(index));
            of_model(&model.model, &self.arms[index], drawn, weights, model.since, self.settings)
        });
        let others = self.view.models.iter().skip(1).zip(&self.comparisons);
        let comparisons: Vec<_> = others
            .filter_map(|(model, found)| Some(of_comparison(&model.model, found.as_ref()?, self.settings)))
            .collect();
        json!({
            "policy_version": self.view.rule.as_ref().map(|rule| rule.id),
            "seed": self.seed,
            "draws": self.settings.draws,
            "margin": self.settings.margin,
            "latency_ceiling_ms": self.settings.latency_ceiling_ms,
            "models": models.collect::<Vec<_>>(),
            "comparisons": comparisons,
            "replay": replayed.map(of_replay),
        })
    }
}

#[cfg(test)]
mod tests;
