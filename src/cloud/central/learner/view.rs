//! What is known about a cell when it is decided.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::row::Row;
use crate::cloud::{Benchmark, Cell, CostOptimization, RoutingRule};
use crate::workflow::Attempted;

/// A cell: what was measured there, and what holds there.
#[derive(Debug, Clone, PartialEq)]
pub struct CellView {
    /// Which.
    pub cell: Cell,
    /// Its models; the first is the reference.
    pub models: Vec<ModelView>,
    /// The rule in force.
    pub rule: Option<InForce<RoutingRule>>,
    /// The claim in force.
    pub claim: Option<InForce<CostOptimization>>,
    /// The benchmarks in force.
    pub benchmarks: Option<InForce<Vec<Benchmark>>>,
}

/// A model in a cell.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelView {
    /// Name in `[models]`.
    pub model: String,
    /// Its newest attempts in the window, oldest first: at most [`ModelView::ROWS_MAX`] that say how good it is, and as
    /// many that infrastructure failed.
    pub rows: Vec<Row>,
    /// Sums of its attempts in the window and since `since`, by the learning whose rule chose;
    /// 0 where none did.
    pub sums: BTreeMap<i64, Sums>,
    /// Successes and attempts of the same model on other routes of the same type of job.
    pub parent: (u64, u64),
    /// When it last changed so much that what was before says nothing about it.
    pub since: Option<DateTime<Utc>>,
}

/// What is published and holds.
#[derive(Debug, Clone, PartialEq)]
pub struct InForce<T> {
    /// Its number.
    pub id: i64,
    /// What it says.
    pub value: T,
    /// When it was published.
    pub created_at: DateTime<Utc>,
    /// Until when it holds.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Sums of attempts of one model under one rule.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sums {
    /// Attempts that say how good it is.
    pub n: u64,
    /// Successes among them.
    pub successes: u64,
    /// Those of them whose cost is known.
    pub priced: u64,
    /// Nano-dollars of these.
    pub cost: f64,
    /// Their squares.
    pub cost_squared: f64,
    /// Nano-dollars of successes.
    pub cost_of_successes: f64,
    /// Nano-dollars of attempts that infrastructure failed, as far as they are known.
    pub lost: f64,
    /// Their squares.
    pub lost_squared: f64,
}

impl ModelView {
    /// Most attempts of a model, of either kind, that a decision looks at one by one.
    pub const ROWS_MAX: usize = 2_000;

    /// The attempts that say something about the model as it is now.
    pub(super) fn current_rows(&self) -> &[Row] {
        let since = self.since;
        let start = self.rows.partition_point(|row| since.is_some_and(|since| row.completed_at < since));
        &self.rows[start..]
    }
}

impl<T> InForce<T> {
    /// More than half of its life is over, so that it should be confirmed.
    pub(super) fn is_old(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|expires| expires - now < now - self.created_at)
    }
}

impl Sums {
    /// All of a model.
    pub(super) fn of(model: &ModelView) -> Self {
        let mut sums = Self::default();
        model.sums.values().for_each(|one| sums.merge(one));
        sums
    }

    /// Counts one attempt more.
    pub fn add(&mut self, row: &Row) {
        let cost = row.cost_nanousd.map(|cost| cost as f64);
        if !row.outcome.is_quality() {
            let cost = cost.filter(|_| row.outcome.is_spent()).unwrap_or(0.0);
            self.lost += cost;
            self.lost_squared += cost * cost;
            return;
        }
        let success = u64::from(row.outcome == Attempted::Success);
        self.n += 1;
        self.successes += success;
        if let Some(cost) = cost {
            self.priced += 1;
            self.cost += cost;
            self.cost_squared += cost * cost;
            self.cost_of_successes += cost * success as f64;
        }
    }

    /// Nano-dollars for each attempt that says how good the model is, what infrastructure lost included.
    pub(super) fn cost_each(&self) -> Option<f64> {
        (self.priced > 0).then(|| self.cost / self.priced as f64 + self.lost / self.n as f64)
    }

    /// Both together.
    pub fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.successes += other.successes;
        self.priced += other.priced;
        self.cost += other.cost;
        self.cost_squared += other.cost_squared;
        self.cost_of_successes += other.cost_of_successes;
        self.lost += other.lost;
        self.lost_squared += other.lost_squared;
    }
}
