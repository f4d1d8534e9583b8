//! When periodic jobs are due: cron expressions as Oban reads them, and their moments in a time zone. Pure.
//!
//! The grammar is Oban's, so that what is accepted here is accepted by an Elixir node too; the one extension is a sixth
//! field, seconds, in front ([`Expression::is_extended`] tells). The moments are right around changes of the clocks,
//! where Oban's minute by minute comparison skips or repeats them: see [`Expression::next`].

mod error;
mod expression;
mod field;
mod moment;
#[cfg(test)]
mod tests;

pub use chrono_tz::Tz as Zone;
pub use error::CronError;
pub use expression::{EXPRESSION_BYTES_MAX, Expression, NICKNAMES};

/// The zone of an entry that names none, as in Oban.
pub const ZONE_DEFAULT: &str = "Etc/UTC";

/// The zone of this name, as the time zone database writes it.
///
/// # Errors
/// [`CronError::Zone`].
pub fn zone(name: &str) -> Result<Zone, CronError> {
    name.parse().map_err(|_| CronError::Zone { given: error::shown(name) })
}

/// Names of all zones.
pub fn zone_names() -> impl Iterator<Item = &'static str> {
    chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())
}
