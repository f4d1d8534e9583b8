//! What an instance makes of a learning that it sees for the first time. Pure.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cloud::learning::Learning;
use crate::config::Apply;
use crate::error::Coded;

/// Who decides where no person did.
pub const BY_CONFIGURATION: &str = "configuration";
/// Start of the keys of settings by which people decide about learnings for the whole fleet: `learning.7`.
const KEY_PREFIX: &str = "learning.";

/// What an instance made of a learning; a word of `learning_applications.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It holds here, until a later one of its type and key does or it expires.
    Applied,
    /// It waits for a person.
    Proposed,
    /// A person does not want it.
    Rejected,
    /// It had expired when this instance saw it.
    Expired,
    /// Its type or version is not known here; a later version of the program may know it.
    Unknown,
    /// Its payload cannot be used.
    Invalid,
}

impl State {
    /// The word in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Proposed => "proposed",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        }
    }
}

/// A state and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of the learning.
    pub state: State,
    /// Who decided.
    pub decided_by: String,
    /// Why, where there is something to say.
    pub reason: Option<String>,
}

/// What a person decided about a learning for all instances, also those that see it later.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// `"applied"` or `"rejected"`.
    pub value: Value,
    /// Who.
    pub author: String,
    /// Why.
    pub reason: Option<String>,
}

/// The setting by which a person decides about a learning.
pub fn decision_key(learning_id: i64) -> String {
    format!("{KEY_PREFIX}{learning_id}")
}

/// What becomes of `learning` at `now`. What cannot be read, or holds no more, nobody can want; else a person's word
/// counts before the configuration.
pub fn verdict(learning: &Learning, apply: Apply, decision: Option<&Decision>, now: DateTime<Utc>) -> Verdict {
    let of = |state, decided_by: &str, reason| Verdict { state, decided_by: decided_by.to_owned(), reason };
    if let Err(error) = learning.read() {
        let state = if error.is_unknown() { State::Unknown } else { State::Invalid };
        return of(state, BY_CONFIGURATION, Some(format!("{}: {error}", error.code())));
    }
    if learning.is_expired(now) {
        return of(State::Expired, BY_CONFIGURATION, None);
    }
    let word = decision.and_then(|decision| decision.value.as_str());
    match (decision, word, apply) {
        (Some(decision), Some("applied"), _) => of(State::Applied, &decision.author, decision.reason.clone()),
        (Some(decision), Some("rejected"), _) => of(State::Rejected, &decision.author, decision.reason.clone()),
        (_, _, Apply::Auto) => of(State::Applied, BY_CONFIGURATION, None),
        (_, _, Apply::Propose) => of(State::Proposed, BY_CONFIGURATION, None),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;

    use super::*;

    fn learning(kind: &str, payload: Value) -> Learning {
        Learning::from_row(7, kind, "p", 1, payload, DateTime::UNIX_EPOCH)
    }

    fn good() -> Learning {
        learning("pattern_discovery", json!({ "pattern_name": "p", "pattern_definition": {} }))
    }

    fn decided(word: &str) -> Decision {
        Decision { value: word.into(), author: "ann".into(), reason: Some("because".into()) }
    }

    #[test]
    fn a_person_decides_before_the_configuration() {
        let of = |apply, decision: Option<&Decision>| {
            let verdict = verdict(&good(), apply, decision, DateTime::UNIX_EPOCH);
            (verdict.state, verdict.decided_by)
        };
        assert_eq!(of(Apply::Auto, None), (State::Applied, BY_CONFIGURATION.into()));
        assert_eq!(of(Apply::Propose, None), (State::Proposed, BY_CONFIGURATION.into()));
        assert_eq!(of(Apply::Auto, Some(&decided("rejected"))), (State::Rejected, "ann".into()));
        assert_eq!(of(Apply::Propose, Some(&decided("applied"))), (State::Applied, "ann".into()));
        assert_eq!(of(Apply::Propose, Some(&decided("perhaps"))), (State::Proposed, BY_CONFIGURATION.into()));
    }

    #[test]
    fn what_cannot_be_used_is_not_applied_whoever_wants_it() {
        let wanted = decided("applied");
        let of = |learning: &Learning, now| verdict(learning, Apply::Auto, Some(&wanted), now).state;
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(of(&learning("prompt_advice", json!({})), now), State::Unknown);
        assert_eq!(of(&learning("pattern_discovery", json!({ "pattern_name": 7 })), now), State::Invalid);
        let mut expiring = good();
        expiring.expires_at = Some(now + TimeDelta::seconds(1));
        assert_eq!(of(&expiring, now), State::Applied);
        assert_eq!(of(&expiring, now + TimeDelta::seconds(1)), State::Expired);
    }
}
