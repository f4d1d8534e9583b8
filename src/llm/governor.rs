//! How fast a provider or a model is called: token buckets for requests and tokens. Pure: the clock is an argument.
//!
//! A bucket holds what may be used at once and refills all the time. A call that would have to wait for a moment takes
//! its place in line and is told how long; one that would wait longer takes nothing and is told when to come back. What
//! a call really used is settled afterwards, so a wrong guess is a debt or a credit of the next ones.

use std::time::Duration;

use crate::config::Limits;

/// The share of a minute that may be used at once: ten seconds. Providers measure over less than a minute, so a whole
/// minute's worth at once would be refused by them.
const BURST_SHARE: f64 = 1.0 / 6.0;
const MINUTE_SECS: f64 = 60.0;

/// One limit. `level` may be negative: then others wait for what was promised already.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    capacity: f64,
    per_second: f64,
    level: f64,
    at: Duration,
    /// Nothing before, whatever the level is: calls under way give back what they do not use.
    not_before: Duration,
}

impl Bucket {
    fn new(per_minute: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
        let per_minute = per_minute as f64;
        // One call at least can always be let through.
        let capacity = (per_minute * BURST_SHARE).max(1.0);
        Self {
            capacity,
            per_second: per_minute / MINUTE_SECS,
            level: capacity,
            at: Duration::ZERO,
            not_before: Duration::ZERO,
        }
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.at);
        self.level = (self.level + elapsed.as_secs_f64() * self.per_second).min(self.capacity);
        self.at = self.at.max(now);
    }

    /// How long until a call of this size may begin. One that is larger than the bucket waits for a full one.
    fn wait(&self, size: f64) -> Duration {
        let missing = size.min(self.capacity) - self.level;
        let refilled = if missing <= 0.0 { Duration::ZERO } else { seconds(missing / self.per_second) };
        refilled.max(self.not_before.saturating_sub(self.at))
    }

    /// Nothing more until `wait` from now, and then as from an empty bucket.
    fn empty_for(&mut self, wait: Duration) {
        self.level = self.level.min(-wait.as_secs_f64() * self.per_second);
        self.not_before = self.not_before.max(self.at.saturating_add(wait));
    }
}

/// A day is as good as for ever.
fn seconds(secs: f64) -> Duration {
    Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX).min(Duration::from_secs(86_400))
}

/// The limits of one provider or one model.
#[derive(Debug)]
pub(crate) struct Governor {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

impl Governor {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            requests: limits.requests_per_minute.map(Bucket::new),
            tokens: limits.tokens_per_minute.map(Bucket::new),
        }
    }

    /// How long a call with so many tokens would wait, and the limit that it waits for.
    fn wait(&mut self, tokens: f64, now: Duration) -> (Duration, &'static str) {
        let mut longest = (Duration::ZERO, "");
        for (bucket, size, name) in
            [(&mut self.requests, 1.0, "requests_per_minute"), (&mut self.tokens, tokens, "tokens_per_minute")]
        {
            let Some(bucket) = bucket else { continue };
            bucket.refill(now);
            longest = longest.max((bucket.wait(size), name));
        }
        longest
    }

    fn take(&mut self, requests: f64, tokens: f64) {
        for (bucket, size) in [(&mut self.requests, requests), (&mut self.tokens, tokens)] {
            if let Some(bucket) = bucket {
                bucket.level = (bucket.level - size).min(bucket.capacity);
            }
        }
    }

    /// The provider says that it is too much, and when to come back.
    pub(crate) fn slow_down(&mut self, wait: Duration, now: Duration) {
        for bucket in [&mut self.requests, &mut self.tokens].into_iter().flatten() {
            bucket.refill(now);
            bucket.empty_for(wait);
        }
    }
}

/// Why a call is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slow {
    /// When to come back.
    pub(crate) wait: Duration,
    /// Index of the governor that says so.
    pub(crate) governor: usize,
    /// The limit.
    pub(crate) limit: &'static str,
}

/// Lets a call with about so many tokens pass all of `governors`, or none. Returns how long it waits before it begins,
/// which is not longer than `patience`; its place is taken then.
pub(crate) fn admit(
    governors: &mut [&mut Governor],
    tokens: u64,
    now: Duration,
    patience: Duration,
) -> Result<Duration, Slow> {
    let tokens = as_size(tokens);
    let mut slowest = Slow { wait: Duration::ZERO, governor: 0, limit: "" };
    for (governor, each) in governors.iter_mut().enumerate() {
        let (wait, limit) = each.wait(tokens, now);
        if wait > slowest.wait {
            slowest = Slow { wait, governor, limit };
        }
    }
    if slowest.wait > patience {
        return Err(slowest);
    }
    governors.iter_mut().for_each(|each| each.take(1.0, tokens));
    Ok(slowest.wait)
}

