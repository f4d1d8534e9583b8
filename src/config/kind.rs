//! Types of single values: what is accepted, from a file and from text, and what is said when it is not.
//!
//! Invariant: a message repeats a value only through [`shown`], and never one that was given where a secret is named.

use std::fmt::Write as _;

use config::ValueKind;
use serde_json::{Map, Value};

use super::period::{Period, PeriodOrOff};
use super::problem::{Fault, Flaw};
use super::secret::SecretRef;
use super::suggest::nearest;

/// Characters of a value that a message repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// A further rule of a text, with its own words.
pub(super) type Rule = fn(&str) -> Result<(), Flaw>;

/// A further rule of a JSON object.
pub(super) type ObjectRule = fn(&Map<String, Value>) -> Result<(), Flaw>;

/// Type and range of one value. Ranges include both ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    Period {
        min: Period,
        max: Period,
    },
    /// A period, or "off".
    PeriodOrOff {
        min: Period,
        max: Period,
    },
    Choice(&'static [&'static str]),
    Text(Rule),
    Texts(Rule),
    /// Smallest and largest of something, as a list of two.
    Bounds {
        min: i64,
        max: i64,
    },
    /// A JSON object; kept as text.
    Object(ObjectRule),
    Secret,
}

/// A value as it was written, before its type is checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    Bool(bool),
    Integer(i64),
    /// An integer that does not fit; its digits.
    Huge(String),
    Number(f64),
    Text(String),
    List(Vec<Raw>),
    /// As a JSON object, unless something in it has no JSON form.
    Table(Option<Map<String, Value>>),
    Time,
}

impl Raw {
    fn describe(&self) -> String {
        match self {
            Self::Bool(value) => format!("the truth value {value}"),
            Self::Integer(value) => format!("the number {value}"),
            Self::Huge(digits) => format!("the number {}", shown(digits)),
            Self::Number(value) => format!("the number {value}"),
            Self::Text(text) => format!("the text \"{}\"", shown(text)),
            Self::List(_) => "a list".into(),
            Self::Table(_) => "a table".into(),
            Self::Time => "a date or time".into(),
        }
    }
}

