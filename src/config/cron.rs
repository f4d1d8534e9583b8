//! `[cron.NAME]`: jobs that are inserted when their time comes.
//!
//! Types, keys and rules of these tables in one place. What an expression means is `crate::cron`'s; when and by whom
//! jobs are inserted is the queue's.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::cron_unique::{CronUnique, UNIQUE};
use super::kind::{Kind, shown};
use super::period::Period;
use super::problem::Flaw;
use super::schema::{Node, Table};
use super::suggest::nearest;
use crate::cron::{self, CronError, Expression, Zone};
use crate::error::Coded;

/// Longest name of a worker; the database refuses 128.
const WORKER_CHARS_MAX: usize = 127;
/// Longest tag.
const TAG_CHARS_MAX: usize = 255;

/// Keys of `meta` that say where a job comes from, as in Oban; an entry cannot set them.
const META_RESERVED: [&str; 5] = ["cron", "cron_at", "cron_expr", "cron_name", "cron_tz"];

/// `[cron.NAME]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cron {
    /// When: five fields or a nickname as in Oban, or six fields with the second first.
    pub expr: String,
    /// Worker of the jobs; one that only other nodes know is fine.
    pub worker: String,
    /// Arguments of the jobs. Default `{}`.
    pub args: Object,
    /// Queue of the jobs. Default: that of the worker's options, or `default` where the worker is not known.
    pub queue: Option<String>,
    /// Attempts before a job is discarded; 1 to 32,767. Default: that of the worker's options, or 20.
    pub max_attempts: Option<u32>,
    /// 0 (most urgent) to 9. Default: that of the worker's options, or 0.
    pub priority: Option<u32>,
    /// Words to find the jobs by, instead of those of the worker's options.
    pub tags: Option<Vec<String>>,
    /// Data beside the arguments, without the keys that say where a job comes from.
    pub meta: Object,
    /// When no job is inserted because the same one is there, key by key over the worker's options. Default: what the
    /// worker says, or never.
    pub unique: Option<CronUnique>,
    /// Zone whose clocks `expr` means. Default `Etc/UTC`.
    pub timezone: String,
    /// What becomes of times at which nobody was there to insert the job. Default `none`.
    pub catch_up: CatchUp,
    /// How far back `catch_up` looks; 1 minute to 366 days. Default 1 day.
    pub catch_up_within: Period,
}

/// What becomes of times that were missed, because no leader was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// They are left out, as in Oban.
    #[default]
    None,
    /// Of all that were missed, the last one is made up for.
    Last,
    /// All are, in order.
    All,
}

impl Default for Cron {
    fn default() -> Self {
        Self {
            expr: String::new(),
            worker: String::new(),
            args: Object::default(),
            queue: None,
            max_attempts: None,
            priority: None,
            tags: None,
            meta: Object::default(),
            unique: None,
            timezone: cron::ZONE_DEFAULT.into(),
            catch_up: CatchUp::None,
            catch_up_within: DAY,
        }
    }
}

impl Cron {
    /// The expression and its zone.
    ///
    /// # Errors
    /// [`CronError`], not with a configuration that was loaded.
    pub fn times(&self) -> Result<(Expression, Zone), CronError> {
        Ok((self.expr.parse()?, cron::zone(&self.timezone)?))
    }
}

/// A JSON object: a table in the file, text with JSON where only text can be given.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object(pub Map<String, Value>);

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Value::Object(self.0.clone()).to_string())
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

const DAY: Period = Period::from_secs(86_400);

/// The keys of an entry.
pub(super) static ENTRY: Node = Node::Table(Table {
    whole: false,
    fields: &[
        ("expr", Node::Leaf(Kind::Text(expression))),
        ("worker", Node::Leaf(Kind::Text(worker))),
        ("args", Node::Leaf(Kind::Object(storable))),
        ("queue", Node::Leaf(Kind::Text(super::rules::name))),
        ("max_attempts", Node::Leaf(Kind::Integer { min: 1, max: 32_767 })),
        ("priority", Node::Leaf(Kind::Integer { min: 0, max: 9 })),
        ("tags", Node::Leaf(Kind::Texts(tag))),
        ("meta", Node::Leaf(Kind::Object(meta))),
        ("unique", UNIQUE),
        ("timezone", Node::Leaf(Kind::Text(timezone))),
        ("catch_up", Node::Leaf(Kind::Choice(&["none", "last", "all"]))),
        (
            "catch_up_within",
            Node::Leaf(Kind::Period { min: Period::from_secs(60), max: Period::from_secs(366 * 86_400) }),
        ),
    ],
});

/// What an entry lacks.
pub(super) fn incomplete(entry: &Cron) -> Option<Flaw> {
    let missing: Vec<&str> = [("expr", &entry.expr), ("worker", &entry.worker)]
        .into_iter()
        .filter_map(|(field, value)| value.is_empty().then_some(field))
        .collect();
    (!missing.is_empty()).then(|| {
        Flaw::bad(format!("{} is missing", missing.join(" and ")))
            .suggest("state when and what, for example expr = \"0 3 * * *\" and worker = \"cleanup\"")
    })
}

pub(super) fn expression(text: &str) -> Result<(), Flaw> {
    text.parse::<Expression>().map(drop).map_err(|error| {
        let near = text.starts_with('@').then(|| nearest(text, cron::NICKNAMES)).flatten();
        Flaw::bad(error.to_string())
            .maybe_suggest(near.map(|near| format!("write \"{near}\"")).or_else(|| error.hint()))
    })
}

pub(super) fn timezone(text: &str) -> Result<(), Flaw> {
    cron::zone(text).map(drop).map_err(|error| {
        let near = nearest(text, cron::zone_names()).map(|near| format!("did you mean \"{near}\"?"));
        Flaw::bad(error.to_string()).maybe_suggest(error.hint()).maybe_suggest(near)
    })
}

fn worker(text: &str) -> Result<(), Flaw> {
    let fits = (1..=WORKER_CHARS_MAX).contains(&text.chars().count());
    if fits && !text.contains(|c: char| c.is_control() || c == '"') {
        return Ok(());
    }
    Err(Flaw::bad(format!(
        "\"{}\" is not the name of a worker, expected 1 to {WORKER_CHARS_MAX} characters without quotes and control \
         characters",
        shown(text)
    )))
}

fn tag(text: &str) -> Result<(), Flaw> {
    if !text.trim().is_empty() && text.chars().count() <= TAG_CHARS_MAX && !text.contains('\0') {
        return Ok(());
    }
    Err(Flaw::bad(format!("\"{}\" is not a tag, expected 1 to {TAG_CHARS_MAX} characters", shown(text))))
}

fn storable(object: &Map<String, Value>) -> Result<(), Flaw> {
    fn has_nul(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().any(has_nul),
            Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    if object.iter().any(|(key, value)| key.contains('\0') || has_nul(value)) {
        return Err(Flaw::bad("holds the character U+0000, which PostgreSQL cannot store"));
    }
    Ok(())
}

fn meta(object: &Map<String, Value>) -> Result<(), Flaw> {
    storable(object)?;
    match META_RESERVED.into_iter().find(|key| object.contains_key(*key)) {
        None => Ok(()),
        Some(key) => {
            let message = format!("\"{key}\" is one of the keys that say where a job comes from");
            Err(Flaw::bad(message).suggest("give it another name"))
        }
    }
}
