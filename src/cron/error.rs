//! What is wrong with an expression or a zone.

use super::expression::{EXPRESSION_BYTES_MAX, NICKNAMES};
use crate::error::Coded;

/// Characters of a text that an error repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// Why a text is no cron expression, or no zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// Not five or six fields, and no nickname.
    #[error(
        "\"{expression}\" has {count} fields; allowed are five (minute hour day month weekday) or six (second first)"
    )]
    Fields {
        /// What was given.
        expression: String,
        /// How many fields it has.
        count: usize,
    },
    /// A word with `@` that is no nickname.
    #[error("\"{given}\" is not a nickname; there are {}", NICKNAMES.join(", "))]
    Nickname {
        /// What was given.
        given: String,
    },
    /// A part of a field breaks its rule.
    #[error("{field} is \"{value}\"; allowed is {allowed}")]
    Field {
        /// Which of the fields.
        field: &'static str,
        /// The part of the field.
        value: String,
        /// The rule.
        allowed: String,
        /// What to write instead, where it is known.
        hint: Option<String>,
    },
    /// No month of the expression has one of its days.
    #[error("no month of \"{months}\" has a day of \"{days}\", so it is never due")]
    Never {
        /// The field of days.
        days: String,
        /// The field of months.
        months: String,
    },
    /// Longer than any sensible expression.
    #[error("it has {bytes} bytes; allowed are at most {EXPRESSION_BYTES_MAX}")]
    Long {
        /// How many.
        bytes: usize,
    },
    /// Not a zone of the time zone database.
    #[error("\"{given}\" is not a time zone; allowed is a name of the time zone database, such as Europe/Berlin")]
    Zone {
        /// What was given.
        given: String,
    },
}

impl Coded for CronError {
    fn code(&self) -> &'static str {
        match self {
            Self::Fields { .. } => "E0111",
            Self::Nickname { .. } => "E0112",
            Self::Field { .. } => "E0113",
            Self::Never { .. } => "E0114",
            Self::Long { .. } => "E0115",
            Self::Zone { .. } => "E0116",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Fields { .. } => Some("write five fields, for example \"0 3 * * *\" for every day at 03:00".into()),
            Self::Nickname { .. } => Some("write one of the nicknames, or five fields".into()),
            Self::Field { hint, .. } => hint.clone(),
            Self::Never { .. } => Some("change the day or the month".into()),
            Self::Long { .. } => Some("write ranges and steps instead of lists".into()),
            Self::Zone { .. } => Some("write a name such as Etc/UTC or Europe/Berlin".into()),
        }
    }
}

/// A text for a message: escaped and shortened.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
