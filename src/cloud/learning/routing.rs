//! Rules of routing: how the requests of a cell are divided among models.

use serde::{Deserialize, Serialize};

use super::cell::Cell;
use super::check::{bad, count, name, share, word};
use super::error::LearningError;
use super::payload::Kind;

/// Most models of a rule.
const MODELS_MAX: usize = 32;

/// How far the sum of weights may be from 1: room for what decimal fractions lose, not for a mistake.
const SUM_TOLERANCE: f64 = 1e-6;

/// `model_routing`: the whole state of one cell. Its key is the cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRouting {
    /// Exactly one rule.
    pub routing_rules: Vec<RoutingRule>,
}

/// How the requests of one cell are divided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutingRule {
    /// Type of the jobs.
    pub job_type: String,
    /// Route of the requests.
    pub route: String,
    /// The model that the others are measured by; it is one of `models` and always has a weight.
    pub reference: String,
    /// Each model once; the weights sum to 1.
    pub models: Vec<WeightedModel>,
}

/// A model and its share of the requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedModel {
    /// Name in `[models]`.
    pub model: String,
    /// Share from 0 to 1; with 0 it is known and gets nothing.
    pub weight: f64,
}

impl ModelRouting {
    /// The learning that puts `rule` into force.
    pub fn of(rule: RoutingRule) -> Self {
        Self { routing_rules: vec![rule] }
    }

    pub(super) fn check(&self) -> Result<(), LearningError> {
        count(Kind::ModelRouting, "routing_rules", self.routing_rules.len(), 1)?;
        self.routing_rules.iter().try_for_each(RoutingRule::check)
    }
}

impl RoutingRule {
    /// The cell whose requests it divides.
    pub fn cell(&self) -> Cell {
        Cell::new(&*self.job_type, &*self.route)
    }

    /// The weight of `model`; 0 where it is not named.
    pub fn weight(&self, model: &str) -> f64 {
        self.models.iter().find(|weighted| weighted.model == model).map_or(0.0, |weighted| weighted.weight)
    }

    /// Whether it can be put into force.
    ///
    /// # Errors
    /// `E1104`, naming the first value that is not allowed.
    pub fn check(&self) -> Result<(), LearningError> {
        let kind = Kind::ModelRouting;
        word(kind, "job_type", &self.job_type)?;
        word(kind, "route", &self.route)?;
        name(kind, "reference", &self.reference)?;
        count(kind, "models", self.models.len(), MODELS_MAX)?;
        for (index, WeightedModel { model, weight }) in self.models.iter().enumerate() {
            name(kind, "model", model)?;
            share(kind, &format!("the weight of {model}"), *weight)?;
            if self.models[..index].iter().any(|earlier| earlier.model == *model) {
                return Err(bad(kind, "models", model, "each model once"));
            }
        }
        let sum: f64 = self.models.iter().map(|weighted| weighted.weight).sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(bad(kind, "the sum of the weights", sum, "1"));
        }
        if self.weight(&self.reference) <= 0.0 {
            let weight = self.weight(&self.reference);
            return Err(bad(kind, "the weight of the reference", weight, "above 0: it is what others are measured by"));
        }
        Ok(())
    }
}
