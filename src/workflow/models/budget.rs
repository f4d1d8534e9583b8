//! Whether a call fits into a budget: pure decisions about one window.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::config::{Budget, Config};

/// When a job looks again while calls under way hold what it needs: they are settled when they end, often for less.
const HELD_WAIT: Duration = Duration::from_secs(15);
const NANOUSD: f64 = 1e9;

/// A configured budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Limited {
    /// Its name.
    pub name: String,
    /// As it is configured.
    pub budget: Budget,
}

impl Limited {
    /// All of a configuration that limit something, by name.
    pub fn all(config: &Config) -> Vec<Self> {
        let ours = config.budgets.iter().filter(|(_, budget)| budget.limits_something());
        ours.map(|(name, budget)| Self { name: name.clone(), budget: budget.clone() }).collect()
    }

    /// Those of a configuration that limit a call of `route` to `provider`, by name.
    pub fn of_call(config: &Config, route: Option<&str>, provider: &str) -> Vec<Self> {
        let applies = |budget: &Budget| {
            budget.route.as_deref().is_none_or(|wanted| Some(wanted) == route)
                && budget.provider.as_deref().is_none_or(|wanted| wanted == provider)
        };
        Self::all(config).into_iter().filter(|limit| applies(&limit.budget)).collect()
    }

    /// Most money, in nano-dollars.
    pub fn nanousd(&self) -> Option<i64> {
        // The configuration allows at most 10^9 dollars, which fit; a fraction of a nano-dollar is nobody's wish.
        #[expect(clippy::cast_possible_truncation, reason = "the range of the key keeps it far below 2^63")]
        self.budget.usd.map(|usd| (usd * NANOUSD).round() as i64)
    }

    /// Most calls.
    pub fn requests(&self) -> Option<i64> {
        self.budget.requests.map(|requests| i64::try_from(requests).unwrap_or(i64::MAX))
    }
}

/// One period of a budget as it stands in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Name of the budget.
    pub budget: String,
    /// Its beginning.
    pub starts_at: DateTime<Utc>,
    /// Its end, when the budget is full again.
    pub ends_at: DateTime<Utc>,
    /// Cost of calls that ended.
    pub spent_nanousd: i64,
    /// Their number.
    pub requests: i64,
    /// Those of them whose cost is unknown.
    pub unpriced: i64,
    /// Highest cost of the calls under way.
    pub reserved_nanousd: i64,
    /// Their number.
    pub reserved_requests: i64,
}

impl Window {
    /// What may still be spent and is not promised to anybody; `None` where money is not limited.
    pub fn remaining_nanousd(&self, limit: &Limited) -> Option<i64> {
        let used = self.spent_nanousd.saturating_add(self.reserved_nanousd);
        limit.nanousd().map(|limit| limit.saturating_sub(used).max(0))
    }

    /// How many calls may still be made; `None` where their number is not limited.
    pub fn remaining_requests(&self, limit: &Limited) -> Option<i64> {
        let used = self.requests.saturating_add(self.reserved_requests);
        limit.requests().map(|limit| limit.saturating_sub(used).max(0))
    }
}

/// Why a call has to wait, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// Name of the budget.
    pub budget: String,
    /// What it says about itself.
    pub reason: String,
    /// When to look again.
    pub wait: Duration,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "budget {:?} {}", self.budget, self.reason)
    }
}

/// Whether a call that costs at most `nanousd` fits into `window` at `now`. A call of unknown cost counts as a request
/// alone.
///
/// # Errors
/// It does not.
pub(super) fn admit(limit: &Limited, window: &Window, nanousd: i64, now: DateTime<Utc>) -> Result<(), Exhausted> {
    let exceeds =
        |used: i64, more: i64, limit: Option<i64>| limit.is_some_and(|limit| used.saturating_add(more) > limit);
    let money = |used| exceeds(used, nanousd, limit.nanousd());
    let calls = |used| exceeds(used, 1, limit.requests());
    let held = window.spent_nanousd.saturating_add(window.reserved_nanousd);
    if !money(held) && !calls(window.requests.saturating_add(window.reserved_requests)) {
        return Ok(());
    }
    let state = describe(limit, window);
    let refusal = |reason: String, wait| Err(Exhausted { budget: limit.name.clone(), reason, wait });
    if !money(window.spent_nanousd) && !calls(window.requests) {
        return refusal(format!("is promised to calls under way: {state}"), HELD_WAIT);
    }
    let wait = window.ends_at.signed_duration_since(now).to_std().unwrap_or_default();
    let until = window.ends_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    if limit.nanousd().is_some_and(|limit| nanousd > limit) {
        let call = dollars(nanousd);
        let reason =
            format!("is smaller than one such call, which may cost {call}; raise it, or ask for less output: {state}");
        return refusal(reason, wait);
    }
    let need = if money(window.spent_nanousd) {
        format!(", and the call may cost {}", dollars(nanousd))
    } else {
        String::new()
    };
    refusal(format!("is used up until {until}: {state}{need}"), wait)
}

