//! The choice of a model, as a pure function of the wish, the configuration, the policy, the health of models and a
//! draw.
//!
//! Who decides, the first that has something to say: a model that the request names, a pin, the rule that was learned
//! for the cell, the reference of the configuration. A model that is switched off is never chosen. Models that are held
//! back by a breaker are left out of a rule while others can be called, with the remaining weights in proportion.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::policy::Policy;
use super::wish::{Asked, Reason, Route, RoutingError, Wish, asked};
use crate::config::{Complexity, Config};

/// Everything that a choice depends on beside the wish.
#[derive(Clone, Copy)]
pub struct Situation<'a> {
    /// Models and routes.
    pub config: &'a Config,
    /// Rules and orders.
    pub policy: &'a Policy,
    /// Kind of job, first half of the cell.
    pub job_type: &'a str,
    /// From 0 up to but not including 1; see [`draw`].
    pub draw: f64,
    /// Whether calls of a model are held back now.
    pub is_held_back: &'a dyn Fn(&str) -> bool,
}

impl fmt::Debug for Situation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Situation").field("job_type", &self.job_type).field("draw", &self.draw).finish_non_exhaustive()
    }
}

/// The chosen model and why. It is stored with the run, so what is added to it needs a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Name in `[models]`.
    pub model: String,
    /// Complexity that led to it; absent where the model was named.
    pub complexity: Option<Complexity>,
    /// What decided on what was asked for.
    pub reason: Reason,
    /// The route that was asked for; absent where the model was named.
    #[serde(default)]
    pub route: Option<String>,
    /// The learning whose rule chose; absent where none did.
    #[serde(default)]
    pub policy_version: Option<i64>,
    /// Probability with which this model was chosen.
    #[serde(default = "certain")]
    pub propensity: f64,
    /// Models to try in this order when this one cannot serve.
    #[serde(default)]
    pub fallbacks: Vec<String>,
    /// How it came to this model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
}

impl Choice {
    /// What people have switched off since is left out; `None` when that is the chosen model itself.
    #[must_use]
    pub fn still(mut self, policy: &Policy) -> Option<Self> {
        self.fallbacks.retain(|model| !policy.is_off(model));
        (!policy.is_off(&self.model)).then_some(self)
    }
}

/// How a route came to its model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Basis {
    /// Job type and route.
    pub cell: String,
    /// What decided.
    pub decided: Decided,
    /// The draw that was compared with the shares.
    pub draw: f64,
    /// The models that were considered, in the order in which shares were added up.
    pub shares: Vec<Share>,
}

/// What decided on a model of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// A person pinned the route to it.
    Pin,
    /// The rule of a learning, by the draw.
    Rule,
    /// Nothing was learned, or it does not count.
    Reference,
}

/// A model that was considered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Name in `[models]`.
    pub model: String,
    /// What the rule gives it.
    pub weight: f64,
    /// Probability with which it was chosen: the weight in proportion to those that could be called.
    pub share: f64,
    /// Why it could not be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<Barred>,
}

/// Why a model of a rule is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Barred {
    /// A person switched it off.
    Off,
    /// This instance has no model of this name.
    NotConfigured,
    /// Its breaker, or that of its provider, is open.
    HeldBack,
}

fn certain() -> f64 {
    1.0
}

/// The draw of an attempt: the same whenever it is asked for, and evenly spread over attempts.
pub fn draw(job_id: i64, attempt: i32) -> f64 {
    let digest = Sha256::digest(format!("{job_id}:{attempt}"));
    let high = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    // 53 bits are what a double holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let unit = (high >> 11) as f64 / (1_u64 << 53) as f64;
    unit
}

/// Chooses the model for a request.
///
/// # Errors
/// [`RoutingError`].
pub fn select(wish: Wish<'_>, situation: &Situation<'_>) -> Result<Choice, RoutingError> {
    match asked(wish, situation.config)? {
        Asked::Model(name) if situation.policy.is_off(name) => Err(RoutingError::AllOff(name.to_owned())),
        Asked::Model(name) => Ok(Choice {
            model: name.to_owned(),
            complexity: None,
            reason: Reason::ExplicitModel,
            route: None,
            policy_version: None,
            propensity: certain(),
            fallbacks: Vec::new(),
            basis: None,
        }),
        Asked::Route(route) => of_route(route, situation),
    }
}

