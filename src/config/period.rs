//! A span of time as it is written in configuration and on the command line: `500ms`, `30s`, `5m`, `1h`, `7d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time with millisecond precision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

/// Units in falling order with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Longest accepted span: 1,000 days. Longer ones are typing errors.
const MILLIS_MAX: u64 = 1_000 * 86_400_000;

impl Period {
    /// So many seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// As a standard duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem =
            || format!("\"{text}\" is not a period; write a whole number with ms, s, m, h or d, for example \"30s\"");
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(problem)?;
        let amount: u64 = text[..digits].parse().map_err(|_| problem())?;
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &text[digits..]).ok_or_else(problem)?;
        match amount.checked_mul(*unit) {
            Some(millis) if millis <= MILLIS_MAX => Ok(Self::from_millis(millis)),
            _ => Err(format!("\"{text}\" is longer than the largest period, 1000d")),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (name, unit) =
            UNITS.iter().find(|(_, unit)| millis != 0 && millis.is_multiple_of(*unit)).unwrap_or(&("s", 1_000));
        write!(f, "{}{name}", millis / unit)
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A period, or none: `"off"`, which may also be written `"infinity"`, as Oban has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PeriodOrOff(Option<Period>);

/// What stands for none; the first is how it is written back.
const OFF: [&str; 2] = ["off", "infinity"];

impl PeriodOrOff {
    /// None.
    pub const OFF: Self = Self(None);

    /// This period.
    pub const fn on(period: Period) -> Self {
        Self(Some(period))
    }

    /// The period, if there is one.
    pub const fn get(self) -> Option<Duration> {
        match self.0 {
            Some(period) => Some(period.get()),
            None => None,
        }
    }

    /// The period as it is written, if there is one.
    pub(super) const fn period(self) -> Option<Period> {
        self.0
    }
}

impl FromStr for PeriodOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if OFF.contains(&text) { Ok(Self::OFF) } else { text.parse().map(Self::on) }
    }
}

impl fmt::Display for PeriodOrOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(period) => fmt::Display::fmt(&period, f),
            None => f.write_str(OFF[0]),
        }
    }
}

impl fmt::Debug for PeriodOrOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PeriodOrOff {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeriodOrOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_every_unit() {
        for text in ["500ms", "30s", "5m", "1h", "7d"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        assert_eq!("0s".parse::<Period>().unwrap().to_string(), "0s");
        assert_eq!("60s".parse::<Period>().unwrap().to_string(), "1m");
    }

    #[test]
    fn none_is_off_or_infinity() {
        for (text, written) in [("off", "off"), ("infinity", "off"), ("60s", "1m")] {
            assert_eq!(text.parse::<PeriodOrOff>().unwrap().to_string(), written);
        }
        assert_eq!("off".parse::<PeriodOrOff>().unwrap().get(), None);
        assert!("of".parse::<PeriodOrOff>().is_err() && "".parse::<PeriodOrOff>().is_err());
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        for text in ["", "5", "s", "-1s", "1.5s", "5 s", "5y", "99999999999999999999s", "1001d"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
