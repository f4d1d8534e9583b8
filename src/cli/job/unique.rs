//! Options of `singularity job enqueue` that make a job unique.

use clap::Args;

use crate::config::Period;
use crate::queue::{Replace, ReplaceField, State, Unique, UniqueField, UniqueTimestamp};

/// When a job is the same as one that is there; any of these options makes it unique.
#[derive(Debug, Args)]
pub(super) struct UniqueArgs {
    /// Store nothing if the same job is there: same worker, queue and arguments, and not discarded or cancelled
    #[arg(long)]
    unique: bool,
    /// What must be equal instead: args, meta, queue, worker, separated by commas
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    unique_fields: Vec<UniqueField>,
    /// Keys that alone are compared inside args and meta, separated by commas
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    unique_keys: Vec<String>,
    /// How far back to look, for example 10m; without it for ever
    #[arg(long, value_name = "PERIOD")]
    unique_period: Option<Period>,
    /// States of the other job that count, or the groups all, incomplete, scheduled, successful, separated by commas
    /// [default: successful]
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = states)]
    unique_states: Vec<States>,
    /// What the period looks at: inserted_at or scheduled_at [default: inserted_at]
    #[arg(long, value_name = "COLUMN")]
    unique_timestamp: Option<UniqueTimestamp>,
    /// Fields of the other job to overwrite, each as FIELD or STATE:FIELD, separated by commas: args, max_attempts,
    /// meta, priority, queue, scheduled_at, tags, worker
    #[arg(long, value_name = "FIELDS", value_delimiter = ',', value_parser = replacement)]
    replace: Vec<Replacement>,
}

/// A state or a group of them.
#[derive(Debug, Clone)]
struct States(Vec<State>);

/// A field, in one state or in all.
#[derive(Debug, Clone, Copy)]
struct Replacement {
    state: Option<State>,
    field: ReplaceField,
}

fn states(text: &str) -> Result<States, String> {
    Unique::states_named(text).map(States)
}

fn replacement(text: &str) -> Result<Replacement, String> {
    let (state, field) = match text.split_once(':') {
        Some((state, field)) => (Some(state.parse()?), field),
        None => (None, text),
    };
    Ok(Replacement { state, field: field.parse()? })
}

impl UniqueArgs {
    /// The options, where any was given.
    pub(super) fn options(self) -> (Option<Unique>, Replace) {
        let replace = self.replace.iter().fold(Replace::default(), |replace, one| match one.state {
            Some(state) => replace.when(state, &[one.field]),
            None => State::ALL.into_iter().fold(replace, |replace, state| replace.when(state, &[one.field])),
        });
        let given = self.unique
            || !self.unique_fields.is_empty()
            || !self.unique_keys.is_empty()
            || self.unique_period.is_some()
            || !self.unique_states.is_empty()
            || self.unique_timestamp.is_some()
            || !replace.is_empty();
        let mut unique = Unique { period: self.unique_period.map(Period::get), ..Unique::forever() };
        if !self.unique_fields.is_empty() {
            unique.fields = self.unique_fields;
        }
        if !self.unique_states.is_empty() {
            unique.states = self.unique_states.into_iter().flat_map(|states| states.0).collect();
        }
        unique.keys = self.unique_keys;
        unique.timestamp = self.unique_timestamp.unwrap_or_default();
        (given.then_some(unique), replace)
    }
}
