//! Limits of calls to models: how fast (`[providers.NAME.limits]`, `[models.NAME.limits]`) and how much
//! (`[budgets.NAME]`).
//!
//! Types, keys and rules of these tables in one place. Rates hold on each instance by itself; budgets hold for all
//! instances of a database together.

use serde::{Deserialize, Serialize};

use super::cron::timezone;
use super::kind::Kind;
use super::problem::Flaw;
use super::rules;
use super::schema::{Node, Table};
use crate::cron::ZONE_DEFAULT;

/// Most requests and tokens of a minute that can be configured.
const RATE_MAX: i64 = 1_000_000_000;
/// Largest budget in dollars and in requests.
const USD_MAX: f64 = 1_000_000_000.0;
const REQUESTS_MAX: i64 = 1_000_000_000_000;

/// `[providers.NAME.limits]` and `[models.NAME.limits]`, on each instance
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls that are begun in a minute; 1 to 1,000,000,000. Unlimited when absent.
    pub requests_per_minute: Option<u64>,
    /// Tokens of a minute, in and out; 1 to 1,000,000,000. Unlimited when absent.
    pub tokens_per_minute: Option<u64>,
}

/// `[budgets.NAME]`: what calls may cost, and how many there may be, in one period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Calls of this route alone: a complexity or a name of `[routing.routes]`. All calls when absent.
    pub route: Option<String>,
    /// Calls to this provider alone. All providers when absent.
    pub provider: Option<String>,
    /// Dollars; 0 to 1,000,000,000. Unlimited when absent.
    pub usd: Option<f64>,
    /// Calls; 0 to 1,000,000,000,000. Unlimited when absent.
    pub requests: Option<u64>,
    /// When it is full again. Default `day`.
    pub period: BudgetPeriod,
    /// Zone whose clocks say when a period begins. Default `Etc/UTC`.
    pub timezone: String,
}

/// How long a budget lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BudgetPeriod {
    /// From midnight to midnight.
    #[default]
    Day,
    /// From the first of a month.
    Month,
}

impl BudgetPeriod {
    /// As it is written, which is also how PostgreSQL calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            route: None,
            provider: None,
            usd: None,
            requests: None,
            period: BudgetPeriod::Day,
            timezone: ZONE_DEFAULT.into(),
        }
    }
}

impl Budget {
    /// Whether it states an amount.
    pub const fn limits_something(&self) -> bool {
        self.usd.is_some() || self.requests.is_some()
    }
}

/// The keys of rates as data.
pub(super) const LIMITS: Node = Node::Table(Table {
    whole: false,
    fields: &[
        ("requests_per_minute", Node::Leaf(Kind::Integer { min: 1, max: RATE_MAX })),
        ("tokens_per_minute", Node::Leaf(Kind::Integer { min: 1, max: RATE_MAX })),
    ],
});

/// The keys of a budget as data.
pub(super) const BUDGET: Node = Node::Table(Table {
    whole: false,
    fields: &[
        ("route", Node::Leaf(Kind::Text(rules::name))),
        ("provider", Node::Leaf(Kind::Text(rules::name))),
        ("usd", Node::Leaf(Kind::Number { min: 0.0, max: USD_MAX })),
        ("requests", Node::Leaf(Kind::Integer { min: 0, max: REQUESTS_MAX })),
        ("period", Node::Leaf(Kind::Choice(&["day", "month"]))),
        ("timezone", Node::Leaf(Kind::Text(timezone))),
    ],
});

/// What a budget lacks. One for all calls may limit nothing, as the shipped one; who names calls means a limit.
pub(super) fn incomplete(budget: &Budget) -> Option<Flaw> {
    let names_calls = budget.route.is_some() || budget.provider.is_some();
    (names_calls && !budget.limits_something())
        .then(|| Flaw::bad("the budget limits nothing").suggest("state usd, requests, or both"))
}
