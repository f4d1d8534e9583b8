//! The falling test: has the success of a model fallen below the reference's minus the margin?
//!
//! Page's cumulative sum (Page 1954; optimal in delay by Moustakides 1986): for each attempt the logarithm of how
//! much likelier it is at the reference's success minus twice the margin than at the reference's, never less than 0
//! in sum. So it drifts down exactly while the model is above reference − margin, up below it, and where it last left
//! 0 is where the fall began. With the threshold h a model as good as the reference is taken back by mistake at most
//! once in e^h attempts on average (Lorden 1971), and in fact much more rarely. A fall by 10 points is seen after
//! about h ÷ 0.03 attempts: 165 at h = 5, success 92 %, a margin of 2 points and a reference of which 1,000 attempts
//! are known. Forgetting alone would need thousands: that is why there is a test of its own. A mistaken alarm costs
//! little, since the model only starts its ramp again.

use chrono::{DateTime, Utc};

use super::row::Row;

/// Nearer to certainty than this no reference is believed: one failure would be an alarm.
const SUCCESS_MAX: f64 = 0.99;

/// Lowest success that the test can tell something about.
const SUCCESS_MIN: f64 = 0.01;

/// A fall that was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fall {
    /// When it began: the first attempt of the rise of the sum.
    pub since: DateTime<Utc>,
    /// The sum now.
    pub statistic: f64,
    /// Attempts since it began.
    pub n: u64,
    /// Successes among them.
    pub successes: u64,
}

/// Looks at the attempts of a model, oldest first. `reference` is the success of the reference, estimated with care:
/// where it is too high by chance, models that are as good would be taken back.
pub(super) fn fallen(rows: &[Row], reference: f64, margin: f64, threshold: f64) -> Option<Fall> {
    let good = reference.min(SUCCESS_MAX);
    let bad = (good - 2.0 * margin).max(SUCCESS_MIN);
    if bad >= good {
        return None;
    }
    let (success, failure) = ((bad / good).ln(), ((1.0 - bad) / (1.0 - good)).ln());
    let mut sum = 0.0_f64;
    let mut fall: Option<Fall> = None;
    for row in rows.iter().filter(|row| row.outcome.is_quality()) {
        let won = row.reward() > 0.5;
        sum = (sum + if won { success } else { failure }).max(0.0);
        if sum == 0.0 {
            fall = None;
            continue;
        }
        let fall = fall.get_or_insert(Fall { since: row.completed_at, statistic: 0.0, n: 0, successes: 0 });
        fall.statistic = sum;
        fall.n += 1;
        fall.successes += u64::from(won);
    }
    fall.filter(|fall| fall.statistic >= threshold)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::workflow::Attempted;

    /// 92 % less the standard error of 1,000 attempts.
    const BAR: f64 = 0.9114;

    fn row(n: i64, success: bool) -> Row {
        Row {
            outcome: if success { Attempted::Success } else { Attempted::Failure },
            cost_nanousd: None,
            duration_ms: 1,
            completed_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(n),
            policy_version: None,
            propensity: None,
        }
    }

    /// After how many attempts a model of this success is taken back.
    fn delay(success: f64, most: i64, seed: u64) -> Option<i64> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let rows: Vec<_> = (0..most).map(|n| row(n, rng.random::<f64>() < success)).collect();
        // One pass: the sum at the end of each prefix is the sum of the whole at that place.
        (1..=most).step_by(10).find(|n| fallen(&rows[..*n as usize], BAR, 0.02, 5.0).is_some())
    }

    #[test]
    fn a_fall_by_ten_points_is_seen_soon_and_its_beginning_is_found() {
        let mut delays: Vec<i64> = (0..200).map(|seed| delay(0.82, 1_000, seed).unwrap_or(1_000)).collect();
        delays.sort_unstable();
        assert!((100..230).contains(&delays[100]), "{}", delays[100]);
        assert!(delays[190] < 350, "{}", delays[190]);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let rows: Vec<_> = (0..800).map(|n| row(n, rng.random::<f64>() < if n < 500 { 0.92 } else { 0.8 })).collect();
        let fall = fallen(&rows, BAR, 0.02, 5.0).unwrap();
        let began = fall.since.timestamp();
        assert!((450..560).contains(&began), "{began}");
        assert_eq!(i64::try_from(fall.n).unwrap(), 800 - began);
    }

    #[test]
    fn a_model_as_good_as_the_reference_stays() {
        let alarms = (0..100).filter(|seed| delay(0.92, 1_000, 1_000 + seed).is_some()).count();
        assert!(alarms <= 5, "{alarms} of 100 within 1,000 attempts");
    }

    #[test]
    fn infrastructure_is_no_fall_and_certainty_no_trap() {
        let rows: Vec<_> = (0..100).map(|n| Row { outcome: Attempted::Infrastructure, ..row(n, false) }).collect();
        assert_eq!(fallen(&rows, BAR, 0.02, 5.0), None);
        let two = [row(0, false), row(1, false)];
        assert_eq!(fallen(&two, 1.0, 0.02, 5.0), None);
        assert_eq!(fallen(&two, 0.01, 0.02, 5.0), None);
    }
}
