//! What is an expression, what each stands for, and what is said of all else.

use super::super::{Expression, Zone};
use super::{at, cron, nexts};
use crate::error::Coded;

/// Expressions, and their next moments after 2026-01-01 00:00:00 UTC, a Thursday, without year and offset.
const ACCEPTED: [(&str, &[&str]); 31] = [
    ("* * * * *", &["01-01 00:01:00", "01-01 00:02:00"]),
    ("30 4 * * *", &["01-01 04:30:00", "01-02 04:30:00"]),
    ("  5   0 *\t* * ", &["01-01 00:05:00"]),
    ("05 00 01 01 *", &["01-01 00:05:00"]),
    ("*/15 * * * *", &["01-01 00:15:00", "01-01 00:30:00", "01-01 00:45:00", "01-01 01:00:00"]),
    ("*/50 * * * *", &["01-01 00:50:00", "01-01 01:00:00"]),
    ("*/99 * * * *", &["01-01 01:00:00", "01-01 02:00:00"]),
    ("50/4 * * * *", &["01-01 00:50:00", "01-01 00:54:00", "01-01 00:58:00", "01-01 01:50:00"]),
    ("10-20/5 * * * *", &["01-01 00:10:00", "01-01 00:15:00", "01-01 00:20:00", "01-01 01:10:00"]),
    ("7,3,5-6 1 * * *", &["01-01 01:03:00", "01-01 01:05:00", "01-01 01:06:00", "01-01 01:07:00"]),
    ("0 0,12 * * *", &["01-01 12:00:00", "01-02 00:00:00"]),
    ("0 9-17/4 * * *", &["01-01 09:00:00", "01-01 13:00:00", "01-01 17:00:00", "01-02 09:00:00"]),
    ("0 0 31 * *", &["01-31 00:00:00", "03-31 00:00:00", "05-31 00:00:00"]),
    ("0 0 * * 0", &["01-04 00:00:00", "01-11 00:00:00"]),
    ("0 0 * * SAT", &["01-03 00:00:00", "01-10 00:00:00"]),
    ("0 0 * * MON-WED", &["01-05 00:00:00", "01-06 00:00:00", "01-07 00:00:00", "01-12 00:00:00"]),
    ("0 0 1 FEB,DEC *", &["02-01 00:00:00", "12-01 00:00:00"]),
    ("0 0 1 JAN-MAR/2 *", &["03-01 00:00:00", "01-01 00:00:00"]),
    // Day and weekday must both fit; other crons take either.
    ("0 0 13 * FRI", &["02-13 00:00:00", "03-13 00:00:00", "11-13 00:00:00"]),
    ("0 0 29 2 *", &["02-29 00:00:00"]),
    ("0 0 30,31 2,4 *", &["04-30 00:00:00"]),
    ("@annually", &["01-01 00:00:00"]),
    ("@yearly", &["01-01 00:00:00"]),
    ("@monthly", &["02-01 00:00:00", "03-01 00:00:00"]),
    ("@weekly", &["01-04 00:00:00"]),
    ("@midnight", &["01-02 00:00:00"]),
    ("@daily", &["01-02 00:00:00", "01-03 00:00:00"]),
    (" @hourly ", &["01-01 01:00:00", "01-01 02:00:00"]),
    ("@reboot", &[]),
    // The extension: seconds first.
    ("*/30 * * * * *", &["01-01 00:00:30", "01-01 00:01:00"]),
    ("15 30 4 * * *", &["01-01 04:30:15", "01-02 04:30:15"]),
];

#[test]
fn every_form_of_the_grammar_is_due_when_it_says() {
    for (text, expected) in ACCEPTED {
        let found = nexts(text, Zone::UTC, "2026-01-01T00:00:00Z", expected.len().max(1));
        let found: Vec<&str> = found.iter().map(|moment| &moment[..14]).collect();
        assert_eq!(found, expected, "{text}");
        let expression = cron(text);
        assert_eq!(expression.as_str(), text.trim());
        assert_eq!(expression.is_extended(), text.split_whitespace().count() == 6, "{text}");
        assert_eq!(expression.is_reboot(), text == "@reboot");
    }
}

