//! One field of an expression: its grammar, and the numbers that it allows.

use super::error::{CronError, shown};

/// Largest step, as in Oban.
const STEP_MAX: u32 = 99;
/// Digits of a number.
const DIGITS_MAX: usize = 2;

/// What a field may say.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) min: u32,
    pub(super) max: u32,
    /// Words for the numbers from `min` on; upper case only, as in Oban.
    words: &'static [&'static str],
}

const fn rule(name: &'static str, min: u32, max: u32) -> Rule {
    Rule { name, min, max, words: &[] }
}

pub(super) const SECOND: Rule = rule("second", 0, 59);
pub(super) const MINUTE: Rule = rule("minute", 0, 59);
pub(super) const HOUR: Rule = rule("hour", 0, 23);
pub(super) const DAY: Rule = rule("day", 1, 31);
pub(super) const MONTH: Rule = Rule {
    name: "month",
    min: 1,
    max: 12,
    words: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
pub(super) const WEEKDAY: Rule =
    Rule { name: "weekday", min: 0, max: 6, words: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] };

/// Numbers from 0 to 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Set(u64);

impl Set {
    pub(super) const fn of(number: u32) -> Self {
        Self(1 << number)
    }

    pub(super) const fn has(self, number: u32) -> bool {
        number < u64::BITS && self.0 >> number & 1 == 1
    }

    /// The smallest number that is at least `from`.
    pub(super) const fn first_from(self, from: u32) -> Option<u32> {
        if from >= u64::BITS {
            return None;
        }
        let left = self.0 >> from << from;
        if left == 0 { None } else { Some(left.trailing_zeros()) }
    }

    /// The largest number that is at most `to`, which is below 64.
    pub(super) const fn last_to(self, to: u32) -> Option<u32> {
        let left = self.0 & (u64::MAX >> (u64::BITS - 1 - to));
        if left == 0 { None } else { Some(u64::BITS - 1 - left.leading_zeros()) }
    }

    /// Whether every number of the rule is in it.
    pub(super) fn is_all_of(self, rule: &Rule) -> bool {
        (rule.min..=rule.max).all(|number| self.has(number))
    }
}

/// The numbers that `text`, a list of parts between commas, allows.
pub(super) fn parse(rule: &Rule, text: &str) -> Result<Set, CronError> {
    text.split(',').try_fold(Set(0), |set, part| Ok(Set(set.0 | parse_part(rule, part)?.0)))
}

/// `*`, a number, a range, or one of them with a step.
fn parse_part(rule: &Rule, part: &str) -> Result<Set, CronError> {
    let (base, step) = match part.split_once('/') {
        Some((base, step)) => (base, Some(parse_step(rule, part, step)?)),
        None => (part, None),
    };
    let (first, last) = match base.split_once('-') {
        _ if base == "*" => (rule.min, rule.max),
        Some((first, last)) => (number(rule, part, first)?, number(rule, part, last)?),
        None => {
            let first = number(rule, part, base)?;
            (first, if step.is_some() { rule.max } else { first })
        }
    };
    if first > last {
        let hint = format!("write {last}-{first}, or two ranges in a list");
        return Err(refused(rule, part, "a range that begins with its smaller end".into(), Some(hint)));
    }
    let step = usize::try_from(step.unwrap_or(1)).unwrap_or(1);
    Ok(Set((first..=last).step_by(step).fold(0, |bits, number| bits | Set::of(number).0)))
}

fn parse_step(rule: &Rule, part: &str, step: &str) -> Result<u32, CronError> {
    digits(step)
        .filter(|step| (1..=STEP_MAX).contains(step))
        .ok_or_else(|| refused(rule, part, format!("a step from 1 to {STEP_MAX}"), None))
}

fn number(rule: &Rule, part: &str, text: &str) -> Result<u32, CronError> {
    let word = |text: &str| rule.words.iter().position(|word| *word == text).and_then(|at| u32::try_from(at).ok());
    let given = digits(text).or_else(|| word(text).map(|at| rule.min + at));
    given.filter(|number| (rule.min..=rule.max).contains(number)).ok_or_else(|| {
        let upper = text.to_uppercase();
        let hint = if word(&upper).is_some() {
            Some(format!("write {upper} in capitals"))
        } else if rule.name == WEEKDAY.name && text == "7" {
            Some("write 0 or SUN for Sunday".into())
        } else if text == "?" && [DAY.name, WEEKDAY.name].contains(&rule.name) {
            Some("write * for any day".into())
        } else {
            None
        };
        let words = match rule.words {
            [first, .., last] => format!(", {first} to {last}"),
            _ => String::new(),
        };
        refused(rule, part, format!("*, {} to {}{words}, a range a-b, and a step after /", rule.min, rule.max), hint)
    })
}

fn digits(text: &str) -> Option<u32> {
    let plain = (1..=DIGITS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn refused(rule: &Rule, part: &str, allowed: String, hint: Option<String>) -> CronError {
    CronError::Field { field: rule.name, value: shown(part), allowed, hint }
}
