//! What is ordered of queues: pause, resume, scale, start, stop. The words are Oban's, and so are the signals that
//! carry them from instance to instance, whatever they are written in.

use super::error::QueueError;
use super::new_job::NAME_CHARS_MAX;
use crate::postgres::notifier::message::{IDENT_ANY, QUEUE_ANY, Signal};

/// Largest limit of a queue, as in `actors.toml`.
pub const LIMIT_MAX: u32 = 10_000;

/// An order about one queue, or about all with `*` where that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueOrder {
    /// Claim no more. Running jobs go on.
    Pause {
        /// Queue, or `*`.
        queue: String,
    },
    /// Claim again.
    Resume {
        /// Queue, or `*`.
        queue: String,
    },
    /// Change the limit. Running jobs above a lowered one go on.
    Scale {
        /// Queue.
        queue: String,
        /// Jobs that run at once on an instance; 1 to 10,000.
        limit: u32,
    },
    /// Start a queue that does not run there; nothing is changed where it does.
    Start {
        /// Queue.
        queue: String,
        /// Jobs that run at once on an instance; 1 to 10,000.
        limit: u32,
        /// Start without claiming.
        paused: bool,
    },
    /// Stop a queue: no more claims, and it is gone when its jobs have ended.
    Stop {
        /// Queue.
        queue: String,
    },
}

impl QueueOrder {
    /// What a signal orders; `None` when it is about a job.
    pub fn of(signal: &Signal) -> Option<Self> {
        Some(match signal.clone() {
            Signal::Pause { queue, .. } => Self::Pause { queue },
            Signal::Resume { queue, .. } => Self::Resume { queue },
            Signal::Scale { queue, limit, .. } => Self::Scale { queue, limit },
            Signal::Start { queue, limit, paused, .. } => Self::Start { queue, limit, paused },
            Signal::Stop { queue, .. } => Self::Stop { queue },
            Signal::Pkill { .. } => return None,
        })
    }

    /// The signal with this order for `ident`: [`IDENT_ANY`], or what [`ident`] makes.
    pub fn signal(&self, ident: &str) -> Signal {
        let ident = Some(ident.to_owned());
        match self.clone() {
            Self::Pause { queue } => Signal::Pause { queue, ident },
            Self::Resume { queue } => Signal::Resume { queue, ident },
            Self::Scale { queue, limit } => Signal::Scale { queue, ident, limit },
            Self::Start { queue, limit, paused } => Signal::Start { queue, ident, limit, paused },
            Self::Stop { queue } => Signal::Stop { queue, ident },
        }
    }

    /// Its word, as in the command line and in the history of an instance.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Scale { .. } => "scale",
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
        }
    }

    /// The queue, or `*`.
    pub fn queue(&self) -> &str {
        match self {
            Self::Pause { queue }
            | Self::Resume { queue }
            | Self::Scale { queue, .. }
            | Self::Start { queue, .. }
            | Self::Stop { queue } => queue,
        }
    }

    /// Whether it is about this queue.
    pub fn is_about(&self, queue: &str) -> bool {
        self.queue() == queue || self.queue() == QUEUE_ANY
    }

    /// Checks what nobody who is sent it may check.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] for the name, for `*` where one queue must be named, and for the limit.
    pub fn check(&self) -> Result<(), QueueError> {
        let invalid = |field, value: &str, allowed| QueueError::Invalid {
            field,
            value: value.chars().take(200).collect(),
            allowed,
        };
        let queue = self.queue();
        let one = !matches!(self, Self::Pause { .. } | Self::Resume { .. });
        if one && queue == QUEUE_ANY {
            return Err(invalid("queue", queue, "the name of one queue; only pause and resume can be for all"));
        }
        let chars = queue.chars().count();
        if chars == 0 || chars > NAME_CHARS_MAX || queue.chars().any(|c| c.is_control() || c == '"') {
            return Err(invalid("queue", queue, "1 to 127 characters without quotes and control characters"));
        }
        match self {
            Self::Scale { limit, .. } | Self::Start { limit, .. } if !(1..=LIMIT_MAX).contains(limit) => {
                Err(invalid("limit", &limit.to_string(), "a number from 1 to 10000"))
            }
            // A queue is an actor here, and its name part of the actor's path.
            Self::Start { queue, .. } if queue.contains('/') || queue.len() > NAME_CHARS_MAX => {
                Err(invalid("queue", queue, "at most 127 bytes without / for a queue that starts"))
            }
            _ => Ok(()),
        }
    }
}

/// Whom a signal is for: one instance, by the name of its Oban and its id.
pub fn ident(oban: &str, instance_id: &str) -> String {
    format!("{oban}.{instance_id}")
}

/// `ident` of a signal for one instance, or for all.
pub fn ident_of(oban: &str, instance_id: Option<&str>) -> String {
    instance_id.map_or_else(|| IDENT_ANY.to_owned(), |id| ident(oban, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(queue: &str, limit: u32) -> [QueueOrder; 5] {
        let queue = || queue.to_owned();
        [
            QueueOrder::Pause { queue: queue() },
            QueueOrder::Resume { queue: queue() },
            QueueOrder::Scale { queue: queue(), limit },
            QueueOrder::Start { queue: queue(), limit, paused: true },
            QueueOrder::Stop { queue: queue() },
        ]
    }

    /// Elixir makes atoms of keys that must exist, and crashes on others: not one key more may be sent.
    #[test]
    fn signals_are_exactly_those_of_oban() {
        let golden = [
            r#"{"action":"pause","queue":"default","ident":"any"}"#,
            r#"{"action":"resume","queue":"default","ident":"any"}"#,
            r#"{"action":"scale","queue":"default","ident":"any","limit":7}"#,
            r#"{"action":"start","queue":"default","ident":"any","limit":7,"paused":true}"#,
            r#"{"action":"stop","queue":"default","ident":"any"}"#,
        ];
        for (order, golden) in orders("default", 7).iter().zip(golden) {
            let signal = order.signal(&ident_of("Oban", None));
            assert_eq!(serde_json::to_string(&signal).unwrap(), golden);
            assert_eq!(QueueOrder::of(&signal).as_ref(), Some(order));
        }
        let one = orders("*", 7)[0].signal(&ident_of("My.Oban", Some("host:7")));
        assert_eq!(serde_json::to_string(&one).unwrap(), r#"{"action":"pause","queue":"*","ident":"My.Oban.host:7"}"#);
        assert_eq!(QueueOrder::of(&Signal::Pkill { job_id: 1 }), None);
    }

    #[test]
    fn what_no_instance_could_obey_is_not_sent() {
        let good = |order: &QueueOrder| order.check().is_ok();
        assert!(orders("default", 1).iter().chain(&orders("Mailers.v2", LIMIT_MAX)).all(good));
        assert_eq!(orders("*", 1).map(|order| good(&order)), [true, true, false, false, false]);
        assert_eq!(orders("a/b", 1).map(|order| good(&order)), [true, true, true, false, true]);
        for limit in [0, LIMIT_MAX + 1] {
            assert_eq!(orders("a", limit).map(|order| good(&order)), [true, true, false, false, true]);
        }
        for queue in ["", "a\"b", "a\nb", &"q".repeat(128)] {
            assert!(!orders(queue, 1).iter().any(good), "{queue:?}");
        }
    }
}
