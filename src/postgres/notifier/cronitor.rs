//! What `cronitor` carries: the periodic jobs of an instance, for the dashboard's page of them.
//!
//! The reader keeps one list for each node and name, so the list is one message and never divided. The page fails on an
//! expression that Oban for Elixir cannot read, so only those are told that it can: five fields or a nickname, no
//! weekday 7, no date that never comes.

use serde::Serialize;
use serde::ser::SerializeTuple;
use serde_json::{Map, Value};

use super::encoding::{self, Payload, Unsendable};

/// Most entries that are told.
pub const ENTRIES_MAX: usize = 500;

/// Words that stand for an expression.
const NICKNAMES: [&str; 8] =
    ["@annually", "@yearly", "@monthly", "@weekly", "@midnight", "@daily", "@hourly", "@reboot"];

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Largest step of a field.
const STEP_MAX: u32 = 99;

/// One periodic job.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When, as it was written.
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

/// The message for the periodic jobs of `node`: those that Elixir can read, at most [`ENTRIES_MAX`] and fewer where
/// they are too large for one message. `None` when there are none.
///
/// # Errors
/// [`Unsendable`].
pub fn message(entries: &[Entry], name: &str, node: &str) -> Result<Option<Payload>, Unsendable> {
    let mut told: Vec<_> = entries.iter().filter(|entry| is_portable(&entry.expression)).take(ENTRIES_MAX).collect();
    while !told.is_empty() {
        match encoding::write(&Message { crontab: &told, name, node }) {
            Err(Unsendable::TooLarge { .. }) => told.truncate(told.len() / 2),
            result => return result.map(Some),
        }
    }
    Ok(None)
}

/// Whether Oban for Elixir reads an expression.
pub fn is_portable(expression: &str) -> bool {
    if NICKNAMES.contains(&expression) {
        return true;
    }
    let fields: Vec<&str> = expression.split_ascii_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields.as_slice() else { return false };
    let months =
        MONTHS.iter().zip(1..).fold((*months).to_owned(), |text, (name, n)| text.replace(name, &n.to_string()));
    let weekdays =
        WEEKDAYS.iter().zip(0..).fold((*weekdays).to_owned(), |text, (name, n)| text.replace(name, &n.to_string()));
    let (Some(_), Some(_), Some(days), Some(months), Some(_)) =
        (field(minutes, 0, 59), field(hours, 0, 23), field(days, 1, 31), field(&months, 1, 12), field(&weekdays, 0, 6))
    else {
        return false;
    };
    let longest = DAYS.iter().zip(1..).filter(|(_, month)| months & (1 << month) != 0).map(|(days, _)| *days).max();
    longest.is_some_and(|longest| days.trailing_zeros() <= longest)
}

/// The values of a field as bits, `None` when it is none.
fn field(text: &str, min: u32, max: u32) -> Option<u64> {
    text.split(',').try_fold(0, |bits, part| part_of(part, min, max).map(|more| bits | more))
}

fn part_of(part: &str, min: u32, max: u32) -> Option<u64> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(number(step).filter(|step| (1..=STEP_MAX).contains(step))?)),
        None => (part, None),
    };
    let (from, to) = match range.split_once('-') {
        _ if range == "*" => (min, max),
        Some((from, to)) => (number(from)?, number(to)?),
        None => {
            let from = number(range)?;
            (from, if step.is_some() { max } else { from })
        }
    };
    if from < min || to > max || from > to {
        return None;
    }
    let step = usize::try_from(step.unwrap_or(1)).ok()?;
    Some((from..=to).step_by(step).fold(0, |bits, value| bits | (1 << value)))
}

/// One or two digits.
fn number(text: &str) -> Option<u32> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
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
            entry("*/30 * * * * *", json!({"name": "six fields"})),
            entry("0 0 * * 7", json!({"name": "weekday 7"})),
        ];
        let text = message(&entries, "Oban", "worker-1.4711").unwrap().unwrap();
        assert_eq!(
            text.as_str(),
            concat!(
                r#"{"crontab":[["0 6 * * MON-FRI","MyApp.Daily",{"name":"daily","timezone":"Europe/Berlin"}],"#,
                r#"["@reboot","MyApp.Daily",{"name":"boot"}]],"name":"Oban","node":"worker-1.4711"}"#
            )
        );
        assert_eq!(message(&entries[2..], "Oban", "n").unwrap(), None, "nothing to tell");
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

    #[test]
    fn tells_what_elixir_reads_and_nothing_else() {
        for expression in [
            "* * * * *",
            "0 0 1 1 0",
            "59 23 31 12 6",
            "*/15 0-6/2 1,15 JAN-MAR,12 MON-FRI",
            "5/10 * * * SUN",
            "@daily",
            "0 0 30 2,4 *",
            "0 0 29 2 *",
            " 1  2 * * * ",
        ] {
            assert!(is_portable(expression), "{expression}");
        }
        for expression in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * 0 *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "*/100 * * * *",
            "a * * * *",
            "* * * jan *",
            "* * L * *",
            "* * ? * *",
            "* * * * 5#2",
            "@never",
            "0 0 30 2 *",
            "0 0 31 4,6,9,11 *",
            "1, * * * *",
            "-1 * * * *",
            "+1 * * * *",
            "1/2/3 * * * *",
        ] {
            assert!(!is_portable(expression), "{expression}");
        }
    }

    proptest! {
        #[test]
        fn judges_any_text(text in "[0-9*/,@A-Z -]{0,40}|.{0,40}") {
            is_portable(&text);
        }
    }
}