impl Kind {
    /// What is expected, with its range, as the object of "expected".
    fn expected(self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::Integer { min, max } => format!("a whole number from {} to {}", grouped(min), grouped(max)),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Period { min, max } => format!("a period from {min} to {max}, such as \"30s\""),
            Self::PeriodOrOff { min, max } => format!("a period from {min} to {max}, such as \"30s\", or \"off\""),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Text(_) => "text".into(),
            Self::Texts(_) => "a list of texts".into(),
            Self::Bounds { min, max } => {
                format!("a list of two whole numbers from {} to {}, smallest and largest", grouped(min), grouped(max))
            }
            Self::Object(_) => "a table, or text with a JSON object".into(),
            Self::Secret => "a reference, \"env:NAME\" or \"file:PATH\"".into(),
        }
    }

    /// Reads text from the environment or the command line as this kind; what cannot be read stays text, and
    /// [`Kind::check`] then says why it does not fit.
    pub(super) fn read(self, text: &str) -> Raw {
        let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let number = |text: &str| text.replace('_', "").parse::<i64>().ok().map(Raw::Integer);
        let raw = match self {
            Self::Bool => text.parse().ok().map(Raw::Bool),
            Self::Integer { .. } => number(text),
            Self::Number { .. } => text.parse().ok().map(Raw::Number),
            Self::Texts(_) => Some(Raw::List(parts().map(|part| Raw::Text(part.into())).collect())),
            Self::Bounds { .. } => parts().map(number).collect::<Option<_>>().map(Raw::List),
            Self::Period { .. }
            | Self::PeriodOrOff { .. }
            | Self::Choice(_)
            | Self::Text(_)
            | Self::Object(_)
            | Self::Secret => None,
        };
        raw.unwrap_or_else(|| Raw::Text(text.into()))
    }

    /// The value in its final type, or everything that is wrong with it.
    pub(super) fn check(self, raw: &Raw) -> Result<ValueKind, Vec<Flaw>> {
        match (self, raw) {
            (Self::Bool, Raw::Bool(value)) => Ok((*value).into()),
            (Self::Integer { min, max }, Raw::Integer(value)) if (min..=max).contains(value) => Ok((*value).into()),
            (Self::Integer { .. }, Raw::Integer(_) | Raw::Huge(_)) => Err(vec![self.outside(raw)]),
            #[expect(clippy::cast_precision_loss, reason = "a number beyond 2^53 is outside every range")]
            (Self::Number { .. }, Raw::Integer(value)) => self.check(&Raw::Number(*value as f64)),
            (Self::Number { min, max }, Raw::Number(value)) if (min..=max).contains(value) => Ok((*value).into()),
            (Self::Number { .. }, Raw::Number(_) | Raw::Huge(_)) => Err(vec![self.outside(raw)]),
            (Self::Period { min, max }, Raw::Text(text)) => match text.parse::<Period>() {
                Ok(period) if (min..=max).contains(&period) => Ok(text.as_str().into()),
                Ok(_) => Err(vec![self.outside(raw)]),
                Err(_) => Err(vec![self.mismatch(Fault::BadValue, raw)]),
            },
            (Self::PeriodOrOff { min, max }, Raw::Text(text)) => match text.parse::<PeriodOrOff>() {
                Ok(period) if period.period().is_none_or(|period| (min..=max).contains(&period)) => {
                    Ok(text.as_str().into())
                }
                Ok(_) => Err(vec![self.outside(raw)]),
                Err(_) => Err(vec![self.mismatch(Fault::BadValue, raw)]),
            },
            (Self::Choice(words), Raw::Text(text)) if words.contains(&text.as_str()) => Ok(text.as_str().into()),
            (Self::Choice(words), Raw::Text(text)) => {
                let near = nearest(text, words.iter().copied()).map(|word| format!("write \"{word}\""));
                Err(vec![self.mismatch(Fault::BadValue, raw).maybe_suggest(near)])
            }
            (Self::Text(rule), Raw::Text(text)) => rule(text).map(|()| text.as_str().into()).map_err(|flaw| vec![flaw]),
            (Self::Texts(rule), Raw::List(items)) => each(items, |item| match item {
                Raw::Text(text) => rule(text).map(|()| text.as_str().into()),
                other => Err(Kind::Text(rule).mismatch(Fault::WrongType, other)),
            }),
            (Self::Bounds { min, max }, Raw::List(items)) => self.bounds(min, max, items),
            (Self::Object(rule), Raw::Table(Some(object))) => as_text(rule, object),
            (Self::Object(_), Raw::Table(None)) => {
                let flaw = Flaw::bad("a value in the table has no form in JSON: a date, inf, nan or a huge number");
                Err(vec![flaw.suggest("write it as text, in quotes")])
            }
            (Self::Object(rule), Raw::Text(text)) => match serde_json::from_str(text) {
                Ok(object) => as_text(rule, &object),
                Err(_) => Err(vec![self.mismatch(Fault::BadValue, raw).suggest("write it as { key = \"value\" }")]),
            },
            (Self::Secret, Raw::Text(text)) => match text.parse::<SecretRef>() {
                Ok(_) => Ok(text.as_str().into()),
                Err(reason) => Err(vec![literal(reason)]),
            },
            (Self::Secret, _) => Err(vec![literal(super::secret::BY_REFERENCE)]),
            _ => Err(vec![self.mismatch(Fault::WrongType, raw).maybe_suggest(self.requote(raw))]),
        }
    }

    fn bounds(self, min: i64, max: i64, items: &[Raw]) -> Result<ValueKind, Vec<Flaw>> {
        let one = Kind::Integer { min, max };
        let value =
            each(items, |item| one.check(item).map_err(|mut flaws| flaws.pop().unwrap_or_else(|| self.outside(item))))?;
        match items {
            [Raw::Integer(smallest), Raw::Integer(largest)] if smallest <= largest => Ok(value),
            [Raw::Integer(smallest), Raw::Integer(largest)] => {
                let message = format!("the smallest, {smallest}, is above the largest, {largest}");
                Err(vec![Flaw::bad(message).suggest(format!("write [{largest}, {smallest}]"))])
            }
            _ => Err(vec![Flaw::bad(format!("{} given, expected {}", plural(items.len(), "number"), self.expected()))]),
        }
    }

    fn mismatch(self, fault: Fault, raw: &Raw) -> Flaw {
        Flaw::new(fault, format!("expected {}, found {}", self.expected(), raw.describe()))
    }

    fn outside(self, raw: &Raw) -> Flaw {
        Flaw::bad(format!("{} is out of range, expected {}", raw.describe(), self.expected()))
    }

    /// The same value as it should have been quoted.
    fn requote(self, raw: &Raw) -> Option<String> {
        match (self, raw) {
            (Self::Bool | Self::Integer { .. } | Self::Number { .. }, Raw::Text(text)) => {
                let read = self.read(text);
                (read != *raw && self.check(&read).is_ok()).then(|| format!("write {text} without quotes"))
            }
            (Self::PeriodOrOff { .. }, Raw::Bool(false)) => Some("write \"off\"".into()),
            (Self::Period { .. } | Self::PeriodOrOff { .. }, Raw::Integer(value)) => {
                Some(format!("name the unit: \"{value}s\" or \"{value}ms\""))
            }
            (Self::Text(_) | Self::Choice(_), Raw::Integer(value)) => Some(format!("write \"{value}\" in quotes")),
            (Self::Texts(_), Raw::Text(text)) => Some(format!("write [\"{}\"]", shown(text))),
            _ => None,
        }
    }
}

