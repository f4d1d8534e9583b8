//! Why a learning cannot be read.

use super::payload::Kind;
use crate::error::Coded;

/// Why a message is no learning, or a learning cannot be applied here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LearningError {
    /// Not even the envelope can be read.
    #[error("the message is no learning: {reason}")]
    Envelope {
        /// What is wrong.
        reason: String,
    },
    /// A type, or a shape of a type, of a later version.
    #[error("learnings of type {kind:?} with schema version {schema_version} are not known here; known are {known}")]
    Unknown {
        /// Its type.
        kind: String,
        /// Version of its shape.
        schema_version: i32,
        /// The types that are, with their version.
        known: String,
    },
    /// The payload has another shape than its type.
    #[error("payload of {}: {reason}", .kind.as_str())]
    Shape {
        /// Its type.
        kind: Kind,
        /// What is wrong.
        reason: String,
    },
    /// A value in the payload is not allowed.
    #[error("payload of {}: {field} is {value}, expected {allowed}", .kind.as_str())]
    Value {
        /// Its type.
        kind: Kind,
        /// Where the value stands.
        field: String,
        /// The value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

impl LearningError {
    /// Whether a later version of this program may be able to read it, so that it is kept.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

impl Coded for LearningError {
    fn code(&self) -> &'static str {
        match self {
            Self::Envelope { .. } => "E1101",
            Self::Unknown { .. } => "E1102",
            Self::Shape { .. } => "E1103",
            Self::Value { .. } => "E1104",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => Some("update this instance to the version of its CentralCloud".into()),
            Self::Envelope { .. } | Self::Shape { .. } | Self::Value { .. } => None,
        }
    }
}
