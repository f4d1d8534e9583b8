//! Learnings: what CentralCloud tells the fleet, as it stands in the log and travels through pgmq.
//!
//! A learning is an envelope that everybody can read and a payload of one of four types. The two are read apart, so
//! that a type of a later version is kept and shown although nobody here can apply it. A payload is taken whole or
//! not at all: a rule that is nearly right would send real requests, and real money, to the wrong model.

mod cell;
mod check;
mod error;
mod payload;
mod routing;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use cell::Cell;
pub use error::LearningError;
pub use payload::{
    Benchmark, CostOptimization, EstimatedSavings, Kind, PatternDiscovery, Payload, PerformanceBenchmark, Preference,
    SCHEMA_VERSION,
};
pub use routing::{ModelRouting, RoutingRule, WeightedModel};

/// Version of the envelope.
const ENVELOPE_VERSION: u32 = 1;

/// Largest payload, as JSON text: far above what any of the four types needs.
const PAYLOAD_BYTES_MAX: usize = 256 * 1_024;

/// One learning of the log: numbered without gaps from 1, the latest of each type and key holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learning {
    v: u32,
    /// Its number.
    pub id: i64,
    /// Its type as a word, see [`Kind`]; later versions may know more.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about, within its type.
    pub key: String,
    /// Version of the payload's shape.
    pub schema_version: i32,
    /// One sentence for people.
    pub summary: String,
    /// What to do, see [`Self::read`].
    pub payload: Value,
    /// What it was concluded from.
    #[serde(default)]
    pub evidence: Value,
    /// Number of the learning whose effect it takes back.
    #[serde(default)]
    pub rolls_back: Option<i64>,
    /// When it was decided.
    pub created_at: DateTime<Utc>,
    /// From when on it no longer holds; `None` is never.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
}

impl Learning {
    /// A learning that says `payload`.
    pub fn new(id: i64, payload: &Payload, summary: impl Into<String>, created_at: DateTime<Utc>) -> Self {
        Self::from_row(id, payload.kind().as_str(), &payload.key(), SCHEMA_VERSION, payload.to_json(), created_at)
            .with_summary(summary)
    }

    /// A learning as the columns of the log hold it; the rest is set in the public fields.
    pub fn from_row(
        id: i64,
        kind: &str,
        key: &str,
        schema_version: i32,
        payload: Value,
        created_at: DateTime<Utc>,
    ) -> Self {
        Self {
            v: ENVELOPE_VERSION,
            id,
            kind: kind.to_owned(),
            key: key.to_owned(),
            schema_version,
            summary: String::new(),
            payload,
            evidence: Value::Object(serde_json::Map::new()),
            rolls_back: None,
            created_at,
            expires_at: None,
        }
    }

    fn with_summary(mut self, summary: impl Into<String>) -> Self {
        self.summary = summary.into();
        self
    }

    /// The envelope of a message. Keys that are not known are ignored; the payload is looked at by [`Self::read`].
    ///
    /// # Errors
    /// `E1101` it is no envelope, or one of another version.
    pub fn from_message(message: &Value) -> Result<Self, LearningError> {
        let bad = |reason: String| LearningError::Envelope { reason };
        let learning = Self::deserialize(message).map_err(|error| bad(error.to_string()))?;
        if learning.v != ENVELOPE_VERSION {
            return Err(bad(format!("v is {}, expected {ENVELOPE_VERSION}", learning.v)));
        }
        if learning.id < 1 {
            return Err(bad(format!("id is {}, expected a number from 1", learning.id)));
        }
        Ok(learning)
    }

    /// The payload, checked whole: its shape, its values, and that it is about the envelope's key.
    ///
    /// # Errors
    /// `E1102` the type or the version of its shape is not known here: keep it, it is of a later version. `E1103` the
    /// payload has another shape, `E1104` a value in it is not allowed: it can never be applied.
    pub fn read(&self) -> Result<Payload, LearningError> {
        let payload = Payload::read(&self.kind, self.schema_version, &self.payload)?;
        let key = payload.key();
        if key != self.key {
            return Err(check::bad(payload.kind(), "key", &self.key, format!("{key:?}, which its payload is about")));
        }
        Ok(payload)
    }

    /// Whether it no longer holds at `now`.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests;