/// Chooses the model of a route.
pub(super) fn of_route(route: Route<'_>, situation: &Situation<'_>) -> Result<Choice, RoutingError> {
    let Situation { policy, draw, .. } = *situation;
    let cell = Policy::cell(situation.job_type, route.name);
    let usable = |model: &&str| barred(model, situation).is_none();
    let pin = policy.orders.pins.get(route.name).map(String::as_str).filter(usable);
    let rule = policy.rule(&cell);
    let shares = rule.map(|rule| shares(&rule.weights, situation)).unwrap_or_default();
    let drawn = draw_from(&shares, draw);
    let (model, decided, propensity, policy_version) = match (pin, rule, drawn) {
        (Some(pin), ..) => (pin, Decided::Pin, certain(), None),
        (None, Some(rule), Some(drawn)) => (drawn.model.as_str(), Decided::Rule, drawn.share, Some(rule.version)),
        _ => {
            let reference = Some(route.reference).filter(usable);
            let model = reference.or_else(|| alternatives(route, situation).into_iter().next());
            let model = model.ok_or_else(|| RoutingError::AllOff(route.reference.to_owned()))?;
            (model, Decided::Reference, certain(), None)
        }
    };
    let fallbacks = alternatives(route, situation).into_iter().filter(|other| *other != model);
    Ok(Choice {
        model: model.to_owned(),
        complexity: route.complexity,
        reason: route.reason,
        route: Some(route.name.to_owned()),
        policy_version,
        propensity,
        fallbacks: fallbacks.map(str::to_owned).collect(),
        basis: Some(Basis { cell, decided, draw, shares: shares.clone() }),
    })
}

/// Models that may serve a route beside the one that was drawn, the best first: the one that is proven to cost less,
/// the reference, those of the rule by weight, then those of the configuration.
fn alternatives<'a>(route: Route<'a>, situation: &Situation<'a>) -> Vec<&'a str> {
    let cell = Policy::cell(situation.job_type, route.name);
    let mut weighted: Vec<_> =
        situation.policy.rule(&cell).map(|rule| rule.weights.iter().collect()).unwrap_or_default();
    weighted.retain(|weight: &&super::policy::Weight| weight.weight > 0.0);
    weighted.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let of_rule = weighted.into_iter().map(|weight| weight.model.as_str());
    let mut names: Vec<&str> = Vec::new();
    let configured = route.candidates.iter().map(String::as_str);
    for name in situation.policy.preferred(&cell).into_iter().chain([route.reference]).chain(of_rule).chain(configured)
    {
        if !names.contains(&name) && barred(name, situation).is_none() {
            names.push(name);
        }
    }
    names
}

/// What keeps a model from being called at all; a breaker does not, for it closes again.
fn barred(model: &str, situation: &Situation<'_>) -> Option<Barred> {
    if !situation.config.models.contains_key(model) {
        Some(Barred::NotConfigured)
    } else if situation.policy.is_off(model) {
        Some(Barred::Off)
    } else {
        None
    }
}

/// The weights of a rule as probabilities of this moment. Where everything that could be called is held back, breakers
/// do not count: the call is told when to come back.
pub(super) fn shares(weights: &[super::policy::Weight], situation: &Situation<'_>) -> Vec<Share> {
    let mut shares: Vec<Share> = weights
        .iter()
        .map(|weight| {
            let barred = barred(&weight.model, situation);
            Share { model: weight.model.clone(), weight: weight.weight, share: 0.0, barred }
        })
        .collect();
    let held_back: Vec<bool> =
        shares.iter().map(|share| share.barred.is_none() && (situation.is_held_back)(&share.model)).collect();
    let callable = |share: &Share| share.barred.is_none() && share.weight > 0.0;
    if shares.iter().zip(&held_back).any(|(share, held_back)| callable(share) && !held_back) {
        for (share, _) in shares.iter_mut().zip(&held_back).filter(|(_, held_back)| **held_back) {
            share.barred = Some(Barred::HeldBack);
        }
    }
    let sum: f64 = shares.iter().filter(|share| callable(share)).map(|share| share.weight).sum();
    for share in &mut shares {
        if callable(share) {
            share.share = (share.weight / sum).min(1.0);
        }
    }
    shares
}

/// The model whose part of the unit interval the draw falls into.
fn draw_from(shares: &[Share], draw: f64) -> Option<&Share> {
    let mut upper = 0.0;
    let mut possible = shares.iter().filter(|share| share.share > 0.0).peekable();
    while let Some(share) = possible.next() {
        upper += share.share;
        // The last one takes what rounding leaves.
        if draw < upper || possible.peek().is_none() {
            return Some(share);
        }
    }
    None
}

#[cfg(test)]
mod tests;
