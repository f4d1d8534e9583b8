//! The rules by which models are chosen at this moment: what was learned, and what people ordered instead.
//!
//! Pure. A rule belongs to a cell, which is a job type and a route (`llm_request/complex`), and the later learning of a
//! cell takes the place of the earlier, in whatever order and however often they come: two instances that know the same
//! learnings have the same policy. Orders of people beat rules, and a model that is switched off beats a pin.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Keys of orders in the settings of instances: `routing.pin.ROUTE`, `routing.off.MODEL`, `routing.learning`.
const PREFIX: &str = "routing.";

/// How often a model of a cell is taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// Name in `[models]`.
    pub model: String,
    /// Share, from 0 to 1.
    pub weight: f64,
}

/// What a learning says about a cell: its whole state, not a change to the one before. Learnings are checked where they
/// are read, so the weights are in order; a rule without any would choose nothing, and the reference serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Number of the learning.
    pub version: i64,
    /// The model that others are measured by.
    pub reference: String,
    /// Shares of the models; their sum is 1.
    pub weights: Vec<Weight>,
    /// When it ceases to hold; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Rule {
    fn holds(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// What people ordered. Read from settings that expire by themselves.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Orders {
    /// Route → the one model that serves it.
    pub pins: BTreeMap<String, String>,
    /// Models that are not called.
    pub off: BTreeSet<String>,
    /// What was learned does not count.
    pub learning_off: bool,
}

impl Orders {
    /// The setting that pins a route to a model.
    pub fn pin_key(route: &str) -> String {
        format!("{PREFIX}pin.{route}")
    }

    /// The setting that switches a model off.
    pub fn off_key(model: &str) -> String {
        format!("{PREFIX}off.{model}")
    }

    /// The setting that makes everything learned count or not.
    pub const LEARNING_KEY: &str = "routing.learning";

    /// Whether a setting is an order about routing.
    pub fn is_order(key: &str) -> bool {
        key.starts_with(PREFIX)
    }

    /// Reads orders from settings, the later of two with one key counting; and what cannot be used, in words. Settings
    /// about other things are passed over.
    pub fn read<'a>(settings: impl IntoIterator<Item = (&'a str, &'a Value)>) -> (Self, Vec<String>) {
        let (mut orders, mut unusable) = (Self::default(), Vec::new());
        for (key, value) in settings {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            if let Err(reason) = orders.set(name, value) {
                unusable.push(format!("{key} = {value}: {reason}"));
            }
        }
        (orders, unusable)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), &'static str> {
        match (name.split_once('.'), name, value) {
            (Some(("pin", route)), _, Value::String(model)) => drop(self.pins.insert(route.into(), model.clone())),
            (Some(("pin", _)), ..) => return Err("not the name of a model"),
            (Some(("off", model)), _, Value::Bool(true)) => drop(self.off.insert(model.into())),
            (Some(("off", model)), _, Value::Bool(false)) => drop(self.off.remove(model)),
            (Some(("off", _)), ..) => return Err("not true or false"),
            (None, "learning", Value::String(word)) if word == "off" => self.learning_off = true,
            (None, "learning", Value::String(word)) if word == "on" => self.learning_off = false,
            (None, "learning", _) => return Err("not \"on\" or \"off\""),
            _ => return Err("no order about routing"),
        }
        Ok(())
    }
}

/// All rules and orders of an instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Policy {
    /// Cell → the latest rule about it.
    rules: BTreeMap<String, Rule>,
    /// Cell → the model that is proven to cost less there, first of those that are called when the chosen one fails.
    preferred: BTreeMap<String, String>,
    /// What people ordered.
    pub orders: Orders,
}

impl Policy {
    /// Orders, and no rules yet.
    pub fn new(orders: Orders) -> Self {
        Self { orders, ..Self::default() }
    }

    /// Name of a cell.
    pub fn cell(job_type: &str, route: &str) -> String {
        format!("{job_type}/{route}")
    }

    /// Takes a rule; `false`, and nothing changes, when the cell has one of this number or of a later one.
    pub fn learn(&mut self, cell: &str, rule: Rule) -> bool {
        match self.rules.get_mut(cell) {
            Some(known) if known.version >= rule.version => false,
            Some(known) => {
                *known = rule;
                true
            }
            None => {
                self.rules.insert(cell.to_owned(), rule);
                true
            }
        }
    }

