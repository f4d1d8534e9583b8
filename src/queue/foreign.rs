//! What this instance remembers of foreign nodes: which it saw or heard, when, and whether one of them stages.
//!
//! A memory, because nodes of another runtime that are all restarted are silent for a while, and an instance that led
//! meanwhile would stop their periodic jobs when they are back. Kept by the `peer`, told by whoever hears the channel
//! `sonar`, read by the `stager`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::role::{Foreigner, Sight};

/// Nodes that are remembered; of more, one is enough to know.
const NODES_MAX: usize = 256;
/// Longest name of a node that is remembered, in characters.
const NODE_CHARS_MAX: usize = 255;

/// The memory. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Foreign {
    memory: Duration,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Nodes that were heard since the last look and may be ours.
    heard: BTreeMap<String, Instant>,
    last: Option<(Foreigner, Instant)>,
    /// Until when a foreign leader stages every queue.
    stages_until: Option<Instant>,
    /// The one that leads in Elixir's table, and since when it was seen to.
    leading: Option<(String, Instant)>,
}

impl Foreign {
    /// A memory that lasts this long.
    pub fn new(memory: Duration) -> Self {
        Self { memory, seen: Arc::default() }
    }

    /// A node said that it is there; whether it was not known to be.
    pub fn hear(&self, node: &str) -> bool {
        let (mut seen, now) = (self.lock(), Instant::now());
        let known = seen.heard.insert(node.chars().take(NODE_CHARS_MAX).collect(), now).is_some();
        while seen.heard.len() > NODES_MAX {
            seen.heard.pop_first();
        }
        !known
    }

    /// Nodes that were heard lately.
    pub fn heard(&self) -> Vec<String> {
        let (mut seen, now) = (self.lock(), Instant::now());
        seen.heard.retain(|_, at| now.duration_since(*at) < self.memory);
        seen.heard.keys().cloned().collect()
    }

    /// A look at the tables that was begun at `begun` found these.
    pub fn saw(&self, found: &[Foreigner], begun: Instant) {
        let mut seen = self.lock();
        let elixir = found.iter().filter_map(|foreigner| match foreigner.sight {
            Sight::LeadsElixir(left) => Some((left, &foreigner.node)),
            Sight::LeadsPython(_) | Sight::WorksPython | Sight::Heard | Sight::Gone => None,
        });
        let elixir = elixir.max();
        seen.stages_until = elixir.map(|(left, _)| begun + left);
        let since =
            |node: &String| seen.leading.as_ref().filter(|(known, _)| known == node).map_or(begun, |(_, at)| *at);
        seen.leading = elixir.map(|(_, node)| (node.clone(), since(node)));
        // A leader says more than one that was only heard.
        let Some(best) = found.iter().max_by_key(|foreigner| foreigner.sight.lease()) else {
            if let Some((last, _)) = &mut seen.last {
                last.sight = Sight::Gone;
            }
            return;
        };
        let at = match best.sight {
            Sight::Heard => seen.heard.get(&best.node).copied().unwrap_or(begun),
            Sight::LeadsElixir(_) | Sight::LeadsPython(_) | Sight::WorksPython | Sight::Gone => begun,
        };
        seen.last = Some((best.clone(), at));
    }

    /// The foreign node that was seen last, while it is remembered, and for how long it still is.
    pub fn last(&self) -> Option<(Foreigner, Duration)> {
        let seen = self.lock();
        let (foreigner, at) = seen.last.as_ref()?;
        let left = (*at + self.memory).saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (foreigner.clone(), left))
    }

    /// Whether a node of another runtime is there, or was lately.
    pub fn is_there(&self) -> bool {
        self.last().is_some()
    }

    /// The Elixir node that leads, if it has been there for the whole memory and was never heard: its notices go
    /// another way than through the database, so neither side hears the other, and only looks at the table remain.
    pub fn silent(&self) -> Option<String> {
        let seen = self.lock();
        let (node, at) = seen.leading.as_ref()?;
        (at.elapsed() >= self.memory && !seen.heard.contains_key(node)).then(|| node.clone())
    }

    /// Whether a leader of Oban for Elixir is there, which stages all queues. Oban for Python stages its own alone.
    pub fn stages(&self) -> bool {
        self.lock().stages_until.is_some_and(|until| Instant::now() < until)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreigner(sight: Sight) -> Foreigner {
        Foreigner { node: "a@b".into(), sight }
    }

    #[tokio::test(start_paused = true)]
    async fn a_foreign_node_is_remembered_after_its_lease_and_forgotten_after_the_memory() {
        let foreign = Foreign::new(Duration::from_secs(120));
        assert!(foreign.last().is_none() && !foreign.stages());
        foreign.saw(&[foreigner(Sight::LeadsElixir(Duration::from_secs(30)))], Instant::now());
        assert!(foreign.stages());
        tokio::time::advance(Duration::from_secs(31)).await;
        foreign.saw(&[], Instant::now());
        assert!(!foreign.stages());
        let (last, left) = foreign.last().unwrap();
        assert_eq!((last.to_string().as_str(), left), ("a@b was there lately", Duration::from_secs(89)));
        tokio::time::advance(Duration::from_secs(89)).await;
        assert!(foreign.last().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_heard_counts_from_when_it_was_heard_and_only_when_it_is_not_ours() {
        let foreign = Foreign::new(Duration::from_secs(120));
        assert!(foreign.hear("a@b") && !foreign.hear("a@b"));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(foreign.last().is_none(), "it may be ours");
        foreign.saw(&[foreigner(Sight::Heard)], Instant::now());
        assert_eq!(foreign.last().map(|(_, left)| left), Some(Duration::from_secs(20)));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(foreign.heard().is_empty() && foreign.last().is_none());
        assert!(foreign.hear("a@b"), "news again");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_leader_in_elixirs_table_stages_all_queues() {
        let foreign = Foreign::new(Duration::from_secs(120));
        for sight in [Sight::LeadsPython(Duration::from_secs(30)), Sight::WorksPython, Sight::Heard] {
            foreign.saw(&[foreigner(sight)], Instant::now());
            assert!(!foreign.stages(), "{sight:?}");
        }
    }

    /// Hazard of notifiers that do not use the database.
    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_never_heard_is_silent_after_the_memory() {
        let foreign = Foreign::new(Duration::from_secs(120));
        let look = || foreign.saw(&[foreigner(Sight::LeadsElixir(Duration::from_secs(30)))], Instant::now());
        look();
        tokio::time::advance(Duration::from_secs(119)).await;
        look();
        assert_eq!(foreign.silent(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(foreign.silent().as_deref(), Some("a@b"));
        foreign.hear("a@b");
        assert_eq!(foreign.silent(), None);
        foreign.saw(&[], Instant::now());
        tokio::time::advance(Duration::from_secs(500)).await;
        assert_eq!((foreign.heard().len(), foreign.silent()), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded() {
        let foreign = Foreign::new(Duration::from_secs(120));
        for n in 0..1_000 {
            foreign.hear(&format!("node-{n}"));
        }
        assert_eq!(foreign.heard().len(), NODES_MAX);
    }
}
