//! What a queue is and does on this instance now, with the fields of Oban's `check_queue`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::pause::Pause;
use super::slots::QueueState;

/// A queue of this instance at one moment. Times are those of this machine's clock, as in Oban.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueCheck {
    /// Name of the queue.
    pub queue: String,
    /// Name of the Oban that this instance belongs to.
    pub name: String,
    /// Id of the instance, Oban's node.
    pub node: String,
    /// Identity of the producer; second element of `attempted_by` of its jobs.
    pub uuid: Uuid,
    /// Jobs that may run at once.
    pub limit: u32,
    /// Whether claiming is paused.
    pub paused: bool,
    /// Who paused it, where that is known.
    #[serde(default)]
    pub pause: Option<Pause>,
    /// Ids of the jobs that run or whose result is not stored yet, in rising order.
    pub running: Vec<i64>,
    /// Longest time between two looks at the table, in milliseconds: `poll_interval`.
    pub refresh_interval: u64,
    /// Least time between two claims, in milliseconds.
    pub dispatch_cooldown: u64,
    /// When the queue was started here.
    pub started_at: DateTime<Utc>,
    /// When it last looked at the table, or was changed.
    pub updated_at: DateTime<Utc>,
    /// Since when it stops: it claims no more and is gone when nothing of it runs.
    pub shutdown_started_at: Option<DateTime<Utc>>,
}

impl QueueState {
    /// What it is and does now, on the instance `node` of the Oban `name`.
    pub fn check(&self, name: &str, node: &str) -> QueueCheck {
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let times = self.times();
        QueueCheck {
            queue: self.name().to_owned(),
            name: name.to_owned(),
            node: node.to_owned(),
            uuid: self.producer(),
            limit: self.limit(),
            paused: self.is_paused(),
            pause: self.pause(),
            running: self.running_ids(),
            refresh_interval: millis(self.poll_interval()),
            dispatch_cooldown: millis(self.dispatch_cooldown()),
            started_at: times.started_at,
            updated_at: times.updated_at,
            shutdown_started_at: times.shutdown_started_at,
        }
    }
}
