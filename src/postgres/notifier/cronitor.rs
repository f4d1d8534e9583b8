//! What `cronitor` carries: the periodic jobs of an instance, for the dashboard's page of them.
//!
//! The reader keeps one list for each node and name, so the list is one message and never divided. The page fails on an
//! expression that Oban for Elixir cannot read; whoever sends leaves those out.

use serde::Serialize;
use serde::ser::SerializeTuple;
use serde_json::{Map, Value};

use super::encoding::{self, Payload, Unsendable};

/// Most entries that are told.
pub const ENTRIES_MAX: usize = 500;

/// One periodic job.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When, as it was written: five fields or a nickname, as Oban for Elixir reads them.
    pub expression: String,
    /// Which worker.
    pub worker: String,
    /// Options; `name` is what its jobs have as `cron_name` in their meta, by which the page finds them.
    pub options: Map<String, Value>,
}

impl Serialize for Entry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(3)?;
        tuple.serialize_element(&self.expression)?;
        tuple.serialize_element(&self.worker)?;
        tuple.serialize_element(&self.options)?;
        tuple.end()
    }
}

#[derive(Serialize)]
struct Message<'a> {
    crontab: &'a [&'a Entry],
    name: &'a str,
    node: &'a str,
}

/// The message for the periodic jobs of `node`: at most [`ENTRIES_MAX`] and fewer where they are too large for one
/// message. `None` when there are none.
///
/// # Errors
/// [`Unsendable`].
pub fn message(entries: &[Entry], name: &str, node: &str) -> Result<Option<Payload>, Unsendable> {
    let mut told: Vec<_> = entries.iter().take(ENTRIES_MAX).collect();
    while !told.is_empty() {
        match encoding::write(&Message { crontab: &told, name, node }) {
            Err(Unsendable::TooLarge { .. }) => told.truncate(told.len() / 2),
            result => return result.map(Some),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(expression: &str, options: Value) -> Entry {
        Entry {
            expression: expression.into(),
            worker: "MyApp.Daily".into(),
            options: options.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn golden() {
        let entries = [
            entry("0 6 * * MON-FRI", json!({"name": "daily", "timezone": "Europe/Berlin"})),
            entry("@reboot", json!({"name": "boot"})),
        ];
        let text = message(&entries, "Oban", "worker-1.4711").unwrap().unwrap();
        assert_eq!(
            text.as_str(),
            concat!(
                r#"{"crontab":[["0 6 * * MON-FRI","MyApp.Daily",{"name":"daily","timezone":"Europe/Berlin"}],"#,
                r#"["@reboot","MyApp.Daily",{"name":"boot"}]],"name":"Oban","node":"worker-1.4711"}"#
            )
        );
        assert_eq!(message(&[], "Oban", "n").unwrap(), None, "nothing to tell");
    }

    #[test]
    fn a_long_list_is_one_message_with_as_many_as_fit() {
        let crontab = |count: u32| -> Vec<Value> {
            let entries: Vec<_> =
                (0..count).map(|n| entry("* * * * *", json!({"name": format!("entry {}", n % 97)}))).collect();
            let text = message(&entries, "Oban", "n").unwrap().unwrap();
            let value: Value = serde_json::from_str(&encoding::read(text.as_str()).unwrap()).unwrap();
            value["crontab"].as_array().unwrap().clone()
        };
        assert_eq!(crontab(200).len(), 200, "compressed");
        assert_eq!(crontab(2_000).len(), ENTRIES_MAX);
        let noise =
            |n: u32| json!({"name": (0..30_u32).map(|i| (n * 31 + i).wrapping_mul(2_654_435_761)).collect::<Vec<_>>()});
        let entries: Vec<_> = (0..100).map(|n| entry("* * * * *", noise(n))).collect();
        assert!(message(&entries, "Oban", "n").unwrap().is_some(), "fewer, but some");
    }
}
