//! Random expressions in random zones against a slow oracle: it writes down every local minute of some days, asks the
//! zone what moments these are, and applies the rule to each.

use std::collections::BTreeSet;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use proptest::prelude::*;

use super::super::Zone;
use super::{at, cron};

/// Zones with changes at night, at midnight, by half an hour, southern ones, and without any.
const ZONES: [Zone; 12] = [
    Zone::UTC,
    Zone::Europe__Berlin,
    Zone::Europe__London,
    Zone::America__New_York,
    Zone::America__Havana,
    Zone::America__Santiago,
    Zone::Asia__Beirut,
    Zone::Asia__Kathmandu,
    Zone::Africa__Casablanca,
    Zone::Africa__Cairo,
    Zone::Australia__Lord_Howe,
    Zone::Antarctica__Troll,
];

/// Days on which the clocks of some of these are changed, and two without.
const DAYS: [&str; 14] = [
    "2026-03-08",
    "2026-03-29",
    "2026-10-25",
    "2026-11-01",
    "2026-04-05",
    "2026-10-04",
    "2026-09-06",
    "2026-04-24",
    "2026-10-30",
    "2026-02-15",
    "2026-03-22",
    "2026-07-01",
    "2024-02-29",
    "2026-12-31",
];

/// Zones with a day on which their clocks are changed.
const CHANGES: [(Zone, &str); 12] = [
    (Zone::Europe__Berlin, "2026-03-29"),
    (Zone::Europe__Berlin, "2026-10-25"),
    (Zone::America__New_York, "2026-03-08"),
    (Zone::America__New_York, "2026-11-01"),
    (Zone::Australia__Lord_Howe, "2026-04-05"),
    (Zone::Australia__Lord_Howe, "2026-10-04"),
    (Zone::America__Havana, "2026-03-08"),
    (Zone::America__Havana, "2026-11-01"),
    (Zone::America__Santiago, "2026-09-06"),
    (Zone::Asia__Beirut, "2026-03-29"),
    (Zone::Africa__Cairo, "2026-04-24"),
    (Zone::Africa__Casablanca, "2026-03-22"),
];

/// Mostly a day with a change.
fn zone_and_day() -> impl Strategy<Value = (Zone, &'static str)> {
    let any = (prop::sample::select(&ZONES[..]), prop::sample::select(&DAYS[..]));
    prop_oneof![3 => prop::sample::select(&CHANGES[..]), 1 => any]
}

/// Often one of the hours that are skipped or come twice.
fn hour() -> impl Strategy<Value = (String, Vec<u32>)> {
    prop_oneof![(0..4_u32).prop_map(|n| (n.to_string(), vec![n])), field(0, 23)]
}

fn field(min: u32, max: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
    let all = (Just("*".to_owned()), Just((min..=max).collect::<Vec<_>>()));
    let one = (min..=max).prop_map(|n| (n.to_string(), vec![n]));
    let two = (min..=max, min..=max).prop_map(|(a, b)| (format!("{a},{b}"), vec![a, b]));
    let range = (min..=max, min..=max, 1..6_usize).prop_map(|(a, b, step)| {
        let (a, b) = (a.min(b), a.max(b));
        (format!("{a}-{b}/{step}"), (a..=b).step_by(step).collect())
    });
    let step = (1..30_usize).prop_map(move |step| (format!("*/{step}"), (min..=max).step_by(step).collect()));
    prop_oneof![2 => all, 2 => one, 1 => two, 1 => range, 1 => step]
}

/// Every moment of the expression from two days before to two days after noon of `day`, by the letter of the rule.
fn slowly(fields: &[Vec<u32>; 3], zone: Zone, day: NaiveDateTime) -> BTreeSet<DateTime<Utc>> {
    let [minutes, hours, weekdays] = fields;
    let every_hour = (0..24).all(|hour| hours.contains(&hour));
    let fits = |local: &NaiveDateTime| {
        use chrono::Datelike;
        minutes.contains(&local.minute())
            && hours.contains(&local.hour())
            && weekdays.contains(&local.weekday().num_days_from_sunday())
    };
    let minute = TimeDelta::minutes(1);
    let first = day - TimeDelta::days(3);
    let locals = std::iter::successors(Some(first), |local| Some(*local + minute)).take(6 * 1440);
    let mut moments = BTreeSet::new();
    for local in locals.filter(fits) {
        match zone.from_local_datetime(&local) {
            MappedLocalTime::Single(at) => drop(moments.insert(at.to_utc())),
            MappedLocalTime::Ambiguous(a, b) => {
                moments.insert(a.min(b).to_utc());
                if every_hour {
                    moments.insert(a.max(b).to_utc());
                }
            }
            MappedLocalTime::None if every_hour => {}
            MappedLocalTime::None => {
                let mut later = local;
                while zone.from_local_datetime(&later).earliest().is_none() {
                    later += minute;
                }
                moments.insert(zone.from_local_datetime(&later).earliest().unwrap().to_utc());
            }
        }
    }
    moments
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn moments_are_those_of_the_oracle_in_both_directions(
        minute in field(0, 59), hour in hour(), weekday in field(0, 6),
        (zone, day) in zone_and_day(), start in 0..1440_i64,
    ) {
        let text = format!("{} {} * * {}", minute.0, hour.0, weekday.0);
        let expression = cron(&text);
        let noon = at(&format!("{day}T12:00:00Z")).naive_utc();
        let from = noon.and_utc() - TimeDelta::days(1) + TimeDelta::minutes(start);
        let to = noon.and_utc() + TimeDelta::days(1);
        let expected: Vec<_> = slowly(&[minute.1, hour.1, weekday.1], zone, noon)
            .into_iter().filter(|at| *at > from && *at <= to).collect();
        let forwards: Vec<_> = std::iter::successors(expression.next(zone, from), |at| expression.next(zone, *at))
            .take_while(|at| *at <= to).collect();
        prop_assert_eq!(&forwards, &expected, "{} in {} after {}", text, zone, from);
        let backwards = expression.between(zone, from, to, usize::MAX);
        prop_assert_eq!(&backwards, &expected, "{} in {} until {}", text, zone, to);
    }

    #[test]
    fn next_lies_ahead_last_does_not_and_nothing_lies_between(
        second in field(0, 59), minute in field(0, 59), hour in field(0, 23),
        day in field(1, 31), month in field(1, 12),
        zone in prop::sample::select(&ZONES[..]), now in 0..4_102_444_800_000_i64,
    ) {
        let text = format!("{} {} {} {} {} *", second.0, minute.0, hour.0, day.0, month.0);
        let expression = match text.parse::<super::super::Expression>() {
            Ok(expression) => expression,
            Err(error) => {
                prop_assert!(matches!(error, super::super::CronError::Never { .. }), "{}: {}", text, error);
                return Ok(());
            }
        };
        let now = DateTime::from_timestamp_millis(now).unwrap();
        let (next, last) = (expression.next(zone, now).unwrap(), expression.last(zone, now).unwrap());
        prop_assert!(next > now && last <= now, "{} in {}: {} {} {}", text, zone, last, now, next);
        prop_assert_eq!(expression.last(zone, next), Some(next));
        prop_assert_eq!(expression.last(zone, next - TimeDelta::seconds(1)), Some(last));
        prop_assert_eq!(expression.next(zone, last), Some(next));
    }

    #[test]
    fn no_text_panics(text in "[-*/,0-9A-Z@?#LW a-z\t]{0,40}|\\PC{0,40}") {
        drop(text.parse::<super::super::Expression>());
        drop(super::super::zone(&text));
    }
}
