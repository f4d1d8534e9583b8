//! What is read from channels: from `insert`, `signal`, `leader` and `sonar`, where Oban's nodes write too, and `echo`.
//!
//! Payloads come in any of the forms that [`super::encoding`] reads. Unknown keys are ignored: other versions send more
//! than we know. What cannot be read is an [`Undecodable`], which callers take for "something happened, look".

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::echo::Ping;
use super::encoding;

/// `ident` of a message for every instance.
pub const IDENT_ANY: &str = "any";

/// `queue` of a signal for every queue.
pub const QUEUE_ANY: &str = "*";

/// A queue has available jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Insert {
    /// Which queue.
    pub queue: String,
}

/// A request to the queues of one or all instances, or to a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Signal {
    /// Stop claiming.
    Pause {
        /// Queue, or `*`.
        queue: String,
        /// For whom: `any`, or `<name>.<node>`; without it for everybody.
        #[serde(skip_serializing_if = "Option::is_none")]
        ident: Option<String>,
    },
    /// Claim again.
    Resume {
        /// Queue, or `*`.
        queue: String,
        /// As in `Pause`.
        #[serde(skip_serializing_if = "Option::is_none")]
        ident: Option<String>,
    },
    /// Change the limit.
    Scale {
        /// Queue.
        queue: String,
        /// As in `Pause`.
        #[serde(skip_serializing_if = "Option::is_none")]
        ident: Option<String>,
        /// Jobs that run at once; the receiver checks the range.
        limit: u32,
    },
    /// Start a queue that does not run here.
    Start {
        /// Queue.
        queue: String,
        /// As in `Pause`.
        #[serde(skip_serializing_if = "Option::is_none")]
        ident: Option<String>,
        /// Jobs that run at once.
        limit: u32,
        /// Start without claiming.
        paused: bool,
    },
    /// Stop a queue.
    Stop {
        /// Queue.
        queue: String,
        /// As in `Pause`.
        #[serde(skip_serializing_if = "Option::is_none")]
        ident: Option<String>,
    },
    /// Cancel a job that runs.
    Pkill {
        /// Which job.
        job_id: i64,
    },
}

impl Signal {
    /// For an instance with this ident (`<name>.<node>`).
    pub fn is_for(&self, ident: &str) -> bool {
        match self {
            Self::Pause { ident: to, .. }
            | Self::Resume { ident: to, .. }
            | Self::Scale { ident: to, .. }
            | Self::Start { ident: to, .. }
            | Self::Stop { ident: to, .. } => to.as_deref().is_none_or(|to| to == IDENT_ANY || to == ident),
            Self::Pkill { .. } => true,
        }
    }
}

/// Why a payload says nothing to us. The payload itself is not repeated: it may be anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// Larger than PostgreSQL delivers.
    #[error("it has {bytes} bytes")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// One of the compressed forms, and broken.
    #[error("it is compressed and broken: {reason}")]
    Compressed {
        /// Which of its layers.
        reason: String,
    },
    /// A compressed form of more than we want to have in memory.
    #[error("it is compressed and unpacks to more than {limit} bytes")]
    Unpacks {
        /// The most that is unpacked.
        limit: usize,
    },
    /// No JSON object.
    #[error("it is no JSON object: {reason}")]
    NoObject {
        /// What the parser met.
        reason: String,
    },
    /// A key is missing or has a value of another type.
    #[error("key \"{key}\" is missing or not {expected}")]
    Key {
        /// Which key.
        key: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// An action that Oban does not have, or that came after this program.
    #[error("its action is not known")]
    Action,
}

impl Undecodable {
    /// What is wrong, in a word; one of few.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "size",
            Self::Compressed { .. } => "compression",
            Self::Unpacks { .. } => "unpacked size",
            Self::NoObject { .. } => "json",
            Self::Key { key, .. } => key,
            Self::Action => "action not known",
        }
    }
}

/// Reads a payload of channel `insert`.
///
/// # Errors
/// What is wrong with it; look at every queue then.
pub fn decode_insert(payload: &str) -> Result<Insert, Undecodable> {
    Ok(Insert { queue: text(&object(payload)?, "queue")? })
}

/// Reads a payload of channel `signal`.
///
/// # Errors
/// What is wrong with it.
pub fn decode_signal(payload: &str) -> Result<Signal, Undecodable> {
    let object = object(payload)?;
    let action = text(&object, "action")?;
    if action == "pkill" {
        let job_id = object.get("job_id").and_then(Value::as_i64).filter(|id| *id > 0);
        return job_id
            .map(|job_id| Signal::Pkill { job_id })
            .ok_or(Undecodable::Key { key: "job_id", expected: "a positive whole number" });
    }
    if !matches!(action.as_str(), "pause" | "resume" | "scale" | "start" | "stop") {
        return Err(Undecodable::Action);
    }
    let queue = text(&object, "queue")?;
    let ident = match object.get("ident") {
        None | Some(Value::Null) => None,
        Some(_) => Some(text(&object, "ident")?),
    };
    let limit = || {
        let limit = object.get("limit").and_then(Value::as_u64).and_then(|limit| u32::try_from(limit).ok());
        limit.filter(|limit| *limit > 0).ok_or(Undecodable::Key { key: "limit", expected: "a positive whole number" })
    };
    Ok(match action.as_str() {
        "pause" => Signal::Pause { queue, ident },
        "resume" => Signal::Resume { queue, ident },
        "stop" => Signal::Stop { queue, ident },
        "scale" => Signal::Scale { queue, ident, limit: limit()? },
        _ => {
            let paused = match object.get("paused") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(paused)) => *paused,
                Some(_) => return Err(Undecodable::Key { key: "paused", expected: "true or false" }),
            };
            Signal::Start { queue, ident, limit: limit()?, paused }
        }
    })
}

/// Reads a payload of channel `leader`: the name of the Oban whose leader leaves, `None` when it says something else
/// about leaders.
///
/// # Errors
/// What is wrong with it; hold an election then.
pub fn decode_leader(payload: &str) -> Result<Option<String>, Undecodable> {
    let object = object(payload)?;
    if object.contains_key("down") { text(&object, "down").map(Some) } else { Ok(None) }
}

/// Reads a payload of channel `sonar`: the name of the node that is there.
///
/// # Errors
/// What is wrong with it.
pub fn decode_sonar(payload: &str) -> Result<String, Undecodable> {
    text(&object(payload)?, "node")
}

/// Reads a payload of channel `echo`.
///
/// # Errors
/// What is wrong with it.
pub fn decode_echo(payload: &str) -> Result<Ping, Undecodable> {
    let object = object(payload)?;
    let number = object.get("number").and_then(Value::as_u64);
    let number = number.ok_or(Undecodable::Key { key: "number", expected: "a whole number" })?;
    Ok(Ping { instance: text(&object, "instance")?, number })
}

fn object(payload: &str) -> Result<Map<String, Value>, Undecodable> {
    // The parser limits the depth itself.
    serde_json::from_str(&encoding::read(payload)?).map_err(|error| Undecodable::NoObject { reason: error.to_string() })
}

fn text(object: &Map<String, Value>, key: &'static str) -> Result<String, Undecodable> {
    match object.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        _ => Err(Undecodable::Key { key, expected: "a text" }),
    }
}

#[cfg(test)]
mod tests;
