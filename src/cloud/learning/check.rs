//! What values in payloads may be.

use std::fmt::Debug;

use super::error::LearningError;
use super::payload::Kind;

/// Longest name of a job type, a route or a model.
const WORD_CHARS_MAX: usize = 127;

/// Whether `text` can be a job type or a route: the slash parts the two in the name of a cell.
pub(super) fn is_word(text: &str) -> bool {
    is_name(text) && !text.contains('/')
}

/// Whether `text` can be the name of a model or a pattern.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control();
    !text.is_empty() && text.chars().count() <= WORD_CHARS_MAX && text.chars().all(allowed)
}

/// The error of a value that is not allowed.
pub(super) fn bad(kind: Kind, field: &str, value: impl Debug, allowed: impl Into<String>) -> LearningError {
    LearningError::Value { kind, field: field.to_owned(), value: format!("{value:?}"), allowed: allowed.into() }
}

/// A job type or a route.
pub(super) fn word(kind: Kind, field: &str, text: &str) -> Result<(), LearningError> {
    let allowed = || format!("1 to {WORD_CHARS_MAX} characters without white space and without a slash");
    if is_word(text) { Ok(()) } else { Err(bad(kind, field, text, allowed())) }
}

/// A model or a pattern.
pub(super) fn name(kind: Kind, field: &str, text: &str) -> Result<(), LearningError> {
    let allowed = || format!("1 to {WORD_CHARS_MAX} characters without white space");
    if is_name(text) { Ok(()) } else { Err(bad(kind, field, text, allowed())) }
}

/// A probability or a share.
pub(super) fn share(kind: Kind, field: &str, value: f64) -> Result<(), LearningError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(bad(kind, field, value, "a number from 0 to 1")) }
}

/// How many there may be.
pub(super) fn count(kind: Kind, field: &str, count: usize, max: usize) -> Result<(), LearningError> {
    if (1..=max).contains(&count) { Ok(()) } else { Err(bad(kind, field, count, format!("1 to {max} entries"))) }
}
