//! Snapshots of the live tree, for people and for `--json`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::core::{ChildId, Path, Restart, Strategy, names};
use super::lock::lock;
use super::mailbox::MailboxStats;
use super::probe::{ExitRecord, Facts, Probe, Supervising, millis};

/// Most children of one node that a snapshot shows; the others are only counted.
pub const TREE_CHILDREN_MAX: usize = 1_000;

/// One node of the tree at one moment, with what is below it: at most [`TREE_CHILDREN_MAX`] children a node. Times in
/// milliseconds are measured on the monotonic clock, `started_at` and `at` on the wall clock. What most nodes of a
/// large tree do not have is kept apart, so that they stay small, and is read as if it stood here; see [`NodeExtra`].
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct TreeNode {
    /// Id among its siblings.
    pub id: ChildId,
    /// Place in the tree; the root is `/`.
    pub path: Path,
    /// What it is.
    pub kind: NodeKind,
    /// Short type name of the actor; empty before the first start.
    pub actor: Cow<'static, str>,
    /// What it is doing.
    pub state: NodeState,
    /// Its restart type.
    pub restart: Restart,
    /// The current life, or the last one.
    pub incarnation: u64,
    /// When this life began; absent while none runs.
    pub started_at: Option<DateTime<Utc>>,
    /// How long this life lasts; 0 while none runs.
    pub uptime_ms: u64,
    /// How often it was restarted automatically.
    pub restarts_total: u64,
    /// Only workers, while they run.
    pub mailbox: Option<MailboxNode>,
    /// Absent when it would say nothing; as JSON its fields stand among the others in any case.
    #[serde(flatten, with = "extra")]
    extra: Option<Box<NodeExtra>>,
}

/// What supervisors, busy workers, labelled ones and those that ended before have more than other nodes; a part of
/// [`TreeNode`], which gives it by `Deref`.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct NodeExtra {
    /// Only static supervisors.
    pub strategy: Option<Strategy>,
    /// Only supervisors: restarts of children that count now.
    pub restarts_in_window: u32,
    /// Only supervisors: how many restarts the window allows.
    pub restart_limit: Option<u32>,
    /// Only supervisors: the window, in milliseconds.
    pub restart_period_ms: Option<u64>,
    /// When its pending restart is due, if it waits for one.
    pub retry_at: Option<DateTime<Utc>>,
    /// Its latest end.
    pub last_exit: Option<LastExit>,
    /// Kind of the message being handled.
    pub current_message: Option<Cow<'static, str>>,
    /// How long it has been handling it.
    pub busy_ms: Option<u64>,
    /// Labels of its spec and of its probe.
    pub labels: BTreeMap<String, String>,
    /// How many children there are, those included that are not shown.
    #[serde(default)]
    pub children_total: usize,
    /// How many children are in each state, those included that are not shown.
    #[serde(default)]
    pub children_by_state: BTreeMap<NodeState, usize>,
    /// The first children in start order, at most [`TREE_CHILDREN_MAX`].
    pub children: Vec<TreeNode>,
}

/// The latest end of a child.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct LastExit {
    /// Why, as text.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Where in the source, for panics.
    pub location: Option<String>,
    /// How long that life was.
    pub lived_ms: u64,
}

/// A mailbox at one moment.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct MailboxNode {
    /// Messages waiting.
    pub depth: usize,
    /// Messages that may wait.
    pub limit: usize,
    /// How long the oldest has been waiting.
    pub oldest_ms: Option<u64>,
    /// Messages taken out by this incarnation.
    pub processed: u64,
}

/// What a node is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A static supervisor.
    Supervisor,
    /// A dynamic supervisor.
    DynamicSupervisor,
    /// A supervisor of partitions.
    PartitionSupervisor,
    /// An actor that supervises nobody.
    Worker,
}

/// What a node is doing.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Its start is under way.
    Starting,
    /// It runs.
    Running,
    /// It runs, but an operator made it stop taking messages.
    Suspended,
    /// Its supervisor is stopping it.
    Stopping,
    /// It ended and waits to be restarted.
    Restarting,
    /// It was killed but does not end.
    Zombie,
    /// It does not run and will not by itself.
    Stopped,
}

static NO_EXTRA: NodeExtra = NodeExtra {
    strategy: None,
    restarts_in_window: 0,
    restart_limit: None,
    restart_period_ms: None,
    retry_at: None,
    last_exit: None,
    current_message: None,
    busy_ms: None,
    labels: BTreeMap::new(),
    children_total: 0,
    children_by_state: BTreeMap::new(),
    children: Vec::new(),
};

impl Deref for TreeNode {
    type Target = NodeExtra;

    fn deref(&self) -> &NodeExtra {
        self.extra.as_deref().unwrap_or(&NO_EXTRA)
    }
}

/// Nodes without extras are written with those that say nothing.
mod extra {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{NO_EXTRA, NodeExtra};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(extra: &Option<Box<NodeExtra>>, serializer: S) -> Result<S::Ok, S::Error> {
        extra.as_deref().unwrap_or(&NO_EXTRA).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<NodeExtra>>, D::Error> {
        NodeExtra::deserialize(deserializer).map(Box::new).map(Some)
    }
}

impl TreeNode {
    /// The node at `path` in this tree.
    pub fn find(&self, path: &str) -> Option<&TreeNode> {
        if self.path.as_str() == path {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(path))
    }

