//! The clock of this machine beside that of the server.
//!
//! Every decision uses the server's clock. Oban for Elixir uses its own machine's, so nodes whose clocks disagree see
//! leases end early and jobs become due late; times in logs and listings confuse people besides.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Database, DbError};

/// Difference up to which nobody need know of it.
const CLOCK_SKEW_MAX: TimeDelta = TimeDelta::seconds(1);

impl Database {
    /// How far the server's clock is ahead of this machine's; negative when it is behind. As exact as half the time
    /// that the question takes.
    ///
    /// # Errors
    /// As any statement.
    pub async fn clock_skew(&self) -> Result<TimeDelta, DbError> {
        let before = Utc::now();
        let server = self.server_now().await?;
        Ok(skew(before, server, Utc::now()))
    }
}

/// Whether a person should know of it.
pub fn is_skewed(skew: TimeDelta) -> bool {
    skew.abs() > CLOCK_SKEW_MAX
}

/// The server's clock against the middle of the question.
fn skew(before: DateTime<Utc>, server: DateTime<Utc>, after: DateTime<Utc>) -> TimeDelta {
    server - (before + (after - before) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_in_the_middle_of_the_question() {
        let at = |ms| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms);
        assert_eq!(skew(at(0), at(1_000), at(2_000)), TimeDelta::zero());
        assert_eq!(skew(at(10_000), at(0), at(10_000)), TimeDelta::seconds(-10));
        assert_eq!(skew(at(0), at(10_000), at(0)), TimeDelta::seconds(10));
    }

    #[test]
    fn more_than_a_second_is_told_in_either_direction() {
        for (ms, told) in [(0, false), (1_000, false), (-1_000, false), (1_001, true), (-1_001, true)] {
            assert_eq!(is_skewed(TimeDelta::milliseconds(ms)), told, "{ms} ms");
        }
    }
}
