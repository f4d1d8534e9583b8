//! Both changes of the clocks, in zones that do it in different ways.

use super::super::Zone;
use super::{at, cron, nexts};

/// Expression, zone, after, and what follows.
type Case = (&'static str, Zone, &'static str, &'static [&'static str]);

/// A time that clocks skip counts once, at the first moment after the gap.
const SPRING: [Case; 11] = [
    // Berlin: 02:00 becomes 03:00.
    ("30 2 * * *", Zone::Europe__Berlin, "2026-03-28T12:00:00Z", &["03-29 03:00:00 +0200", "03-30 02:30:00 +0200"]),
    ("0,30 2 * * *", Zone::Europe__Berlin, "2026-03-28T12:00:00Z", &["03-29 03:00:00 +0200", "03-30 02:00:00 +0200"]),
    (
        "0 2,3 * * *",
        Zone::Europe__Berlin,
        "2026-03-28T12:00:00Z",
        &["03-29 03:00:00 +0200", "03-30 02:00:00 +0200", "03-30 03:00:00 +0200"],
    ),
    ("30 2 * * *", Zone::Europe__Berlin, "2026-03-29T00:59:59Z", &["03-29 03:00:00 +0200"]),
    ("30 2 * * *", Zone::Europe__Berlin, "2026-03-29T01:00:00Z", &["03-30 02:30:00 +0200"]),
    // For every hour, time goes on as it passes.
    ("30 * * * *", Zone::Europe__Berlin, "2026-03-29T00:00:00Z", &["03-29 01:30:00 +0100", "03-29 03:30:00 +0200"]),
    (
        "*/20 * * * *",
        Zone::Europe__Berlin,
        "2026-03-29T00:30:00Z",
        &["03-29 01:40:00 +0100", "03-29 03:00:00 +0200", "03-29 03:20:00 +0200"],
    ),
    // New York: 02:00 becomes 03:00.
    ("15 2 * * *", Zone::America__New_York, "2026-03-08T00:00:00Z", &["03-08 03:00:00 -0400", "03-09 02:15:00 -0400"]),
    // Lord Howe: 02:00 becomes 02:30.
    (
        "15 2 * * *",
        Zone::Australia__Lord_Howe,
        "2026-10-03T00:00:00Z",
        &["10-04 02:30:00 +1100", "10-05 02:15:00 +1100"],
    ),
    (
        "*/15 * * * *",
        Zone::Australia__Lord_Howe,
        "2026-10-03T15:14:00Z",
        &["10-04 01:45:00 +1030", "10-04 02:30:00 +1100", "10-04 02:45:00 +1100"],
    ),
    // Apia left out a whole day.
    (
        "0 12 * * *",
        Zone::Pacific__Apia,
        "2011-12-29T12:00:00Z",
        &["12-29 12:00:00 -1000", "12-31 00:00:00 +1400", "12-31 12:00:00 +1400"],
    ),
];

/// A time that comes twice counts the first time, but for every hour both times.
const AUTUMN: [Case; 9] = [
    // Berlin: 03:00 becomes 02:00.
    ("30 2 * * *", Zone::Europe__Berlin, "2026-10-24T12:00:00Z", &["10-25 02:30:00 +0200", "10-26 02:30:00 +0100"]),
    ("0 3 * * *", Zone::Europe__Berlin, "2026-10-24T12:00:00Z", &["10-25 03:00:00 +0100", "10-26 03:00:00 +0100"]),
    ("0 */2 * * *", Zone::Europe__Berlin, "2026-10-24T23:00:00Z", &["10-25 02:00:00 +0200", "10-25 04:00:00 +0100"]),
    (
        "*/30 * * * *",
        Zone::Europe__Berlin,
        "2026-10-24T23:59:00Z",
        &[
            "10-25 02:00:00 +0200",
            "10-25 02:30:00 +0200",
            "10-25 02:00:00 +0100",
            "10-25 02:30:00 +0100",
            "10-25 03:00:00 +0100",
        ],
    ),
    ("30 2 * * *", Zone::Europe__Berlin, "2026-10-25T00:30:00Z", &["10-26 02:30:00 +0100"]),
    // New York: 02:00 becomes 01:00.
    ("30 1 * * *", Zone::America__New_York, "2026-11-01T00:00:00Z", &["11-01 01:30:00 -0400", "11-02 01:30:00 -0500"]),
    // Lord Howe: 02:00 becomes 01:30.
    (
        "45 1 * * *",
        Zone::Australia__Lord_Howe,
        "2026-04-04T00:00:00Z",
        &["04-05 01:45:00 +1100", "04-06 01:45:00 +1030"],
    ),
    (
        "*/15 * * * *",
        Zone::Australia__Lord_Howe,
        "2026-04-04T14:40:00Z",
        &["04-05 01:45:00 +1100", "04-05 01:30:00 +1030", "04-05 01:45:00 +1030", "04-05 02:00:00 +1030"],
    ),
    // Havana: 01:00 becomes 00:00, so midnight comes twice.
    ("@daily", Zone::America__Havana, "2026-10-31T12:00:00Z", &["11-01 00:00:00 -0400", "11-02 00:00:00 -0500"]),
];

#[test]
fn a_skipped_time_counts_once_at_the_first_moment_after_the_gap() {
    follow(&SPRING);
}

#[test]
fn a_repeated_time_counts_once_and_for_every_hour_both_times() {
    follow(&AUTUMN);
}

/// The same moments are found forwards, backwards and as a list.
fn follow(cases: &[Case]) {
    for (text, zone, after, expected) in cases {
        assert_eq!(nexts(text, *zone, after, expected.len()), *expected, "{text} in {zone} after {after}");
        let (expression, start) = (cron(text), at(after));
        let mut forwards = vec![expression.next(*zone, start).unwrap()];
        while forwards.len() < expected.len() {
            forwards.push(expression.next(*zone, *forwards.last().unwrap()).unwrap());
        }
        let end = *forwards.last().unwrap();
        assert_eq!(expression.between(*zone, start, end, 100), forwards, "{text} in {zone}, backwards");
        let late = end + chrono::TimeDelta::milliseconds(999);
        assert_eq!(expression.last(*zone, late), Some(end), "{text} in {zone}");
    }
}
