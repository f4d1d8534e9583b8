//! Unique jobs: what makes two jobs the same, what happens to the one that is there, and the lock that inserts of the
//! same take. Pure; the statements are in [`super::engine`].
//!
//! Options, groups of states, defaults and texts are Oban's. Two rules are stricter here: arguments are the same when
//! they are equal as JSON (Oban compares arrays as sets), and an insert that meets another one waits for it, where
//! Oban's gives up without a job.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::error::QueueError;
use super::new_job::NewJob;
use super::state::State;

/// Most keys that one job is compared by.
pub const UNIQUE_KEYS_MAX: usize = 100;
/// Period of Oban's option list when it names none.
pub const UNIQUE_PERIOD_DEFAULT: Duration = Duration::from_secs(60);
/// States in which a job did not fail: Oban's group `successful`.
const SUCCESSFUL: [State; 6] =
    [State::Suspended, State::Available, State::Scheduled, State::Executing, State::Retryable, State::Completed];

/// A part of a job that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UniqueField {
    /// Arguments, or the [`Unique::keys`] of them.
    Args,
    /// Data beside the arguments, or the [`Unique::keys`] of it.
    Meta,
    /// Name of the queue.
    Queue,
    /// Name of the worker.
    Worker,
}

/// The time that [`Unique::period`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UniqueTimestamp {
    /// When the other job was stored.
    #[default]
    InsertedAt,
    /// When the other job is, or was, due.
    ScheduledAt,
}

/// When a new job is the same as one that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Unique {
    /// What must be equal; at least one. Default: arguments, queue and worker.
    pub fields: Vec<UniqueField>,
    /// Top-level keys that alone are compared inside `args` and `meta`; none, the default, means all. A job that has
    /// none of them is the same as one whose arguments (or meta) are empty.
    pub keys: Vec<String>,
    /// How far back to look, by the database's clock; `None` is for ever. Default: 60 s, as Oban's option list.
    pub period: Option<Duration>,
    /// States of the other job that count; at least one. Default: [`Unique::successful`].
    pub states: Vec<State>,
    /// What `period` looks at.
    pub timestamp: UniqueTimestamp,
}

impl Default for Unique {
    /// Oban's `unique: []`: arguments, queue and worker, within 60 s, in a state that is not a failure.
    fn default() -> Self {
        Self {
            fields: vec![UniqueField::Args, UniqueField::Queue, UniqueField::Worker],
            keys: Vec::new(),
            period: Some(UNIQUE_PERIOD_DEFAULT),
            states: Self::successful(),
            timestamp: UniqueTimestamp::default(),
        }
    }
}

impl Unique {
    /// Oban's `unique: true`: as the default, for ever.
    pub fn forever() -> Self {
        Self { period: None, ..Self::default() }
    }

    /// Every state: Oban's group `all`.
    pub fn all() -> Vec<State> {
        State::ALL.to_vec()
    }

    /// States of a job that is not finished: Oban's group `incomplete`.
    pub fn incomplete() -> Vec<State> {
        SUCCESSFUL.into_iter().filter(|state| !state.is_terminal()).collect()
    }

    /// Waiting for its time: Oban's group `scheduled`.
    pub fn scheduled() -> Vec<State> {
        vec![State::Scheduled]
    }

    /// Not finished, or completed: Oban's group `successful`.
    pub fn successful() -> Vec<State> {
        SUCCESSFUL.to_vec()
    }

    /// The states of a group by its name, or of one state.
    ///
    /// # Errors
    /// A text that names groups and states.
    pub fn states_named(text: &str) -> Result<Vec<State>, String> {
        match text {
            "all" => Ok(Self::all()),
            "incomplete" => Ok(Self::incomplete()),
            "scheduled" => Ok(Self::scheduled()),
            "successful" => Ok(Self::successful()),
            state => state
                .parse()
                .map(|state| vec![state])
                .map_err(|error: String| format!("{error}, and the groups all, incomplete, scheduled, successful")),
        }
    }

    /// Checks what Oban checks when a job is built.
    ///
    /// # Errors
    /// [`QueueError::Unique`] with Oban's text.
    pub fn validate(&self) -> Result<(), QueueError> {
        let problem = |text: String| Err(QueueError::Unique { reason: text });
        if self.fields.is_empty() {
            return problem("expected :fields [] to overlap [:args, :meta, :queue, :worker]".into());
        }
        if self.states.is_empty() {
            let known: Vec<String> = State::ALL.iter().map(|state| format!(":{state}")).collect();
            return problem(format!("expected :states [] to overlap in [{}]", known.join(", ")));
        }
        if !self.keys.is_empty() && !self.compares(UniqueField::Args) && !self.compares(UniqueField::Meta) {
            return problem("using :keys expects :fields to contain at least one of [:args, :meta]".into());
        }
        if self.keys.len() > UNIQUE_KEYS_MAX || self.keys.iter().any(|key| key.is_empty() || key.contains('\0')) {
            return problem(format!("expected :keys to be a list of 1 to {UNIQUE_KEYS_MAX} names"));
        }
        if self.period.is_some_and(|period| period.is_zero()) {
            return problem("expected :period to be an integer greater than 0 or :infinity".into());
        }
        Ok(())
    }

    /// Whether this part is compared.
    pub fn compares(&self, field: UniqueField) -> bool {
        self.fields.contains(&field)
    }

