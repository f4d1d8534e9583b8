//! How long a failed job waits for its next attempt: Oban's formula.

use std::time::Duration;

use rand::{Rng, RngExt};

/// Attempts at which the unclamped exponent is used; above, the ratio of attempts is mapped onto this range.
const CLAMP_ATTEMPTS: i32 = 20;
/// Shortest wait before jitter, in seconds.
const BASE_SECONDS: u64 = 15;
/// Largest exponent. Oban says 100; 2^40 s is longer than 30,000 years, and stays within the range of timestamps.
const EXPONENT_MAX: u32 = 40;
/// Jitter adds up to this share of the wait, so that jobs that failed together do not return together.
const JITTER: f64 = 0.1;

/// Wait after attempt number `attempt` of `max_attempts` failed: `t + trunc(r × 0.1 × t)` seconds with `t = 15 + 2^k`.
///
/// `k` is the attempt, or where more than 20 attempts are allowed the attempt's share of them on a scale of 20, rounded
/// half away from zero (as Oban for Elixir; Oban for Python rounds half to even).
pub fn backoff(attempt: i32, max_attempts: i32, rng: &mut impl Rng) -> Duration {
    let exponent = if max_attempts <= CLAMP_ATTEMPTS {
        attempt
    } else {
        (f64::from(attempt) / f64::from(max_attempts) * f64::from(CLAMP_ATTEMPTS)).round() as i32
    };
    let exponent = u32::try_from(exponent).unwrap_or(0).min(EXPONENT_MAX);
    let seconds = BASE_SECONDS + (1_u64 << exponent);
    let jitter = (rng.random::<f64>() * JITTER * seconds as f64).trunc() as u64;
    Duration::from_secs(seconds + jitter)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    /// Bounds of the table in Oban's own documentation of the formula.
    #[test]
    fn stays_within_the_published_bounds() {
        let bounds =
            [(1, 17, 18), (2, 19, 20), (3, 23, 25), (4, 31, 34), (5, 47, 51), (10, 1039, 1142), (15, 32783, 36061)];
        let mut rng = StdRng::seed_from_u64(7);
        for (attempt, low, high) in bounds {
            for _ in 0..200 {
                let wait = backoff(attempt, 20, &mut rng).as_secs();
                assert!((low..=high).contains(&wait), "attempt {attempt}: {wait} s");
            }
        }
    }

    #[test]
    fn maps_many_attempts_onto_twenty_rounding_half_away_from_zero() {
        let mut rng = StdRng::seed_from_u64(7);
        assert_eq!(backoff(1, 40, &mut rng).as_secs(), 17, "1 of 40 is 0.5, which rounds to 1");
        assert!(backoff(100, 100, &mut rng) >= backoff(20, 20, &mut rng).mul_f64(0.9));
    }

    #[test]
    fn survives_numbers_that_only_a_foreign_row_can_have() {
        let mut rng = StdRng::seed_from_u64(7);
        assert_eq!(backoff(-5, 20, &mut rng).as_secs(), 16);
        assert!(backoff(i32::MAX, 20, &mut rng) < Duration::from_secs(3_000_000_000_000));
    }
}