    /// Sets which model is proven to cost less in a cell.
    pub fn prefer(&mut self, cell: &str, model: &str) {
        self.preferred.insert(cell.to_owned(), model.to_owned());
    }

    /// Drops the rules that hold no more. An expired rule leaves its cell without one: what it had replaced was older.
    #[must_use]
    pub fn at(mut self, now: DateTime<Utc>) -> Self {
        self.rules.retain(|_, rule| rule.holds(now));
        self
    }

    /// The rules by cell, whether or not orders overrule them.
    pub fn rules(&self) -> &BTreeMap<String, Rule> {
        &self.rules
    }

    /// The rule that chooses in a cell; none where what was learned does not count.
    pub fn rule(&self, cell: &str) -> Option<&Rule> {
        self.rules.get(cell).filter(|_| !self.orders.learning_off)
    }

    /// The model that is proven to cost less in a cell.
    pub fn preferred(&self, cell: &str) -> Option<&str> {
        self.preferred.get(cell).filter(|_| !self.orders.learning_off).map(String::as_str)
    }

    /// Whether a person has switched the model off.
    pub fn is_off(&self, model: &str) -> bool {
        self.orders.off.contains(model)
    }

    /// Number of the latest learning among its rules; 0 for none.
    pub fn version(&self) -> i64 {
        self.rules.values().map(|rule| rule.version).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rule(version: i64, weights: &[(&str, f64)]) -> Rule {
        let weights = weights.iter().map(|(model, weight)| Weight { model: (*model).into(), weight: *weight });
        let weights: Vec<Weight> = weights.collect();
        let reference = weights.first().map(|weight| weight.model.clone()).unwrap_or_default();
        Rule { version, reference, weights, expires_at: None }
    }

    #[test]
    fn an_expired_rule_leaves_no_rule() {
        let now = DateTime::UNIX_EPOCH;
        let mut policy = Policy::default();
        assert!(policy.learn("t/r", rule(1, &[("a", 1.0)])));
        assert!(policy.learn("t/r", Rule { expires_at: Some(now), ..rule(2, &[("b", 1.0)]) }));
        assert!(!policy.learn("t/r", rule(1, &[("a", 1.0)])), "an older one is refused");
        assert_eq!(policy.clone().at(now - chrono::TimeDelta::milliseconds(1)).version(), 2);
        assert_eq!(policy.at(now).rule("t/r"), None);
    }

    #[test]
    fn orders_are_read_and_what_makes_no_sense_is_reported() {
        let settings = [
            ("routing.pin.complex", json!("opus")),
            ("routing.pin.simple", json!(7)),
            ("routing.off.gpt-5.1", json!(true)),
            ("routing.off.sonnet", json!(true)),
            ("routing.off.sonnet", json!(false)),
            ("routing.learning", json!("off")),
            ("routing.learning", json!(false)),
            ("routing.pine", json!("opus")),
            ("queues.default.limit", json!(1)),
        ];
        let (orders, unusable) = Orders::read(settings.iter().map(|(key, value)| (*key, value)));
        assert_eq!(orders.pins, [("complex".to_owned(), "opus".to_owned())].into());
        assert_eq!(orders.off, ["gpt-5.1".to_owned()].into());
        assert!(orders.learning_off);
        assert_eq!(unusable.len(), 3, "{unusable:?}");
        assert!(Orders::is_order(&Orders::pin_key("x")) && Orders::is_order(&Orders::off_key("x")));
    }

    proptest! {
        /// The fold does not depend on batches, order or repetition.
        #[test]
        fn the_same_learnings_make_the_same_policy(
            cells in proptest::collection::vec(0_u8..4, 1..30),
            shuffled in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let of = |number: usize| {
                let cell = Policy::cell("t", &cells[number].to_string());
                (cell, rule(i64::try_from(number).unwrap() + 1, &[(number.to_string().as_str(), 1.0)]))
            };
            let mut in_order = Policy::default();
            for number in 0..cells.len() {
                let (cell, rule) = of(number);
                prop_assert!(in_order.learn(&cell, rule));
            }
            // Any prefix of repetitions and late comers, then all.
            let mut other = Policy::default();
            for number in shuffled.iter().map(|index| index.index(cells.len())).chain((0..cells.len()).rev()) {
                let (cell, rule) = of(number);
                other.learn(&cell, rule);
            }
            prop_assert_eq!(&other, &in_order);
            prop_assert_eq!(in_order.version(), i64::try_from(cells.len()).unwrap());
        }
    }
}