/// `$0.40 of $1.00 spent, 12 of 100 requests`.
fn describe(limit: &Limited, window: &Window) -> String {
    let mut parts = Vec::new();
    if let Some(nanousd) = limit.nanousd() {
        parts.push(format!("{} of {} spent", dollars(window.spent_nanousd), dollars(nanousd)));
    }
    if let Some(requests) = limit.requests() {
        parts.push(format!("{} of {requests} requests", window.requests));
    }
    parts.join(", ")
}

fn dollars(nanousd: i64) -> String {
    // Six decimals, rounded half up, as costs are shown everywhere.
    let micro = (i128::from(nanousd) + 500).div_euclid(1_000);
    format!("${}.{:06}", micro.div_euclid(1_000_000), micro.rem_euclid(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    const DOLLAR: i64 = 1_000_000_000;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default()
    }

    fn limited(usd: Option<f64>, requests: Option<u64>) -> Limited {
        Limited { name: "frontier".into(), budget: Budget { usd, requests, ..Budget::default() } }
    }

    fn window(spent: i64, requests: i64, reserved: i64, reserved_requests: i64) -> Window {
        Window {
            budget: "frontier".into(),
            starts_at: now() - TimeDelta::hours(20),
            ends_at: now() + TimeDelta::hours(4),
            spent_nanousd: spent,
            requests,
            unpriced: 0,
            reserved_nanousd: reserved,
            reserved_requests,
        }
    }

    #[test]
    fn money_and_calls_are_limited_each_by_itself() {
        let both = limited(Some(1.0), Some(10));
        let admit = |window: Window, cost| admit(&both, &window, cost, now()).map_err(|refusal| refusal.wait);
        assert_eq!(admit(window(0, 0, 0, 0), DOLLAR), Ok(()));
        assert_eq!(admit(window(DOLLAR - 5, 9, 0, 0), 5), Ok(()));
        let end = Duration::from_secs(4 * 3_600);
        assert_eq!(admit(window(DOLLAR - 5, 9, 0, 0), 6), Err(end));
        assert_eq!(admit(window(0, 10, 0, 0), 0), Err(end));
        // What calls under way hold may come back before the end.
        assert_eq!(admit(window(0, 0, DOLLAR, 1), 1), Err(HELD_WAIT));
        assert_eq!(admit(window(0, 5, 0, 5), 1), Err(HELD_WAIT));
        assert_eq!(admit(window(i64::MAX, 0, i64::MAX, 0), i64::MAX), Err(end));
    }

    #[test]
    fn the_reason_says_what_is_used_and_when_it_is_full_again() {
        let refusal =
            admit(&limited(Some(1.0), Some(10)), &window(990_000_000, 3, 0, 0), 20_000_000, now()).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "budget \"frontier\" is used up until 2027-01-15T12:00:00Z: $0.990000 of $1.000000 spent, 3 of 10 requests, and \
             the call may cost $0.020000"
        );
        let refusal = admit(&limited(None, Some(3)), &window(0, 3, 0, 0), 0, now()).unwrap_err();
        assert_eq!(refusal.reason, "is used up until 2027-01-15T12:00:00Z: 3 of 3 requests");
        let refusal = admit(&limited(Some(0.01), None), &window(0, 0, 0, 0), 20_000_000, now()).unwrap_err();
        assert!(refusal.reason.starts_with("is smaller than one such call, which may cost $0.020000"), "{refusal}");
    }

    #[test]
    fn what_remains_is_what_nobody_holds() {
        let both = limited(Some(0.1), Some(10));
        let half = window(20_000_000, 3, 30_000_000, 2);
        assert_eq!((half.remaining_nanousd(&both), half.remaining_requests(&both)), (Some(50_000_000), Some(5)));
        let over = window(DOLLAR, 12, 0, 0);
        assert_eq!((over.remaining_nanousd(&both), over.remaining_requests(&both)), (Some(0), Some(0)));
        assert_eq!(over.remaining_nanousd(&limited(None, Some(1))), None);
    }

    #[test]
    fn a_call_has_the_budgets_of_its_route_and_its_provider() {
        let mut config = Config::default();
        let mut add = |name: &str, route: Option<&str>, provider: Option<&str>| {
            let budget = Budget {
                route: route.map(str::to_owned),
                provider: provider.map(str::to_owned),
                requests: Some(1),
                ..Budget::default()
            };
            config.budgets.insert(name.into(), budget);
        };
        add("all", None, None);
        add("complex", Some("complex"), None);
        add("cli", None, Some("cli"));
        add("both", Some("complex"), Some("cli"));
        let names = |route, provider| {
            Limited::of_call(&config, route, provider).into_iter().map(|limit| limit.name).collect::<Vec<_>>()
        };
        assert_eq!(names(Some("complex"), "cli"), ["all", "both", "cli", "complex"]);
        assert_eq!(names(Some("simple"), "cli"), ["all", "cli"]);
        assert_eq!(names(None, "api"), ["all"]);
    }
}
