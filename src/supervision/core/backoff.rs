//! Waiting longer after each failed life of a child. OTP has none; it is off unless asked for.

use std::time::Duration;

/// Largest number of failures that still lengthens the wait.
const EXPONENT_MAX: u32 = 32;

/// Exponential backoff between the restarts of one child. Every attempt still counts against the intensity of its
/// supervisor, so choose a period that fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Longest wait after the first failure.
    pub min: Duration,
    /// Longest wait at all.
    pub max: Duration,
    /// By how much each further failure lengthens it. Default 2.
    pub factor: f64,
    /// A life at least this long makes the next failure the first again. Default: `max`.
    pub reset_after: Duration,
    /// Draw the wait evenly between nothing and its length ("full jitter"), so that a fleet does not restart in step.
    /// Default true.
    pub jitter: bool,
}

impl Backoff {
    /// From `min` doubling up to `max`, with jitter.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, factor: 2.0, reset_after: max, jitter: true }
    }

    /// The same without jitter.
    #[must_use]
    pub fn without_jitter(self) -> Self {
        Self { jitter: false, ..self }
    }

    /// Longest wait after `failures` failures in a row (1 is the first).
    pub fn ceiling(&self, failures: u32) -> Duration {
        let exponent = failures.saturating_sub(1).min(EXPONENT_MAX);
        let secs = self.min.as_secs_f64() * self.factor.powf(f64::from(exponent));
        Duration::try_from_secs_f64(secs).unwrap_or(self.max).min(self.max)
    }

    pub(crate) fn is_valid(&self) -> bool {
        !self.min.is_zero() && self.min <= self.max && self.factor.is_finite() && self.factor >= 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_maximum() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (1..=6).map(|failures| backoff.ceiling(failures).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.ceiling(u32::MAX).as_millis(), 1000);
    }
}
