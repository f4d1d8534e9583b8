//! `[cloud]` and `[central]`: what an instance reports, and what CentralCloud makes of it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::period::{Period, PeriodOrOff};
use super::schema::{Node, Table};

/// `[cloud]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cloud {
    /// What this instance does: execute jobs, be CentralCloud, or both. Default both, so that one instance by itself
    /// learns too.
    pub role: Role,
    /// Time between two reports; 100 ms to 1 hour. Default 30 s.
    pub report_interval: Period,
    /// Longest time between two looks for learnings; 100 ms to 1 hour. Default 10 s.
    pub sync_interval: Period,
    /// What becomes of a learning that no person has decided about. Default: it is applied.
    pub apply: Apply,
    /// How long an instance may be gone until its queue of learnings is dropped; 1 minute to 1,000 days. Default 7
    /// days.
    pub forget_after: Period,
}

/// What becomes of learnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Apply {
    /// They hold.
    #[default]
    Auto,
    /// They wait for `learning apply` or `learning reject`.
    Propose,
}

impl Apply {
    /// Names, as in the configuration.
    pub const NAMES: [&str; 2] = ["auto", "propose"];
}

/// What an instance does in its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It executes jobs and is CentralCloud too.
    #[default]
    Both,
    /// It executes jobs.
    Member,
    /// It is CentralCloud, and starts no queue.
    Central,
}

impl Role {
    /// Names, as in the configuration.
    pub const NAMES: [&str; 3] = ["both", "member", "central"];

    /// Whether it starts queues.
    pub fn executes(self) -> bool {
        self != Self::Central
    }

    /// Whether it takes in reports and learns from them.
    pub fn is_central(self) -> bool {
        self != Self::Member
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "both" => Ok(Self::Both),
            "member" => Ok(Self::Member),
            "central" => Ok(Self::Central),
            _ => Err(format!("\"{name}\" is no role, expected one of {}", Self::NAMES.join(", "))),
        }
    }
}

/// `[central]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Central {
    /// Time between two looks at the queues of reports, when there was nothing; 10 ms to 1 hour. Default 10 s.
    pub ingest_interval: Period,
    /// How long single results are kept; 1 hour to 1,000 days. Default 90 days. Sums stay.
    pub keep_results: Period,
    /// How long aggregates are kept; 1 hour to 1,000 days. Default 30 days.
    pub keep_reports: Period,
    /// How long messages are kept that nobody could use; 1 hour to 1,000 days. Default 14 days.
    pub keep_letters: Period,
    /// Time between two looks of the learner; 100 ms to 1 day. Default 5 minutes.
    pub learn_interval: Period,
    /// Results older than this say nothing; 1 hour to 365 days. Default 30 days.
    pub learn_window: Period,
    /// How much lower than the reference's the success of a model may be and count as not worse; 0.001 to 0.5. Default
    /// 0.02, two points.
    pub margin: f64,
    /// Least share of each candidate and of the reference; 0.001 to 0.25. Default 0.05.
    pub floor: f64,
    /// Largest share of a candidate; 0.5 to 0.999. Default 0.9.
    pub ceiling: f64,
    /// Attempts of a new model before it takes part; 1 to 10,000. Default 30.
    pub nursery_jobs: u32,
    /// 95 % of a model's attempts must be faster; 1 ms to 1 day, or off. Default off.
    pub latency_ceiling: PeriodOrOff,
    /// Successes of a pattern before it is told; 1 to 1,000,000. Default 10.
    pub pattern_successes: u32,
}

impl Default for Cloud {
    fn default() -> Self {
        Self {
            role: Role::default(),
            report_interval: Period::from_secs(30),
            sync_interval: Period::from_secs(10),
            apply: Apply::default(),
            forget_after: days(7),
        }
    }
}

impl Default for Central {
    fn default() -> Self {
        Self {
            ingest_interval: Period::from_secs(10),
            keep_results: days(90),
            keep_reports: days(30),
            keep_letters: days(14),
            learn_interval: Period::from_secs(300),
            learn_window: days(30),
            margin: 0.02,
            floor: 0.05,
            ceiling: 0.9,
            nursery_jobs: 30,
            latency_ceiling: PeriodOrOff::OFF,
            pattern_successes: 10,
        }
    }
}

const fn days(days: u64) -> Period {
    Period::from_secs(days * 86_400)
}

const HOUR: Period = Period::from_secs(3_600);
const KEEP: Node = Node::Leaf(Kind::Period { min: HOUR, max: days(1_000) });

/// Keys of `[cloud]`.
pub(super) const CLOUD: Node = Node::Table(Table {
    whole: false,
    fields: &[
        ("role", Node::Leaf(Kind::Choice(&Role::NAMES))),
        ("report_interval", Node::Leaf(Kind::Period { min: Period::from_millis(100), max: HOUR })),
        ("sync_interval", Node::Leaf(Kind::Period { min: Period::from_millis(100), max: HOUR })),
        ("apply", Node::Leaf(Kind::Choice(&Apply::NAMES))),
        ("forget_after", Node::Leaf(Kind::Period { min: Period::from_secs(60), max: days(1_000) })),
    ],
});

/// Keys of `[central]`.
pub(super) const CENTRAL: Node = Node::Table(Table {
    whole: false,
    fields: &[
        ("ingest_interval", Node::Leaf(Kind::Period { min: Period::from_millis(10), max: HOUR })),
        ("keep_results", KEEP),
        ("keep_reports", KEEP),
        ("keep_letters", KEEP),
        ("learn_interval", Node::Leaf(Kind::Period { min: Period::from_millis(100), max: days(1) })),
        ("learn_window", Node::Leaf(Kind::Period { min: HOUR, max: days(365) })),
        ("margin", Node::Leaf(Kind::Number { min: 0.001, max: 0.5 })),
        ("floor", Node::Leaf(Kind::Number { min: 0.001, max: 0.25 })),
        ("ceiling", Node::Leaf(Kind::Number { min: 0.5, max: 0.999 })),
        ("nursery_jobs", Node::Leaf(Kind::Integer { min: 1, max: 10_000 })),
        ("latency_ceiling", Node::Leaf(Kind::PeriodOrOff { min: Period::from_millis(1), max: days(1) })),
        ("pattern_successes", Node::Leaf(Kind::Integer { min: 1, max: 1_000_000 })),
    ],
});
