//! Patterns: ways of working that succeed again and again, from counts alone.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::decide::{Decision, Draft};
use super::settings::Settings;
use super::wilson::{Z_95, wilson};
use crate::cloud::{PatternDiscovery, Payload};

/// The share of its successes is surely above this.
const SHARE_MIN: f64 = 0.5;

/// A pattern of the library, and what holds of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PatternCount {
    /// Such as `classifier>decomposition>coder`.
    pub name: String,
    /// What it consists of, as the library has it.
    pub definition: Value,
    /// Attempts that followed it.
    pub occurrences: u64,
    /// Successes among them.
    pub successes: u64,
    /// Until when it is published; `None` is not at all.
    pub published_until: Option<DateTime<Utc>>,
}

/// The patterns that are worth telling and were not told, or whose learning will have ended before half of its life
/// is over again.
pub fn patterns(counts: &[PatternCount], now: DateTime<Utc>, settings: &Settings) -> Vec<Decision> {
    counts.iter().filter_map(|count| discover(count, now, settings)).collect()
}

fn discover(count: &PatternCount, now: DateTime<Utc>, settings: &Settings) -> Option<Decision> {
    let half = TimeDelta::from_std(settings.claim_lifetime / 2).unwrap_or_default();
    if count.published_until.is_some_and(|until| until > now + half) || count.successes < settings.pattern_successes {
        return None;
    }
    let (successes, n) = (count.successes as f64, count.occurrences.max(count.successes) as f64);
    let (low, high) = wilson(successes, n, Z_95);
    if low <= SHARE_MIN {
        return None;
    }
    let share = successes / n;
    let mut definition = match &count.definition {
        Value::Object(definition) => definition.clone(),
        _ => serde_json::Map::new(),
    };
    if definition.is_empty() {
        definition.insert("steps".into(), count.name.split('>').collect());
    }
    let payload = Payload::PatternDiscovery(PatternDiscovery {
        pattern_name: count.name.clone(),
        pattern_definition: Value::Object(definition),
    });
    let summary = format!("{} succeeded in {} of {} attempts.", count.name, count.successes, n);
    let evidence = json!({"occurrences": n, "successes": successes, "share": share, "low": low, "high": high});
    Some(Decision::publish("discover_pattern", Draft::new(payload, summary, evidence, settings.claim_lifetime)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_succeeds_often_is_told_once() {
        let count = |successes: u64, occurrences: u64, published_until: Option<DateTime<Utc>>| PatternCount {
            name: "classifier>coder".into(),
            definition: json!({}),
            occurrences,
            successes,
            published_until,
        };
        let now = DateTime::UNIX_EPOCH;
        let settings = Settings::default();
        let cases = [
            (count(12, 13, None), true),
            (count(9, 9, None), false),
            (count(12, 24, None), false),
            (count(12, 13, Some(now + TimeDelta::days(29))), false),
            (count(12, 13, Some(now + TimeDelta::days(10))), true),
        ];
        for (count, told) in cases {
            let found = patterns(std::slice::from_ref(&count), now, &settings);
            assert_eq!(found.len(), usize::from(told), "{count:?}");
            for decision in found {
                let draft = decision.draft.unwrap();
                draft.payload.check().unwrap();
                assert_eq!(draft.payload.to_json()["pattern_definition"]["steps"], json!(["classifier", "coder"]));
            }
        }
    }
}
