//! Columns that are read as far as they can be: what cannot be read is said, and fails nothing but itself.

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Postgres, Type};

/// Microseconds from the beginning of 1970 to that of 2000, where PostgreSQL counts from.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A value, or why it cannot be read.
#[derive(Debug)]
pub(super) struct Read<T>(Result<T, String>);

impl<T: Default> Read<T> {
    /// The value. Where it cannot be read it is empty, and `problems` gets a sentence about `column`.
    pub(super) fn or_default(self, column: &str, problems: &mut Vec<String>) -> T {
        self.0.unwrap_or_else(|reason| {
            problems.push(format!("{column} cannot be read: {reason}"));
            T::default()
        })
    }
}

impl<T: Type<Postgres>> Type<Postgres> for Read<T> {
    fn type_info() -> PgTypeInfo {
        T::type_info()
    }

    fn compatible(found: &PgTypeInfo) -> bool {
        T::compatible(found)
    }
}

impl<'r, T: Decode<'r, Postgres>> Decode<'r, Postgres> for Read<T> {
    fn decode(value: PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(Self(T::decode(value).map_err(|error| error.to_string())))
    }
}

/// A time. Infinite ones, and those after the year 262142, which chrono cannot hold and the driver panics about, are
/// the furthest that it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(DateTime<Utc>);

impl Moment {
    fn of_micros(micros: i64) -> Self {
        let furthest = if micros < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
        Self(micros.checked_add(EPOCH_MICROS).and_then(DateTime::from_timestamp_micros).unwrap_or(furthest))
    }
}

impl From<Moment> for DateTime<Utc> {
    fn from(moment: Moment) -> Self {
        moment.0
    }
}

impl Type<Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for Moment {
    fn decode(value: PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(match value.format() {
            PgValueFormat::Binary => Self::of_micros(<i64 as Decode<Postgres>>::decode(value)?),
            PgValueFormat::Text => Self(<DateTime<Utc> as Decode<Postgres>>::decode(value)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_far_as_they_can_be_held() {
        let of = |micros| DateTime::<Utc>::from(Moment::of_micros(micros));
        assert_eq!(of(0).to_rfc3339(), "2000-01-01T00:00:00+00:00");
        assert_eq!(of(-1).to_rfc3339(), "1999-12-31T23:59:59.999999+00:00");
        // Infinity is the largest number, and the last finite time is in the year 294276.
        for micros in [i64::MAX, 9_223_371_331_199_999_999] {
            assert_eq!(of(micros), DateTime::<Utc>::MAX_UTC);
        }
        assert_eq!(of(i64::MIN), DateTime::<Utc>::MIN_UTC);
    }

    #[test]
    fn what_cannot_be_read_is_empty_and_said() {
        let mut problems = Vec::new();
        assert_eq!(Read(Ok(7)).or_default("a", &mut problems), 7);
        assert_eq!(Read::<i32>(Err("too large".into())).or_default("b", &mut problems), 0);
        assert_eq!(problems, ["b cannot be read: too large"]);
    }
}
