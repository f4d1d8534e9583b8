//! The effective configuration as a list: key, value, and the layer that the value comes from.
//!
//! Secrets are references everywhere in the configuration, so nothing has to be left out. The text form is TOML and
//! loads as the same configuration.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::load::Loaded;
use super::origin::Origin;

/// One effective value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Dotted key.
    pub key: String,
    /// As in the file: periods and secret references are text.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// Every effective value in the order of the keys; keys without a value are left out.
pub fn entries(loaded: &Loaded) -> Vec<Entry> {
    let mut entries = Vec::new();
    // Values of the configuration are text, numbers, lists and maps with text keys: all have a JSON form.
    if let Ok(value) = serde_json::to_value(&loaded.config) {
        flatten(String::new(), value, &mut |key, value| {
            let origin = loaded.origins.get(&key).cloned().unwrap_or(Origin::Default);
            entries.push(Entry { key, value, origin });
        });
    }
    entries
}

/// The entries as lines `key = value  # origin`, which are TOML.
pub fn print(loaded: &Loaded) -> String {
    let lines: Vec<(String, Origin)> = entries(loaded)
        .into_iter()
        .map(|entry| {
            let value = toml::Value::try_from(&entry.value).map_or_else(|_| entry.value.to_string(), |v| v.to_string());
            (format!("{} = {value}", entry.key), entry.origin)
        })
        .collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or_default();
    lines.into_iter().fold(String::new(), |mut text, (line, origin)| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{line:width$}  # {origin}");
        text
    })
}

fn flatten(key: String, value: Value, found: &mut impl FnMut(String, Value)) {
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (name, value) in map {
                let key = if key.is_empty() { name } else { format!("{key}.{name}") };
                flatten(key, value, found);
            }
        }
        value => found(key, value),
    }
}