    /// How many nodes are shown, this one included.
    pub fn count(&self) -> usize {
        1 + self.children.iter().map(Self::count).sum::<usize>()
    }
}

impl Probe {
    /// This node and what is below it, now; of more than [`TREE_CHILDREN_MAX`] children the first ones.
    pub fn snapshot(&self) -> TreeNode {
        self.snapshot_at(Instant::now())
    }

    fn snapshot_at(&self, now: Instant) -> TreeNode {
        let facts = lock(&self.facts);
        let alive = matches!(facts.state, NodeState::Running | NodeState::Stopping | NodeState::Zombie);
        let started = facts.started.filter(|_| alive);
        let mailbox = facts.mailbox.as_ref().map(|mailbox| mailbox.stats());
        let mut node = TreeNode {
            // Shared with the probe: a snapshot of many nodes copies no text.
            id: self.id.clone(),
            path: self.path.clone(),
            kind: self.kind,
            actor: Cow::Borrowed(facts.actor),
            state: facts.shown_state(mailbox.as_ref()),
            restart: facts.restart,
            incarnation: facts.incarnation.0,
            started_at: started.map(|(at, _)| at),
            uptime_ms: started.map_or(0, |(_, since)| millis(now.saturating_duration_since(since))),
            restarts_total: self.restarts_total(),
            mailbox: mailbox.map(|stats| MailboxNode {
                depth: stats.depth,
                limit: stats.limit,
                oldest_ms: stats.oldest.map(millis),
                processed: stats.processed,
            }),
            extra: self.extra(&facts, now),
        };
        drop(facts);
        if let Some(extra) = &mut node.extra
            && extra.children_total > 0
        {
            self.snapshot_children(extra, now);
        }
        node
    }

    /// What few nodes have, yet without the children.
    fn extra(&self, facts: &Facts, now: Instant) -> Option<Box<NodeExtra>> {
        let busy = self.busy();
        let children_total = self.children_total();
        let retry_at = facts.retry_at.filter(|_| facts.state == NodeState::Restarting);
        let supervising = facts.supervising.as_deref();
        let last_exit = facts.history.back();
        let idle = busy.is_none() && retry_at.is_none() && last_exit.is_none() && !facts.has_labels();
        if idle && supervising.is_none() && children_total == 0 {
            return None;
        }
        let counts = |supervising: &Supervising| {
            let period = supervising.intensity.period;
            let recent = supervising.restarts.iter().filter(|at| now.saturating_duration_since(**at) <= period);
            u32::try_from(recent.count()).unwrap_or(u32::MAX)
        };
        Some(Box::new(NodeExtra {
            strategy: supervising.and_then(|supervising| supervising.strategy),
            restarts_in_window: supervising.map_or(0, counts),
            restart_limit: supervising.map(|supervising| supervising.intensity.max_restarts),
            restart_period_ms: supervising.map(|supervising| millis(supervising.intensity.period)),
            retry_at,
            last_exit: last_exit.map(LastExit::of),
            current_message: busy.map(|(kind, _)| Cow::Borrowed(kind)),
            busy_ms: busy.map(|(_, since)| millis(now.saturating_duration_since(since))),
            labels: facts.labels(),
            children_total,
            children_by_state: BTreeMap::new(),
            children: Vec::new(),
        }))
    }

    fn snapshot_children(&self, extra: &mut NodeExtra, now: Instant) {
        let NodeExtra { children, children_total, children_by_state: states, .. } = extra;
        children.reserve_exact((*children_total).min(TREE_CHILDREN_MAX));
        let mut next = self.look_at_children(0, TREE_CHILDREN_MAX, |child| {
            let child = child.snapshot_at(now);
            *states.entry(child.state).or_default() += 1;
            children.push(child);
        });
        while let Some(from) = next {
            next = self.look_at_children(from, TREE_CHILDREN_MAX, |child| {
                let facts = lock(&child.facts);
                let state = facts.shown_state(facts.mailbox.as_ref().map(|mailbox| mailbox.stats()).as_ref());
                *states.entry(state).or_default() += 1;
            });
        }
        // Some may have come or gone since they were counted.
        *children_total = states.values().sum();
    }
}

impl LastExit {
    fn of(exit: &ExitRecord) -> Self {
        let location = exit.reason.location().map(str::to_owned);
        Self { reason: exit.reason.to_string(), at: exit.at, location, lived_ms: exit.lived_ms }
    }
}

impl Facts {
    /// What it is doing, as the tree says it.
    fn shown_state(&self, mailbox: Option<&MailboxStats>) -> NodeState {
        let suspended = mailbox.is_some_and(|mailbox| mailbox.suspended);
        if suspended && self.state == NodeState::Running { NodeState::Suspended } else { self.state }
    }
}

macro_rules! equals_its_name {
    ($type:ty) => {
        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }
    };
}

equals_its_name!(NodeKind);
equals_its_name!(NodeState);
names!(NodeKind {
    Supervisor => "supervisor",
    DynamicSupervisor => "dynamic_supervisor",
    PartitionSupervisor => "partition_supervisor",
    Worker => "worker",
});
names!(NodeState {
    Starting => "starting",
    Running => "running",
    Suspended => "suspended",
    Stopping => "stopping",
    Restarting => "restarting",
    Zombie => "zombie",
    Stopped => "stopped",
});
