//! One layer of values that passed their checks, with the place of each.

use std::collections::BTreeMap;

use config::{ConfigError, Map, Source, Value, ValueKind};

use super::problem::Place;

/// Values of one layer by dotted key. A table is an entry of its own, so that an empty one counts as given.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    settings: BTreeMap<String, (ValueKind, Place)>,
    /// Tables that this layer states as a whole: lower layers lose what they have below them.
    pub(super) replaced: Vec<String>,
}

impl Layer {
    pub(super) fn set(&mut self, key: &str, value: ValueKind, place: Place) {
        self.settings.insert(key.to_owned(), (value, place));
    }

    pub(super) fn set_table(&mut self, key: &str, place: Place) {
        self.set(key, ValueKind::Table(Map::new()), place);
    }

    /// Removes `key` and everything below it.
    pub(super) fn remove(&mut self, key: &str) {
        self.settings.retain(|other, _| !is_at_or_below(other, key));
    }

    /// Every table and value with its place.
    pub(super) fn places(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.settings.iter().map(|(key, (_, place))| (key.as_str(), place))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.settings.contains_key(key)
    }

    /// Names of the entries of a table.
    pub(super) fn names_in<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a str> {
        self.settings.keys().filter_map(move |key| {
            let name = key.strip_prefix(table)?.strip_prefix('.')?;
            (!name.contains('.')).then_some(name)
        })
    }
}

/// Keys of a layer are made of checked names only, so each is a valid path of the `config` crate.
impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.settings.iter().map(|(key, (value, _))| (key.clone(), Value::from(value.clone()))).collect())
    }
}

/// Whether `key` is `table` or one of the keys below it.
pub(super) fn is_at_or_below(key: &str, table: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
