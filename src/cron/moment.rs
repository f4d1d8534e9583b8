//! The moments of an expression in a zone, forwards and backwards.
//!
//! The time line of a zone is made of stretches with one offset each. Inside a stretch local time is plain arithmetic,
//! so each is searched by itself, and the changes between them are looked at where a search comes across one.

use chrono::{DateTime, Datelike, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone};
use chrono::{Timelike, Utc};

use super::Zone;
use super::expression::{Due, Expression};

/// Years that a search looks at: a 29 February on a given weekday comes after forty years at the latest.
const YEARS_MAX: i32 = 41;
/// Two changes of a zone's offset are never closer than this.
const STRETCH_MIN: TimeDelta = TimeDelta::hours(12);
const SECOND: TimeDelta = TimeDelta::seconds(1);

impl Expression {
    /// The first moment after `after` at which it is due in `zone`; always a whole second. `None` for `@reboot`.
    ///
    /// Where clocks are changed, an expression that names hours is due once for each of its times a day: a time that is
    /// skipped counts at the first moment after the gap, and one that comes twice counts the first time. An expression
    /// for every hour goes on with the time that really passes: it is due in both of two equal hours, and not for times
    /// that are skipped. This is the rule of Vixie cron; Oban leaves out skipped times and repeats those that come
    /// twice.
    pub fn next(&self, zone: Zone, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let due = self.due.as_ref()?;
        let mut from = whole(after)?.checked_add_signed(SECOND)?;
        if due.is_due_in_gap(zone, from) {
            return Some(from.and_utc());
        }
        loop {
            let offset = offset(zone, from);
            let local = due.first_from(from.checked_add_signed(offset)?)?;
            let at = local.checked_sub_signed(offset)?;
            match first_change(zone, from, at) {
                None if due.is_repetition(zone, local, at) => from = at.checked_add_signed(SECOND)?,
                None => return Some(at.and_utc()),
                Some(change) => {
                    if due.is_due_in_gap(zone, change) {
                        return Some(change.and_utc());
                    }
                    from = change;
                }
            }
        }
    }

    /// The last moment, not after `until`, at which it was due in `zone`, by the same rule as [`Expression::next`].
    pub fn last(&self, zone: Zone, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let due = self.due.as_ref()?;
        let mut until = whole(until)?;
        loop {
            let offset = offset(zone, until);
            let local = due.last_to(until.checked_add_signed(offset)?)?;
            let at = local.checked_sub_signed(offset)?;
            match last_change(zone, at, until) {
                None if due.is_repetition(zone, local, at) => until = at.checked_sub_signed(SECOND)?,
                None => return Some(at.and_utc()),
                Some(change) => {
                    if due.is_due_in_gap(zone, change) {
                        return Some(change.and_utc());
                    }
                    until = change.checked_sub_signed(SECOND)?;
                }
            }
        }
    }

    /// Every moment after `after` and not after `until`, in order; of more than `max` the newest.
    pub fn between(&self, zone: Zone, after: DateTime<Utc>, until: DateTime<Utc>, max: usize) -> Vec<DateTime<Utc>> {
        let newest = self.last(zone, until);
        let backwards = std::iter::successors(newest, |at| self.last(zone, *at - SECOND));
        let mut moments: Vec<_> = backwards.take_while(|at| *at > after).take(max).collect();
        moments.reverse();
        moments
    }
}

