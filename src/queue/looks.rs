//! One look at the table for the polls of all queues.
//!
//! Notices can be lost, so each producer polls. Asked one by one, a node with many queues that have nothing to do would
//! be a load on the server; so polls fall due at the same moments, and whoever comes first asks for all. Nobody need
//! ask while the stager runs as often: its statement finds what is available, and it wakes the producers itself.

use std::collections::HashSet;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::engine::Engine;
use super::error::QueueError;
use super::queues::Queues;

/// An answer counts for all who ask within this part of their poll interval.
const FRESH_PART: u32 = 10;

/// How long a queue waits for the answer that another one has asked for.
const LOOK_PATIENCE: Duration = Duration::from_millis(250);

/// What the queues of an instance know of the table. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Looks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    engine: Engine,
    queues: Queues,
    origin: Instant,
    last: Mutex<Option<Look>>,
    staged: std::sync::Mutex<Option<Sweep>>,
}

#[derive(Debug)]
struct Look {
    at: Instant,
    asked: Vec<String>,
    found: HashSet<String>,
}

/// When the queues of which jobs were available have been woken.
#[derive(Debug)]
struct Sweep {
    at: Instant,
    /// Those that were looked at; all without a list.
    queues: Option<Vec<String>>,
}

impl Looks {
    /// Looks for these queues, as they are at each.
    pub fn new(engine: Engine, queues: Queues) -> Self {
        Self(Arc::new(Shared {
            engine,
            queues,
            origin: Instant::now(),
            last: Mutex::default(),
            staged: Default::default(),
        }))
    }

    /// Tells that producers of those among `queues`, or of all without a list, that had available jobs at `at` have
    /// been woken.
    pub fn have_been_woken(&self, at: Instant, queues: Option<Vec<String>>) {
        *self.staged() = Some(Sweep { at, queues });
    }

    /// Whether a producer should look for jobs of `queue`: some are available, as of at most a tenth of `interval`
    /// ago, and it was not woken for what was available within the interval.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn has_jobs(&self, queue: &str, interval: Duration) -> Result<bool, QueueError> {
        let shared = &*self.0;
        let is_woken = |sweep: &Sweep| {
            sweep.at.elapsed() < interval
                && sweep.queues.as_ref().is_none_or(|queues| queues.iter().any(|name| name == queue))
        };
        if self.staged().as_ref().is_some_and(is_woken) {
            return Ok(false);
        }
        // Who waits longer than that finds out by claiming, on a connection of its own.
        let Ok(mut last) = tokio::time::timeout(LOOK_PATIENCE, shared.last.lock()).await else { return Ok(true) };
        if let Some(look) = &*last
            && look.at.elapsed() < interval / FRESH_PART
            && look.asked.iter().any(|asked| asked == queue)
        {
            return Ok(look.found.contains(queue));
        }
        *last = None;
        let mut asked = shared.queues.names();
        if !asked.iter().any(|name| name == queue) {
            asked.push(queue.to_owned());
        }
        let at = Instant::now();
        let found: HashSet<String> = shared.engine.waiting(&asked).await?.into_iter().collect();
        let answer = found.contains(queue);
        *last = Some(Look { at, asked, found });
        Ok(answer)
    }

    fn staged(&self) -> MutexGuard<'_, Option<Sweep>> {
        self.0.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time until the next poll of queues with this interval: the same moment for all of them.
    pub fn until_next(&self, interval: Duration) -> Duration {
        let millis = interval.as_millis().max(1);
        let past = self.0.origin.elapsed().as_millis() % millis;
        Duration::from_millis(u64::try_from(millis - past).unwrap_or(u64::MAX))
    }
}
