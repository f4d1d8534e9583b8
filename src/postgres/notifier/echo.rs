//! Whether what is sent arrives: an instance sends to itself and waits for it. Pure; the caller gives the time.
//!
//! A connection can be healthy and deaf: a proxy that pools transactions accepts LISTEN, answers every test and never
//! delivers a notification. Only a notification shows that notifications arrive.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Time between two echoes while they arrive.
pub const EVERY: Duration = Duration::from_secs(30);
/// Time between two while they do not.
pub const RETRY: Duration = Duration::from_secs(5);
/// An echo that did not arrive within this is lost.
pub const LIMIT: Duration = Duration::from_secs(3);

/// What is known about the ears of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// It does not listen, or its first echo is under way.
    Unknown,
    /// The last echo arrived.
    Heard,
    /// The last echo was sent and did not arrive.
    Silent,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Whose it is.
    pub instance: String,
    /// Which one.
    pub number: u64,
}

/// The state of the echo.
#[derive(Debug)]
pub struct Echo {
    hearing: Hearing,
    /// The number that is waited for.
    awaited: Option<u64>,
    /// When the next step is due; `None` while nobody listens.
    due_at: Option<Instant>,
    number: u64,
}

impl Default for Echo {
    fn default() -> Self {
        Self { hearing: Hearing::Unknown, awaited: None, due_at: None, number: 0 }
    }
}

impl Echo {
    /// What is known.
    pub fn hearing(&self) -> Hearing {
        self.hearing
    }

    /// When [`Echo::due`] is to be called.
    pub fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    /// Listening began: an echo is due now.
    pub fn begin(&mut self, now: Instant) {
        (self.hearing, self.awaited, self.due_at) = (Hearing::Unknown, None, Some(now));
    }

    /// Nobody listens.
    pub fn end(&mut self) {
        (self.hearing, self.awaited, self.due_at) = (Hearing::Unknown, None, None);
    }

    /// The next step: the number of an echo to send, or `None` when one was just found to be lost or nothing is due.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        if self.due_at.is_none_or(|due| now < due) {
            return None;
        }
        if self.awaited.take().is_some() {
            self.hearing = Hearing::Silent;
            self.due_at = Some(now + (RETRY - LIMIT));
            return None;
        }
        self.number += 1;
        self.awaited = Some(self.number);
        self.due_at = Some(now + LIMIT);
        Some(self.number)
    }

    /// The echo that is under way could not be sent, which says nothing about hearing.
    pub fn not_sent(&mut self, now: Instant) {
        if self.awaited.take().is_some() {
            self.due_at = Some(now + RETRY);
        }
    }

    /// An echo of ours arrived.
    pub fn heard(&mut self, number: u64, now: Instant) {
        // One that comes late shows just as well that notifications arrive, but an earlier connection's does not.
        if self.due_at.is_some() && number == self.number {
            (self.hearing, self.awaited, self.due_at) = (Hearing::Heard, None, Some(now + EVERY));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_hears_itself_asks_rarely() {
        let (mut echo, begin) = (Echo::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!((echo.due(at(0)), echo.due_at()), (None, None), "nobody listens");
        echo.begin(at(0));
        assert_eq!((echo.due(at(0)), echo.hearing()), (Some(1), Hearing::Unknown));
        echo.heard(1, at(1));
        assert_eq!((echo.hearing(), echo.due_at()), (Hearing::Heard, Some(at(31))));
        assert_eq!((echo.due(at(30)), echo.due(at(31))), (None, Some(2)));
        assert_eq!(echo.hearing(), Hearing::Heard, "until it is known to be lost");
        echo.heard(1, at(32));
        assert_eq!(echo.due_at(), Some(at(34)), "an old one says nothing");
    }

    #[test]
    fn one_that_does_not_is_silent_until_it_does() {
        let (mut echo, begin) = (Echo::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        echo.begin(at(0));
        assert_eq!(echo.due(at(0)), Some(1));
        assert_eq!((echo.due(at(3)), echo.hearing()), (None, Hearing::Silent));
        assert_eq!(echo.due(at(5)), Some(2));
        assert_eq!((echo.due(at(8)), echo.hearing()), (None, Hearing::Silent));
        echo.heard(2, at(9));
        assert_eq!(echo.hearing(), Hearing::Heard, "late is heard too");
        echo.end();
        assert_eq!((echo.hearing(), echo.due_at()), (Hearing::Unknown, None));
        echo.heard(2, at(10));
        assert_eq!(echo.hearing(), Hearing::Unknown, "of a connection that is gone");
    }

    #[test]
    fn a_database_that_is_away_says_nothing_about_hearing() {
        let (mut echo, now) = (Echo::default(), Instant::now());
        echo.begin(now);
        assert_eq!(echo.due(now), Some(1));
        echo.not_sent(now);
        assert_eq!((echo.hearing(), echo.due_at()), (Hearing::Unknown, Some(now + RETRY)));
        assert_eq!(echo.due(now + RETRY), Some(2));
    }

    #[test]
    fn golden() {
        let ping = Ping { instance: "worker-1.4711".into(), number: 7 };
        assert_eq!(serde_json::to_string(&ping).unwrap(), r#"{"instance":"worker-1.4711","number":7}"#);
    }
}
