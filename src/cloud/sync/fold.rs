//! What an instance holds of what was learned: of each type and key the latest learning that it applied.
//!
//! Pure. It is a fold over learnings in which an older one never takes the place of a later one, so that the order in
//! which they come, and how often, makes no difference.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::cloud::learning::{
    Benchmark, CostOptimization, Kind, Learning, LearningError, PatternDiscovery, Payload, RoutingRule,
};
use crate::routing::{Orders, Policy, Rule, Weight};

/// Learnings in force, by type and key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Learned(BTreeMap<(Kind, String), Held>);

/// A learning and its payload as it was read.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    learning: Learning,
    payload: Payload,
}

/// A part of what is held, and the learning that it is from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said<T> {
    /// Number of the learning.
    pub learning_id: i64,
    /// Its sentence for people.
    pub summary: String,
    /// When it was decided.
    pub created_at: DateTime<Utc>,
    /// When it ceases to hold.
    pub expires_at: Option<DateTime<Utc>>,
    /// What it says.
    #[serde(flatten)]
    pub says: T,
}

impl<T: Clone> Said<&T> {
    /// The same with a copy of what it says.
    pub fn cloned(self) -> Said<T> {
        let Self { learning_id, summary, created_at, expires_at, says } = self;
        Said { learning_id, summary, created_at, expires_at, says: says.clone() }
    }
}

impl Learned {
    /// Takes a learning; `false`, and nothing changes, when one of its type and key is held that is as new or newer.
    ///
    /// # Errors
    /// [`LearningError`]: it cannot be read here.
    pub fn take(&mut self, learning: Learning) -> Result<bool, LearningError> {
        let payload = learning.read()?;
        let key = (payload.kind(), learning.key.clone());
        if self.0.get(&key).is_some_and(|held| held.learning.id >= learning.id) {
            return Ok(false);
        }
        self.0.insert(key, Held { learning, payload });
        Ok(true)
    }

    /// Number of the latest learning; 0 for none.
    pub fn version(&self) -> i64 {
        self.0.values().map(|held| held.learning.id).max().unwrap_or(0)
    }

    /// The policy that follows at `now`, with the orders of people.
    pub fn policy(&self, orders: Orders, now: DateTime<Utc>) -> Policy {
        let mut policy = Policy::new(orders);
        for Said { learning_id, expires_at, says, .. } in self.rules(now) {
            policy.learn(&says.cell().to_string(), rule(learning_id, expires_at, says));
        }
        for claim in self.claims(now) {
            policy.prefer(&claim.says.settings.cell.to_string(), &claim.says.settings.prefer);
        }
        policy
    }

    /// Rules of routing that hold at `now`.
    pub fn rules(&self, now: DateTime<Utc>) -> impl Iterator<Item = Said<&RoutingRule>> {
        self.of(now, |payload| match payload {
            Payload::ModelRouting(routing) => routing.routing_rules.first(),
            _ => None,
        })
    }

    /// Patterns that hold at `now`.
    pub fn patterns(&self, now: DateTime<Utc>) -> impl Iterator<Item = Said<&PatternDiscovery>> {
        self.of(now, |payload| match payload {
            Payload::PatternDiscovery(pattern) => Some(pattern),
            _ => None,
        })
    }

    /// Proven claims about costs that hold at `now`.
    pub fn claims(&self, now: DateTime<Utc>) -> impl Iterator<Item = Said<&CostOptimization>> {
        self.of(now, |payload| match payload {
            Payload::CostOptimization(claim) => Some(claim),
            _ => None,
        })
    }

    /// Benchmarks that hold at `now`.
    pub fn benchmarks(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Benchmark> {
        let measured = self.of(now, |payload| match payload {
            Payload::PerformanceBenchmark(measured) => Some(&measured.benchmarks),
            _ => None,
        });
        measured.flat_map(|from| from.says)
    }

    fn of<'a, T: 'a>(
        &'a self,
        now: DateTime<Utc>,
        pick: impl Fn(&'a Payload) -> Option<T> + 'a,
    ) -> impl Iterator<Item = Said<T>> + 'a {
        let holding = self.0.values().filter(move |held| !held.learning.is_expired(now));
        holding.filter_map(move |Held { learning, payload }| {
            Some(Said {
                learning_id: learning.id,
                summary: learning.summary.clone(),
                created_at: learning.created_at,
                expires_at: learning.expires_at,
                says: pick(payload)?,
            })
        })
    }
}

fn rule(version: i64, expires_at: Option<DateTime<Utc>>, says: &RoutingRule) -> Rule {
    let weights = says.models.iter().map(|of| Weight { model: of.model.clone(), weight: of.weight });
    Rule { version, reference: says.reference.clone(), weights: weights.collect(), expires_at }
}

#[cfg(test)]
mod tests;
