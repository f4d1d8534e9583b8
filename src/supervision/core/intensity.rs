//! The window in which restarts are counted.

use std::collections::VecDeque;
use std::time::Duration;

use super::Intensity;

/// Times of the latest restarts of one supervisor; never more than `max_restarts + 1` of them.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    intensity: Intensity,
    times: VecDeque<Duration>,
}

impl Window {
    pub(crate) fn new(intensity: Intensity) -> Self {
        Self { intensity, times: VecDeque::new() }
    }

    /// Counts by other limits from now on; what was counted stays.
    pub(crate) fn set(&mut self, intensity: Intensity) {
        self.intensity = intensity;
    }

    /// Counts a restart at `now` and tells whether it is still allowed. A restart exactly `period` ago still counts, as
    /// in OTP.
    pub(crate) fn allows(&mut self, now: Duration) -> bool {
        self.times.push_back(now);
        while let Some(&oldest) = self.times.front()
            && now.saturating_sub(oldest) > self.intensity.period
        {
            self.times.pop_front();
        }
        self.times.len() <= self.intensity.max_restarts as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(max_restarts: u32, period_ms: u64, at_ms: &[u64]) -> Vec<bool> {
        let mut window = Window::new(Intensity { max_restarts, period: Duration::from_millis(period_ms) });
        at_ms.iter().map(|&ms| window.allows(Duration::from_millis(ms))).collect()
    }

    #[test]
    fn one_more_than_max_restarts_is_refused() {
        assert_eq!(allowed(3, 5_000, &[0, 1, 2, 3]), [true, true, true, false]);
    }

    #[test]
    fn a_restart_exactly_one_period_ago_still_counts() {
        assert_eq!(allowed(1, 5_000, &[0, 5_000]), [true, false]);
        assert_eq!(allowed(1, 5_000, &[0, 5_001]), [true, true]);
    }

    #[test]
    fn zero_allows_none() {
        assert_eq!(allowed(0, 5_000, &[7]), [false]);
    }

    #[test]
    fn s29_multiple_restarts_spread_wider_than_the_period_never_trip() {
        assert!(allowed(1, 1_000, &[0, 2_100, 4_200, 6_300, 8_400]).iter().all(|&allowed| allowed));
    }
}