    /// What `args` or `meta` of another job is compared with, out of this job's own.
    pub fn wanted(&self, own: &Map<String, Value>) -> Wanted {
        if self.keys.is_empty() {
            return Wanted::Equal(own.clone());
        }
        let chosen: Map<String, Value> = own
            .iter()
            .filter(|(key, _)| self.keys.contains(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if chosen.is_empty() { Wanted::Equal(chosen) } else { Wanted::Contains(chosen) }
    }

    /// Number of the transaction lock that inserts of the same job take one after the other, for jobs in `schema`.
    ///
    /// It is made from what is compared and from nothing else: inserts that differ in period, states, timestamp or
    /// replacement exclude each other too. Numbers count by their value (`1` and `1.0` are equal in the database).
    /// Every version of this program on every machine must come to the same number. Oban's own number holds file names
    /// and lines of its build, so nobody else can compute it: between runtimes uniqueness is only as good as the look.
    pub fn lock_key(&self, schema: &str, job: &NewJob) -> i64 {
        let mut hash = Hash(Sha256::new());
        hash.text(schema);
        let empty = Map::new();
        let args = job.args.as_object().unwrap_or(&empty);
        for (field, name) in [
            (UniqueField::Args, "args"),
            (UniqueField::Meta, "meta"),
            (UniqueField::Queue, "queue"),
            (UniqueField::Worker, "worker"),
        ] {
            if !self.compares(field) {
                continue;
            }
            hash.text(name);
            match field {
                UniqueField::Args => hash.wanted(&self.wanted(args)),
                UniqueField::Meta => hash.wanted(&self.wanted(&job.meta)),
                UniqueField::Queue => hash.text(&job.queue),
                UniqueField::Worker => hash.text(&job.worker),
            }
        }
        let digest = hash.0.finalize();
        digest.iter().take(8).fold(0_i64, |key, byte| (key << 8) | i64::from(*byte))
    }
}

/// How a JSON column of another job must look.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// Equal to this.
    Equal(Map<String, Value>),
    /// With these pairs, whatever else it has.
    Contains(Map<String, Value>),
}

/// Feeds values to a hash so that no two different ones look the same to it.
struct Hash(Sha256);

impl Hash {
    fn text(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
    }

    fn wanted(&mut self, wanted: &Wanted) {
        match wanted {
            Wanted::Equal(map) => {
                self.0.update(b"=");
                self.map(map);
            }
            Wanted::Contains(map) => {
                self.0.update(b">");
                self.map(map);
            }
        }
    }

    fn map(&mut self, map: &Map<String, Value>) {
        self.0.update((map.len() as u64).to_be_bytes());
        // By key, whatever order the map has.
        let sorted: BTreeMap<&String, &Value> = map.iter().collect();
        for (key, value) in sorted {
            self.text(key);
            self.value(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.0.update(b"n"),
            Value::Bool(yes) => self.0.update([b'b', u8::from(*yes)]),
            Value::Number(number) => {
                // Adding zero makes one of the two zeros. Numbers that only differ beyond a float's digits share a
                // lock, which costs a wait and nothing else.
                self.0.update(b"d");
                self.0.update((number.as_f64().unwrap_or(f64::MAX) + 0.0).to_be_bytes());
            }
            Value::String(text) => {
                self.0.update(b"s");
                self.text(text);
            }
            Value::Array(items) => {
                self.0.update(b"a");
                self.0.update((items.len() as u64).to_be_bytes());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Object(map) => {
                self.0.update(b"o");
                self.map(map);
            }
        }
    }
}

/// A column that a conflict may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplaceField {
    /// Arguments.
    Args,
    /// Attempts allowed; never below those that the job has begun.
    MaxAttempts,
    /// Data beside the arguments, as a whole.
    Meta,
    /// Priority.
    Priority,
    /// Queue.
    Queue,
    /// When it is due; only where the new job names a time.
    ScheduledAt,
    /// Tags.
    Tags,
    /// Worker.
    Worker,
}

/// What a new job that meets itself writes into the one that is there, by that one's state. Empty: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replace(BTreeMap<State, Vec<ReplaceField>>);

impl Replace {
    /// The same fields in every state.
    pub fn always(fields: &[ReplaceField]) -> Self {
        State::ALL.into_iter().fold(Self::default(), |replace, state| replace.when(state, fields))
    }

    /// These fields too, when the other job is in `state`.
    #[must_use]
    pub fn when(mut self, state: State, fields: &[ReplaceField]) -> Self {
        let of_state = self.0.entry(state).or_default();
        for field in fields {
            if !of_state.contains(field) {
                of_state.push(*field);
            }
        }
        self
    }

    /// Whether nothing is ever written.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(Vec::is_empty)
    }

    /// Whether anything is written when the other job is in `state`.
    pub fn writes_in(&self, state: State) -> bool {
        self.0.get(&state).is_some_and(|fields| !fields.is_empty())
    }

    /// States in which `field` is written.
    pub fn states_of(&self, field: ReplaceField) -> Vec<State> {
        self.0.iter().filter(|(_, fields)| fields.contains(&field)).map(|(state, _)| *state).collect()
    }
}

/// Names of a kind of thing, both ways.
macro_rules! names {
    ($kind:ty, $what:literal, $($variant:ident = $name:literal),+) => {
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $name),+ })
            }
        }
        impl FromStr for $kind {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => {
                        let known = [$($name),+].join(", ");
                        Err(format!(concat!("\"{}\" is not ", $what, "; there are {}"), text, known))
                    }
                }
            }
        }
    };
}
names!(UniqueField, "a field of unique", Args = "args", Meta = "meta", Queue = "queue", Worker = "worker");
names!(UniqueTimestamp, "a timestamp of unique", InsertedAt = "inserted_at", ScheduledAt = "scheduled_at");
names!(
    ReplaceField,
    "a field that can be replaced",
    Args = "args",
    MaxAttempts = "max_attempts",
    Meta = "meta",
    Priority = "priority",
    Queue = "queue",
    ScheduledAt = "scheduled_at",
    Tags = "tags",
    Worker = "worker"
);

#[cfg(test)]
mod tests;
