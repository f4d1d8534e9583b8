//! An expression: five fields, six with seconds, or a nickname.

use std::fmt;
use std::str::FromStr;

use super::error::{CronError, shown};
use super::field::{self, Set, parse};

/// Longest expression; all sixty minutes as a list are 170 bytes.
pub const EXPRESSION_BYTES_MAX: usize = 512;

/// Words for common expressions, as in Oban.
pub const NICKNAMES: [&str; 8] =
    ["@annually", "@yearly", "@monthly", "@weekly", "@midnight", "@daily", "@hourly", REBOOT];
const REBOOT: &str = "@reboot";

/// Days of each month in a leap year.
const MONTH_DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A cron expression that was checked: it is due at some time, or says `@reboot`.
///
/// The grammar, as Oban's: fields are separated by blanks; each is a list with commas of `*`, `n`, `a-b`, `*/s`,
/// `a-b/s` or `n/s` (from n on), with steps from 1 to 99. Minute 0–59, hour 0–23, day 1–31, month 1–12 or JAN–DEC,
/// weekday 0–6 or SUN–SAT. Day and weekday must both fit. A sixth field in front is the second, 0–59.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expression {
    text: String,
    pub(super) due: Option<Due>,
    seconds_given: bool,
}

/// The numbers that each field allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Due {
    pub(super) seconds: Set,
    pub(super) minutes: Set,
    pub(super) hours: Set,
    pub(super) days: Set,
    pub(super) months: Set,
    pub(super) weekdays: Set,
    pub(super) every_hour: bool,
}

impl Expression {
    /// As it was written, without blanks around it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is `@reboot`: due once after a start, and at no time of the clock.
    pub fn is_reboot(&self) -> bool {
        self.due.is_none()
    }

    /// Whether it has a field for seconds, which no Oban node can read.
    pub fn is_extended(&self) -> bool {
        self.seconds_given
    }
}

impl FromStr for Expression {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(CronError::Long { bytes: text.len() });
        }
        let text = text.trim_ascii();
        let plain = match text {
            "@annually" | "@yearly" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@midnight" | "@daily" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            REBOOT => return Ok(Self { text: text.into(), due: None, seconds_given: false }),
            nickname if nickname.starts_with('@') => return Err(CronError::Nickname { given: shown(nickname) }),
            fields => fields,
        };
        let fields: Vec<&str> = plain.split_ascii_whitespace().collect();
        let (second, rest) = match fields.as_slice() {
            rest @ [_, _, _, _, _] => (None, rest),
            [second, rest @ ..] if rest.len() == 5 => (Some(*second), rest),
            all => return Err(CronError::Fields { expression: shown(text), count: all.len() }),
        };
        let [minute, hour, day, month, weekday] = rest else {
            return Err(CronError::Fields { expression: shown(text), count: fields.len() });
        };
        let due = Due::parse(second, minute, hour, day, month, weekday)?;
        Ok(Self { text: text.into(), due: Some(due), seconds_given: second.is_some() })
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Due {
    fn parse(
        second: Option<&str>,
        minute: &str,
        hour: &str,
        day: &str,
        month: &str,
        weekday: &str,
    ) -> Result<Self, CronError> {
        let hours = parse(&field::HOUR, hour)?;
        let due = Self {
            seconds: second.map_or(Ok(Set::of(0)), |second| parse(&field::SECOND, second))?,
            minutes: parse(&field::MINUTE, minute)?,
            hours,
            days: parse(&field::DAY, day)?,
            months: parse(&field::MONTH, month)?,
            weekdays: parse(&field::WEEKDAY, weekday)?,
            every_hour: hours.is_all_of(&field::HOUR),
        };
        // Whatever day there is falls on every weekday within some years.
        let first_day = due.days.first_from(1);
        let has_day = |(month, days): (u32, u32)| due.months.has(month) && first_day.is_some_and(|first| first <= days);
        if (1..).zip(MONTH_DAYS).any(has_day) {
            Ok(due)
        } else {
            Err(CronError::Never { days: shown(day), months: shown(month) })
        }
    }
}