/// After a call: it was guessed to use `guessed` tokens, used `used`, and was `sent` or not.
pub(crate) fn settle(governors: &mut [&mut Governor], guessed: u64, used: u64, sent: bool) {
    let requests = if sent { 0.0 } else { -1.0 };
    governors.iter_mut().for_each(|each| each.take(requests, as_size(used) - as_size(guessed)));
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are far above every limit")]
fn as_size(tokens: u64) -> f64 {
    tokens as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(2);

    fn governor(requests: Option<u64>, tokens: Option<u64>) -> Governor {
        Governor::new(&Limits { requests_per_minute: requests, tokens_per_minute: tokens })
    }

    #[test]
    fn a_burst_passes_then_the_pace_holds() {
        let mut one = governor(Some(60), None);
        let mut admit = |now| admit(&mut [&mut one], 0, now, PATIENCE);
        for _ in 0..10 {
            assert_eq!(admit(SECOND), Ok(Duration::ZERO));
        }
        // The next two take places in line, a second apart; the third would wait too long and takes none.
        assert_eq!(admit(SECOND), Ok(SECOND));
        assert_eq!(admit(SECOND), Ok(2 * SECOND));
        let slow = Slow { wait: 3 * SECOND, governor: 0, limit: "requests_per_minute" };
        assert_eq!(admit(SECOND), Err(slow));
        assert_eq!(admit(SECOND), Err(slow));
        assert_eq!(admit(2 * SECOND), Ok(2 * SECOND));
        assert_eq!(admit(100 * SECOND), Ok(Duration::ZERO));
    }

    #[test]
    fn a_call_passes_all_or_takes_nothing() {
        let (mut provider, mut model) = (governor(Some(6), None), governor(None, Some(600)));
        let mut both = [&mut provider, &mut model];
        assert_eq!(admit(&mut both, 100, SECOND, PATIENCE), Ok(Duration::ZERO));
        // The provider's one request is used up: the model's tokens stay.
        let slow = admit(&mut both, 100, SECOND, PATIENCE).unwrap_err();
        assert_eq!((slow.wait, slow.governor, slow.limit), (10 * SECOND, 0, "requests_per_minute"));
        assert_eq!(admit(&mut both, 100, 11 * SECOND, PATIENCE), Ok(Duration::ZERO));
    }

    #[test]
    fn a_call_that_is_larger_than_the_bucket_passes_and_others_wait_for_it() {
        let mut one = governor(None, Some(600));
        assert_eq!(admit(&mut [&mut one], 6_000, SECOND, PATIENCE), Ok(Duration::ZERO));
        // 100 at once, 10 a second: 5,900 of debt and the 1 that is asked for.
        let slow = admit(&mut [&mut one], 1, SECOND, PATIENCE).unwrap_err();
        assert_eq!((slow.wait, slow.limit), (Duration::from_millis(590_100), "tokens_per_minute"));
    }

    #[test]
    fn what_was_used_counts_and_not_what_was_guessed() {
        let mut one = governor(Some(60), Some(600));
        assert_eq!(admit(&mut [&mut one], 100, SECOND, PATIENCE), Ok(Duration::ZERO));
        settle(&mut [&mut one], 100, 20, true);
        assert_eq!(admit(&mut [&mut one], 80, SECOND, PATIENCE), Ok(Duration::ZERO));
        settle(&mut [&mut one], 80, 130, true);
        assert_eq!(admit(&mut [&mut one], 10, SECOND, Duration::ZERO).unwrap_err().wait, 6 * SECOND);
        // A call that was not sent used nothing, not even a request.
        let mut one = governor(Some(6), None);
        assert_eq!(admit(&mut [&mut one], 0, SECOND, PATIENCE), Ok(Duration::ZERO));
        settle(&mut [&mut one], 0, 0, false);
        assert_eq!(admit(&mut [&mut one], 0, SECOND, PATIENCE), Ok(Duration::ZERO));
    }

    #[test]
    fn a_refusal_of_the_provider_holds_for_as_long_as_it_asks() {
        let mut one = governor(Some(600), None);
        one.slow_down(7 * SECOND, SECOND);
        let slow = admit(&mut [&mut one], 0, SECOND, PATIENCE).unwrap_err();
        assert_eq!(slow.wait, Duration::from_millis(7_100));
        assert!(admit(&mut [&mut one], 0, 9 * SECOND, PATIENCE).is_ok());
        // Calls that were under way give back what they did not use, and the pause holds all the same.
        let mut one = governor(None, Some(30_000));
        assert!(admit(&mut [&mut one], 4_000, SECOND, PATIENCE).is_ok());
        one.slow_down(7 * SECOND, SECOND);
        settle(&mut [&mut one], 4_000, 100, true);
        assert_eq!(admit(&mut [&mut one], 10, SECOND, PATIENCE).unwrap_err().wait, 7 * SECOND);
        assert!(admit(&mut [&mut one], 10, 8 * SECOND, Duration::ZERO).is_ok());
        let mut unlimited = governor(None, None);
        unlimited.slow_down(7 * SECOND, SECOND);
        assert_eq!(admit(&mut [&mut unlimited], 9, SECOND, Duration::ZERO), Ok(Duration::ZERO));
    }

    proptest! {
        /// Whatever comes when, no minute has more than its limit and the burst.
        #[test]
        fn no_minute_has_more_than_its_limit(gaps in prop::collection::vec(0_u64..3_000, 1..400), limit in 1_u64..300) {
            let mut one = governor(Some(limit), None);
            let mut now = Duration::ZERO;
            let mut begun: Vec<Duration> = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if let Ok(wait) = admit(&mut [&mut one], 0, now, PATIENCE) {
                    prop_assert!(wait <= PATIENCE);
                    begun.push(now + wait);
                }
            }
            let burst = (limit as f64 * BURST_SHARE).max(1.0);
            for (index, first) in begun.iter().enumerate() {
                let in_minute = begun[index..].iter().filter(|at| **at < *first + Duration::from_secs(60)).count();
                prop_assert!(in_minute as f64 <= limit as f64 + burst + 1e-6, "{in_minute} of {limit}");
            }
        }
    }
}
