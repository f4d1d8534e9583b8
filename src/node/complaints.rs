//! Says that a payload could not be read, once for each kind and minute: whoever can connect can send as many as they
//! like.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::postgres::notifier::message::Undecodable;

/// Time between two reports of one kind on one channel.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// What was reported. Bounded: channels are those that are listened on, kinds are few.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeMap<(String, &'static str), Told>);

#[derive(Debug)]
struct Told {
    at: Instant,
    unsaid: u64,
}

impl Complaints {
    /// Whether this one is to be reported now; if so, how many of its kind were passed over since the last report.
    fn due(&mut self, channel: &str, kind: &'static str, now: Instant) -> Option<u64> {
        if let Some(told) = self.0.get_mut(&(channel.to_owned(), kind)) {
            if now.duration_since(told.at) < REPORT_EVERY {
                told.unsaid = told.unsaid.saturating_add(1);
                return None;
            }
            told.at = now;
            return Some(std::mem::take(&mut told.unsaid));
        }
        self.0.insert((channel.to_owned(), kind), Told { at: now, unsaid: 0 });
        Some(0)
    }

    /// Reports that a payload of `channel` could not be read, unless that was just said.
    pub(super) fn report(&mut self, channel: &str, error: &Undecodable) {
        if let Some(unsaid) = self.due(channel, error.kind(), Instant::now()) {
            tracing::warn!(
                target: "postgres", channel, %error, more_since_last_report = unsaid,
                "a notice could not be read; everything that it may concern is looked at"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_each_kind_once_a_minute_and_counts_the_rest() {
        let (mut complaints, begin) = (Complaints::default(), Instant::now());
        let seconds = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(complaints.due("insert", "json", seconds(0)), Some(0));
        for second in 0..60 {
            assert_eq!(complaints.due("insert", "json", seconds(second)), None);
        }
        assert_eq!(complaints.due("insert", "size", seconds(1)), Some(0), "another kind");
        assert_eq!(complaints.due("signal", "json", seconds(1)), Some(0), "another channel");
        assert_eq!(complaints.due("insert", "json", seconds(60)), Some(60));
        assert_eq!(complaints.due("insert", "json", seconds(61)), None);
        assert_eq!(complaints.due("insert", "json", seconds(200)), Some(1));
    }
}