fn as_text(rule: ObjectRule, object: &Map<String, Value>) -> Result<ValueKind, Vec<Flaw>> {
    rule(object).map_err(|flaw| vec![flaw])?;
    Ok(Value::Object(object.clone()).to_string().into())
}

fn literal(reason: &str) -> Flaw {
    let message = format!("{reason}; what stands here is not repeated");
    Flaw::new(Fault::LiteralSecret, message).suggest(
        "put the secret into an environment variable or a file, and name it here as \"env:NAME\" or \"file:PATH\"",
    )
}

/// Checks every element, so that each bad one is reported.
fn each(items: &[Raw], check: impl Fn(&Raw) -> Result<ValueKind, Flaw>) -> Result<ValueKind, Vec<Flaw>> {
    let mut flaws = Vec::new();
    let mut values = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match check(item) {
            Ok(value) => values.push(config::Value::from(value)),
            Err(flaw) => flaws.push(Flaw { element: Some(index), ..flaw }),
        }
    }
    if flaws.is_empty() { Ok(ValueKind::Array(values)) } else { Err(flaws) }
}

/// A value for a message: escaped, shortened, and without what stands between `://` and `@`, where URLs carry
/// passwords.
pub(super) fn shown(text: &str) -> String {
    let mut safe = String::new();
    let text = match (text.find("://"), text.rfind('@')) {
        (Some(start), Some(end)) if start + 3 <= end => {
            safe.push_str(&text[..start + 3]);
            safe.push('…');
            &text[end..]
        }
        _ => text,
    };
    let mut characters = text.chars();
    for character in characters.by_ref().take(SHOWN_CHARS_MAX) {
        // Writing to a String cannot fail.
        let _infallible = write!(safe, "{}", character.escape_debug());
    }
    if characters.next().is_some() {
        safe.push('…');
    }
    safe
}

/// A number with commas between thousands.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
