//! Since when a heartbeat stands still, by the clock of the process that looks.
//!
//! The database's clock says how old a heartbeat is, and it can jump: a resumed virtual machine, a corrected clock, a
//! standby that takes over and is ahead. After a jump every heartbeat looks stale at once, also of instances that work.
//! So nobody is declared dead for the age of a heartbeat alone: whoever declares it must have seen the same heartbeat
//! for a while, in which a living instance writes another. Where someone looks all the time that costs no delay.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use uuid::Uuid;

/// Share of an instance's `stale_after` for which its heartbeat must have stood still: a heartbeat at least, because
/// `stale_after` is three or more.
const STILL_SHARE: u32 = 3;

/// Heartbeats as they were seen, by incarnation.
#[derive(Debug, Default)]
pub struct Sightings {
    seen: HashMap<Uuid, Sighting>,
}

#[derive(Debug, Clone, Copy)]
struct Sighting {
    heartbeat: DateTime<Utc>,
    since: Instant,
}

impl Sightings {
    /// Takes in what the registry says at `now`; instances that it does not name are forgotten. Returns which of them
    /// have shown the same heartbeat for long enough to be dead, if it is stale.
    pub(super) fn look(
        &mut self,
        rows: impl IntoIterator<Item = (Uuid, DateTime<Utc>, Duration)>,
        now: Instant,
    ) -> Vec<Uuid> {
        let before = std::mem::take(&mut self.seen);
        let mut still = Vec::new();
        for (incarnation, heartbeat, stale_after) in rows {
            let sighting = before.get(&incarnation).copied().filter(|seen| seen.heartbeat == heartbeat);
            let sighting = sighting.unwrap_or(Sighting { heartbeat, since: now });
            if now.saturating_duration_since(sighting.since) >= stale_after / STILL_SHARE {
                still.push(incarnation);
            }
            self.seen.insert(incarnation, sighting);
        }
        still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE_AFTER: Duration = Duration::from_secs(30);

    #[test]
    fn only_a_heartbeat_that_was_seen_standing_still_is_one_of_the_dead() {
        let (mut sightings, incarnation, start) = (Sightings::default(), Uuid::now_v7(), Instant::now());
        let mut look = |heartbeat: i64, seconds: u64| {
            let heartbeat = DateTime::from_timestamp(heartbeat, 0).unwrap();
            let rows = [(incarnation, heartbeat, STALE_AFTER)];
            !sightings.look(rows, start + Duration::from_secs(seconds)).is_empty()
        };
        assert!(!look(0, 0), "seen for the first time");
        assert!(!look(0, 9));
        assert!(look(0, 10));
        assert!(!look(5, 11), "it lives");
        assert!(!look(5, 20));
        assert!(look(5, 21));
        // Another clock is as good as a beat: the instance shows in its own time whether it lives.
        assert!(!look(-3_600, 22));
        assert!(sightings.look([], start).is_empty());
        assert!(sightings.seen.is_empty(), "who left is forgotten");
    }
}
