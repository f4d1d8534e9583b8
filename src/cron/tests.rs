//! The grammar as a table, and the moments against an oracle that knows nothing of how they are searched.

mod clocks;
mod grammar;
mod oracle;

use chrono::{DateTime, Utc};

use super::{Expression, Zone};

fn cron(text: &str) -> Expression {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The next moments after `after`, as clocks in the zone show them, with their offset.
fn nexts(text: &str, zone: Zone, after: &str, count: usize) -> Vec<String> {
    let expression = cron(text);
    let first = expression.next(zone, at(after));
    let moments = std::iter::successors(first, |at| expression.next(zone, *at));
    let show = |at: DateTime<Utc>| at.with_timezone(&zone).format("%m-%d %H:%M:%S %z").to_string();
    moments.take(count).map(show).collect()
}
