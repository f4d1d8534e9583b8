//! What is wrong with a configuration: every problem with its code, its place and a way out.
//!
//! A person who edits a file wants all mistakes at once, so loading returns a list. Nothing here ever holds the value
//! of a secret: excerpts are masked before they get here (`document.rs`), messages about secrets name no value.

use std::fmt;

use serde::{Serialize, Serializer};

use super::layer::is_at_or_below;
use super::origin::Origin;
use crate::error::Coded;

/// Blocks that are printed; the rest is only counted.
const PROBLEMS_SHOWN_MAX: usize = 100;

/// Kind of a problem; the code is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// `E0101`: no such key.
    UnknownKey,
    /// `E0102`: a value of another type was expected.
    WrongType,
    /// `E0103`: the right type, outside what is allowed; also a key that is missing.
    BadValue,
    /// `E0104`: a name that is defined nowhere.
    UnknownReference,
    /// `E0105`: something other than a reference where a secret is named.
    LiteralSecret,
    /// `E0106`: the file is missing, unreadable, too large or not UTF-8.
    Unreadable,
    /// `E0107`: not TOML.
    Syntax,
    /// `E0108`: an environment variable or an override names something that cannot be set from there.
    Override,
}

impl Fault {
    /// The stable code, for example `E0101`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownKey => "E0101",
            Self::WrongType => "E0102",
            Self::BadValue => "E0103",
            Self::UnknownReference => "E0104",
            Self::LiteralSecret => "E0105",
            Self::Unreadable => "E0106",
            Self::Syntax => "E0107",
            Self::Override => "E0108",
        }
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// The line a problem is on, with what may be a secret left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// The line, masked.
    pub text: String,
    /// Column of the first character in question, from 1.
    pub column: usize,
    /// Characters in question; at least 1.
    pub width: usize,
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) origin: Origin,
    pub(super) excerpt: Option<Excerpt>,
}

impl Place {
    pub(super) fn of(origin: Origin) -> Self {
        Self { origin, excerpt: None }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind of mistake it is.
    #[serde(rename = "code")]
    pub fault: Fault,
    /// Where it was made.
    pub origin: Origin,
    /// Dotted key, empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong and what is allowed.
    pub message: String,
    /// What to do, as an imperative without a leading "try:".
    pub suggestion: Option<String>,
    /// The line of the file.
    pub excerpt: Option<Excerpt>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: ", self.fault.code())?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n  at {}", self.message, self.origin)?;
        if let (Some(excerpt), Origin::File { line, .. }) = (&self.excerpt, &self.origin) {
            let gutter = line.to_string().len();
            let indent = excerpt.column.saturating_sub(1);
            write!(f, "\n  {line} | {}\n  {:gutter$} | {:indent$}{}", excerpt.text, "", "", "^".repeat(excerpt.width))?;
        }
        match &self.suggestion {
            Some(suggestion) => write!(f, "\n  try: {suggestion}"),
            None => Ok(()),
        }
    }
}

/// Problems while they are collected.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn push(&mut self, place: Place, key: impl Into<String>, flaw: Flaw) {
        self.0.push(Problem {
            fault: flaw.fault,
            origin: place.origin,
            key: key.into(),
            message: flaw.message,
            suggestion: flaw.suggestion,
            excerpt: place.excerpt,
        });
    }

    /// Whether something is already known to be wrong with `key` or below it: what follows from that is not reported
    /// again.
    pub(super) fn touch(&self, key: &str) -> bool {
        self.0.iter().any(|problem| is_at_or_below(&problem.key, key))
    }

    /// Whether an entry of `table` was refused, so that a reference to it would seem to lead nowhere.
    pub(super) fn refuse_a_name_in(&self, table: &str) -> bool {
        let entry = |key: &str| key.strip_prefix(table)?.strip_prefix('.').map(str::to_owned);
        self.0.iter().any(|problem| entry(&problem.key).is_some_and(|name| !name.contains('.')))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order of the file, then of the environment, then of overrides.
    pub(super) fn into_errors(mut self) -> ConfigErrors {
        let column = |problem: &Problem| problem.excerpt.as_ref().map_or(0, |excerpt| excerpt.column);
        self.0.sort_by(|a, b| (&a.origin, column(a), &a.key).cmp(&(&b.origin, column(b), &b.key)));
        self.0.dedup();
        ConfigErrors { problems: self.0 }
    }
}

/// What a check found, before it is known where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) fault: Fault,
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
    /// Index of the element of a list.
    pub(super) element: Option<usize>,
}

impl Flaw {
    pub(super) fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into(), suggestion: None, element: None }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(Fault::BadValue, message)
    }

    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// The suggestion, if there is one, instead of that so far.
    pub(super) fn maybe_suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion.or(self.suggestion);
        self
    }

    /// The suggestion, unless there is one.
    pub(super) fn or_suggest(mut self, suggestion: String) -> Self {
        self.suggestion.get_or_insert(suggestion);
        self
    }
}

/// Everything that is wrong with a configuration; never empty.
///
/// `Display` prints one block a problem, in the order of the file, and ends with a count. Each block has its own code;
/// [`Coded::code`] is that of the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

impl ConfigErrors {
    /// The same as mistakes of a program.
    pub(super) fn of_program(mut self) -> Self {
        self.problems.iter_mut().for_each(|problem| problem.origin = Origin::Program);
        self
    }

    /// The problems in the order of the file, then of the environment, then of overrides.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.problems.iter().take(PROBLEMS_SHOWN_MAX) {
            write!(f, "{problem}\n\n")?;
        }
        let count = self.problems.len();
        match count {
            1 => write!(f, "1 problem in the configuration"),
            _ => write!(f, "{count} problems in the configuration"),
        }?;
        match count.checked_sub(PROBLEMS_SHOWN_MAX) {
            Some(rest @ 1..) => write!(f, ", {rest} of them not shown"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ConfigErrors {}

impl Coded for ConfigErrors {
    fn code(&self) -> &'static str {
        self.problems.first().map_or("E0100", |problem| problem.fault.code())
    }

    fn hint(&self) -> Option<String> {
        match self.problems.as_slice() {
            [only] => only.suggestion.clone(),
            _ => None,
        }
    }
}
