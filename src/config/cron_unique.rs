//! `[cron.NAME.unique]`: when the job of a time is not inserted because the same job is there. Each key stands over
//! what the worker of the jobs says, and what neither says is as in Oban.

use serde::{Deserialize, Serialize};

use super::kind::{Kind, shown};
use super::period::{Period, PeriodOrOff};
use super::problem::Flaw;
use super::schema::{Node, Table};
use super::suggest::nearest;

/// What can be compared.
pub const UNIQUE_FIELDS: [&str; 4] = ["args", "meta", "queue", "worker"];
/// States that can count, and groups of them.
pub const UNIQUE_STATES: [&str; 11] = [
    "all",
    "incomplete",
    "successful",
    "suspended",
    "available",
    "scheduled",
    "executing",
    "retryable",
    "completed",
    "discarded",
    "cancelled",
];
/// Columns that `period` can look at.
pub const UNIQUE_TIMESTAMPS: [&str; 2] = ["inserted_at", "scheduled_at"];

/// Longest name of a key in bytes.
const KEY_BYTES_MAX: usize = 255;

/// `[cron.NAME.unique]`; what is `None` is the worker's, or else Oban's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CronUnique {
    /// What must be equal, of [`UNIQUE_FIELDS`]. Oban's: args, queue and worker.
    pub fields: Option<Vec<String>>,
    /// Top-level keys that alone are compared inside `args` and `meta`. Oban's: all.
    pub keys: Option<Vec<String>>,
    /// How far back to look, 1 s to 1,000 days; off is for ever. Oban's: 60 s.
    pub period: Option<PeriodOrOff>,
    /// States of the other job that count, of [`UNIQUE_STATES`]. Oban's: successful.
    pub states: Option<Vec<String>>,
    /// What `period` looks at, of [`UNIQUE_TIMESTAMPS`]. Oban's: inserted_at.
    pub timestamp: Option<String>,
}

/// The keys of the table.
pub(super) const UNIQUE: Node = Node::Table(Table {
    whole: false,
    fields: &[
        ("fields", Node::Leaf(Kind::Texts(field))),
        ("keys", Node::Leaf(Kind::Texts(key))),
        ("period", Node::Leaf(Kind::PeriodOrOff { min: Period::from_secs(1), max: Period::from_secs(1_000 * 86_400) })),
        ("states", Node::Leaf(Kind::Texts(state))),
        ("timestamp", Node::Leaf(Kind::Choice(&UNIQUE_TIMESTAMPS))),
    ],
});

fn field(text: &str) -> Result<(), Flaw> {
    one_of(text, &UNIQUE_FIELDS)
}

fn state(text: &str) -> Result<(), Flaw> {
    one_of(text, &UNIQUE_STATES)
}

fn one_of(text: &str, known: &'static [&'static str]) -> Result<(), Flaw> {
    if known.contains(&text) {
        return Ok(());
    }
    let near = nearest(text, known.iter().copied()).map(|near| format!("write \"{near}\""));
    Err(Flaw::bad(format!("\"{}\" is not one of {}", shown(text), known.join(", "))).maybe_suggest(near))
}

fn key(text: &str) -> Result<(), Flaw> {
    if (1..=KEY_BYTES_MAX).contains(&text.len()) && !text.contains('\0') {
        return Ok(());
    }
    Err(Flaw::bad(format!("\"{}\" is not a key, expected 1 to {KEY_BYTES_MAX} bytes", shown(text))))
}