impl Due {
    /// The first local time from `from` on that fits.
    fn first_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let (mut date, mut time) = (from.date(), from.time());
        let year_max = date.year() + YEARS_MAX;
        while date.year() <= year_max {
            if !self.months.has(date.month()) {
                date = NaiveDate::from_ymd_opt(date.year(), date.month(), 1)?
                    .checked_add_months(chrono::Months::new(1))?;
                time = NaiveTime::MIN;
                continue;
            }
            if self.has_day(date)
                && let Some(found) = self.first_time(time)
            {
                return Some(date.and_time(found));
            }
            (date, time) = (date.succ_opt()?, NaiveTime::MIN);
        }
        None
    }

    /// The last local time up to `to` that fits.
    fn last_to(&self, to: NaiveDateTime) -> Option<NaiveDateTime> {
        let day_end = NaiveTime::from_hms_opt(23, 59, 59)?;
        let (mut date, mut time) = (to.date(), to.time());
        let year_min = date.year() - YEARS_MAX;
        while date.year() >= year_min {
            if !self.months.has(date.month()) {
                date = NaiveDate::from_ymd_opt(date.year(), date.month(), 1)?.pred_opt()?;
                time = day_end;
                continue;
            }
            if self.has_day(date)
                && let Some(found) = self.last_time(time)
            {
                return Some(date.and_time(found));
            }
            (date, time) = (date.pred_opt()?, day_end);
        }
        None
    }

    fn has_day(&self, date: NaiveDate) -> bool {
        self.days.has(date.day()) && self.weekdays.has(date.weekday().num_days_from_sunday())
    }

    /// The first time of a day from `from` on.
    fn first_time(&self, from: NaiveTime) -> Option<NaiveTime> {
        let (hour, minute) = (from.hour(), from.minute());
        let in_hour = |hour, minute, second| {
            let same = self.minutes.has(minute).then(|| self.seconds.first_from(second)).flatten();
            let (minute, second) = match same {
                Some(second) => (minute, second),
                None => (self.minutes.first_from(minute + 1)?, self.seconds.first_from(0)?),
            };
            NaiveTime::from_hms_opt(hour, minute, second)
        };
        let here = self.hours.has(hour).then(|| in_hour(hour, minute, from.second())).flatten();
        here.or_else(|| {
            let hour = self.hours.first_from(hour + 1)?;
            NaiveTime::from_hms_opt(hour, self.minutes.first_from(0)?, self.seconds.first_from(0)?)
        })
    }

    /// The last time of a day up to `to`.
    fn last_time(&self, to: NaiveTime) -> Option<NaiveTime> {
        let (hour, minute) = (to.hour(), to.minute());
        let in_hour = |hour, minute: u32, second| {
            let same = self.minutes.has(minute).then(|| self.seconds.last_to(second)).flatten();
            let (minute, second) = match same {
                Some(second) => (minute, second),
                None => (self.minutes.last_to(minute.checked_sub(1)?)?, self.seconds.last_to(59)?),
            };
            NaiveTime::from_hms_opt(hour, minute, second)
        };
        let here = self.hours.has(hour).then(|| in_hour(hour, minute, to.second())).flatten();
        here.or_else(|| {
            let hour = self.hours.last_to(hour.checked_sub(1)?)?;
            NaiveTime::from_hms_opt(hour, self.minutes.last_to(59)?, self.seconds.last_to(59)?)
        })
    }

    /// Whether `at` is the second time that clocks show `local`, and the first counted already.
    fn is_repetition(&self, zone: Zone, local: NaiveDateTime, at: NaiveDateTime) -> bool {
        if self.every_hour {
            return false;
        }
        match zone.offset_from_local_datetime(&local) {
            MappedLocalTime::Ambiguous(a, b) => {
                let first = local - seconds(&a).max(seconds(&b));
                at > first
            }
            MappedLocalTime::Single(_) | MappedLocalTime::None => false,
        }
    }

    /// Whether a time that clocks skip at `change` counts there.
    fn is_due_in_gap(&self, zone: Zone, change: NaiveDateTime) -> bool {
        let (before, after) = (offset(zone, change - SECOND), offset(zone, change));
        !self.every_hour && self.first_from(change + before).is_some_and(|local| local < change + after)
    }
}

/// Without parts of a second; in UTC.
fn whole(at: DateTime<Utc>) -> Option<NaiveDateTime> {
    at.naive_utc().with_nanosecond(0)
}

fn seconds(offset: &impl Offset) -> TimeDelta {
    TimeDelta::seconds(offset.fix().local_minus_utc().into())
}

/// What clocks in `zone` show beyond UTC.
fn offset(zone: Zone, at: NaiveDateTime) -> TimeDelta {
    seconds(&zone.offset_from_utc_datetime(&at))
}

/// The first moment after `from`, up to `until`, at which the offset is another than just before.
fn first_change(zone: Zone, from: NaiveDateTime, until: NaiveDateTime) -> Option<NaiveDateTime> {
    let (mut low, before) = (from, offset(zone, from));
    while low < until {
        let high = until.min(low + STRETCH_MIN);
        if offset(zone, high) != before {
            return Some(bisect(zone, low, high));
        }
        low = high;
    }
    None
}

/// The last moment after `from`, up to `until`, at which the offset is another than just before.
fn last_change(zone: Zone, from: NaiveDateTime, until: NaiveDateTime) -> Option<NaiveDateTime> {
    let (mut high, after) = (until, offset(zone, until));
    while high > from {
        let low = from.max(high - STRETCH_MIN);
        if offset(zone, low) != after {
            return Some(bisect(zone, low, high));
        }
        high = low;
    }
    None
}

/// The change between `low` and `high`, whose offsets differ: the first second of the new offset.
fn bisect(zone: Zone, mut low: NaiveDateTime, mut high: NaiveDateTime) -> NaiveDateTime {
    let before = offset(zone, low);
    while high - low > SECOND {
        let middle = low + TimeDelta::seconds((high - low).num_seconds() / 2);
        if offset(zone, middle) == before {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}