/// What is refused: the text, its code, and a part of what is said.
const REFUSED: [(&str, &str, &str); 39] = [
    ("", "E0111", "has 0 fields"),
    ("* * * *", "E0111", "has 4 fields; allowed are five (minute hour day month weekday) or six"),
    ("* * * * * * *", "E0111", "has 7 fields"),
    ("daily", "E0111", "has 1 fields"),
    // Blanks that are none to every reader.
    ("0\u{a0}0\u{a0}*\u{a0}*\u{a0}*", "E0111", "has 1 fields"),
    ("@never", "E0112", "\"@never\" is not a nickname; there are @annually, @yearly, @monthly, @weekly"),
    ("@DAILY", "E0112", "is not a nickname"),
    ("@every 5m", "E0112", "is not a nickname"),
    ("60 * * * *", "E0113", "minute is \"60\"; allowed is *, 0 to 59"),
    ("-1 * * * *", "E0113", "minute is \"-1\""),
    ("* 24 * * *", "E0113", "hour is \"24\"; allowed is *, 0 to 23"),
    ("* * 0 * *", "E0113", "day is \"0\"; allowed is *, 1 to 31"),
    ("* * 32 * *", "E0113", "day is \"32\""),
    ("* * * 0 *", "E0113", "month is \"0\"; allowed is *, 1 to 12, JAN to DEC"),
    ("* * * 13 *", "E0113", "month is \"13\""),
    ("* * * * 7", "E0113", "weekday is \"7\"; allowed is *, 0 to 6, SUN to SAT"),
    ("* * * * FRI-SUN", "E0113", "weekday is \"FRI-SUN\"; allowed is a range that begins with its smaller end"),
    ("5-1 * * * *", "E0113", "minute is \"5-1\"; allowed is a range"),
    ("* * * jan *", "E0113", "month is \"jan\""),
    ("* * * * mon", "E0113", "weekday is \"mon\""),
    ("* * * MON *", "E0113", "month is \"MON\""),
    ("JAN * * * *", "E0113", "minute is \"JAN\""),
    ("*/0 * * * *", "E0113", "minute is \"*/0\"; allowed is a step from 1 to 99"),
    ("*/100 * * * *", "E0113", "a step from 1 to 99"),
    ("*/ * * * *", "E0113", "a step from 1 to 99"),
    ("*/2/3 * * * *", "E0113", "a step from 1 to 99"),
    ("/5 * * * *", "E0113", "minute is \"/5\""),
    ("1- * * * *", "E0113", "minute is \"1-\""),
    ("*-5 * * * *", "E0113", "minute is \"*-5\""),
    ("1,,2 * * * *", "E0113", "minute is \"\""),
    ("1.5 * * * *", "E0113", "minute is \"1.5\""),
    ("+5 * * * *", "E0113", "minute is \"+5\""),
    ("005 * * * *", "E0113", "minute is \"005\""),
    // Extensions of other crons.
    ("0 0 L * *", "E0113", "day is \"L\""),
    ("0 0 15W * *", "E0113", "day is \"15W\""),
    ("0 0 * * 5#2", "E0113", "weekday is \"5#2\""),
    ("0 0 ? * *", "E0113", "day is \"?\""),
    ("0 0 30 2 *", "E0114", "no month of \"2\" has a day of \"30\""),
    ("0 0 31 2,4,JUN,9,11 *", "E0114", "so it is never due"),
];

#[test]
fn everything_else_is_refused_with_field_value_and_what_is_allowed() {
    for (text, code, part) in REFUSED {
        let error = text.parse::<Expression>().unwrap_err();
        assert_eq!(error.code(), code, "{text:?}: {error}");
        assert!(error.to_string().contains(part), "{text:?}: {error}");
    }
    let long = format!("{} * * * *", "1,".repeat(400));
    assert_eq!(long.parse::<Expression>().unwrap_err().code(), "E0115");
}

#[test]
fn what_was_meant_is_suggested_where_it_is_known() {
    for (text, hint) in [
        ("* * * * 7", "write 0 or SUN for Sunday"),
        ("* * * jan *", "write JAN in capitals"),
        ("0 0 ? * *", "write * for any day"),
        ("5-1 * * * *", "write 1-5, or two ranges in a list"),
    ] {
        assert_eq!(text.parse::<Expression>().unwrap_err().hint().as_deref(), Some(hint), "{text}");
    }
}

#[test]
fn zones_have_the_names_of_the_database() {
    assert_eq!(super::super::zone("Europe/Berlin"), Ok(Zone::Europe__Berlin));
    assert_eq!(super::super::zone(super::super::ZONE_DEFAULT), Ok(Zone::Etc__UTC));
    for bad in ["", "Berlin", "europe/berlin", "CEST", "+02:00", "Europe/Berlin "] {
        assert_eq!(super::super::zone(bad).unwrap_err().code(), "E0116", "{bad}");
    }
}

#[test]
fn the_rarest_day_is_found_in_both_directions() {
    // 29 February is a Monday in 2044, and was one in 2016 before.
    let rare = cron("0 0 29 2 MON");
    assert_eq!(rare.next(Zone::UTC, at("2026-01-01T00:00:00Z")), Some(at("2044-02-29T00:00:00Z")));
    assert_eq!(rare.last(Zone::UTC, at("2026-01-01T00:00:00Z")), Some(at("2016-02-29T00:00:00Z")));
    // Around 2100, which has no such day, forty years pass.
    assert_eq!(rare.next(Zone::UTC, at("2072-02-29T00:00:00Z")), Some(at("2112-02-29T00:00:00Z")));
    assert_eq!(rare.last(Zone::UTC, at("2112-02-28T00:00:00Z")), Some(at("2072-02-29T00:00:00Z")));
}

#[test]
fn between_gives_the_newest_in_order_and_both_ends_are_as_told() {
    let (hourly, zone) = (cron("@hourly"), Zone::UTC);
    let (from, to) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T05:00:00Z"));
    let hours = |moments: Vec<chrono::DateTime<chrono::Utc>>| {
        moments.iter().map(|at| at.format("%H").to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(hours(hourly.between(zone, from, to, 10)), "01 02 03 04 05");
    assert_eq!(hours(hourly.between(zone, from, to, 2)), "04 05");
    assert_eq!(hours(hourly.between(zone, to, from, 10)), "");
    assert_eq!(hours(hourly.between(zone, from, from, 10)), "");
}
