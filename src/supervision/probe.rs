//! Probes: what is known about one child, shared by its supervisor, its wrapper and whoever looks at the tree.
//!
//! Reading probes asks no actor anything, so the tree can be read while a supervisor sits in a long shutdown. A static
//! child's probe outlives its incarnations; a dynamic child's goes with the child.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ractor::ActorCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::core::{ChildId, ExitReason, Incarnation, Intensity, Path, Restart, Strategy};
use super::lock::lock;
use super::mailbox::Gauge;
use super::tree::{NodeKind, NodeState};

/// Most ends of a child that are remembered.
pub const HISTORY_MAX: usize = 16;

/// Most labels of one child; further ones are ignored.
pub const LABELS_MAX: usize = 32;

/// Live facts about one child. Everything here is cheap: short locks, no waiting.
pub struct Probe {
    pub(super) id: ChildId,
    pub(super) path: Path,
    pub(super) kind: NodeKind,
    pub(super) restart: Restart,
    fixed_labels: Arc<BTreeMap<String, String>>,
    restarts_total: AtomicU64,
    pub(super) facts: Mutex<Facts>,
    pub(super) busy: Mutex<Option<(&'static str, Instant)>>,
    children: Mutex<BTreeMap<u64, Arc<Probe>>>,
}

pub(super) struct Facts {
    pub(super) state: NodeState,
    pub(super) incarnation: Incarnation,
    pub(super) actor: &'static str,
    pub(super) started: Option<(DateTime<Utc>, Instant)>,
    pub(super) labels: BTreeMap<Cow<'static, str>, String>,
    pub(super) history: VecDeque<ExitRecord>,
    pub(super) mailbox: Option<Arc<dyn Gauge>>,
    pub(super) strategy: Option<Strategy>,
    pub(super) intensity: Option<Intensity>,
    pub(super) restarts: VecDeque<Instant>,
    attached: Option<Attached>,
}

/// The actor of the current life.
#[derive(Clone)]
pub(super) struct Attached {
    pub(super) cell: ActorCell,
    /// Cancelled once it has let go of everything it held; ractor calls it stopped a moment earlier.
    pub(super) down: CancellationToken,
}

/// One end of a child.
#[derive(Clone, Debug)]
pub struct ExitRecord {
    /// When.
    pub at: DateTime<Utc>,
    /// Which life ended.
    pub incarnation: Incarnation,
    /// Why.
    pub reason: ExitReason,
    /// How long that life was, in milliseconds.
    pub lived_ms: u64,
}

impl Probe {
    pub(super) fn new(
        id: ChildId,
        path: Path,
        kind: NodeKind,
        restart: Restart,
        labels: Arc<BTreeMap<String, String>>,
    ) -> Arc<Self> {
        let facts = Facts {
            state: NodeState::Stopped,
            incarnation: Incarnation(0),
            actor: "",
            started: None,
            labels: BTreeMap::new(),
            history: VecDeque::new(),
            mailbox: None,
            strategy: None,
            intensity: None,
            restarts: VecDeque::new(),
            attached: None,
        };
        Arc::new(Self {
            id,
            path,
            kind,
            restart,
            fixed_labels: labels,
            restarts_total: AtomicU64::new(0),
            facts: Mutex::new(facts),
            busy: Mutex::new(None),
            children: Mutex::new(BTreeMap::new()),
        })
    }

    /// Shows `key: value` at this child until it is removed or the incarnation ends. At most [`LABELS_MAX`].
    pub fn set_label(&self, key: &'static str, value: impl Into<String>) {
        let mut facts = lock(&self.facts);
        if facts.labels.len() < LABELS_MAX || facts.labels.contains_key(key) {
            facts.labels.insert(Cow::Borrowed(key), value.into());
        }
    }

    /// Takes a label away.
    pub fn remove_label(&self, key: &'static str) {
        lock(&self.facts).labels.remove(key);
    }

    /// Its id among its siblings.
    pub fn id(&self) -> &ChildId {
        &self.id
    }

    /// Its place in the tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The current life, or the last one.
    pub fn incarnation(&self) -> Incarnation {
        lock(&self.facts).incarnation
    }

    /// What it is doing.
    pub fn state(&self) -> NodeState {
        lock(&self.facts).state
    }

    /// How often it was restarted automatically.
    pub fn restarts_total(&self) -> u64 {
        self.restarts_total.load(Ordering::Relaxed)
    }

    /// Its latest ends, oldest first; at most [`HISTORY_MAX`].
    pub fn history(&self) -> Vec<ExitRecord> {
        lock(&self.facts).history.iter().cloned().collect()
    }

    /// The labels of its spec and those set since, the latter winning.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut all = (*self.fixed_labels).clone();
        let set = lock(&self.facts);
        all.extend(set.labels.iter().map(|(key, value)| (key.to_string(), value.clone())));
        all
    }

    /// A new life begins.
    pub(super) fn begin(&self, incarnation: Incarnation, restart: bool) {
        if restart {
            self.restarts_total.fetch_add(1, Ordering::Relaxed);
        }
        let mut facts = lock(&self.facts);
        facts.incarnation = incarnation;
        facts.state = NodeState::Starting;
        facts.labels.clear();
        facts.started = None;
    }

    /// The actor of the new life exists; its `init` has not run yet.
    pub(super) fn attach(&self, attached: Attached, actor: &'static str, mailbox: Option<Arc<dyn Gauge>>) {
        let mut facts = lock(&self.facts);
        facts.attached = Some(attached);
        facts.actor = actor;
        facts.mailbox = mailbox;
        facts.started = Some((Utc::now(), Instant::now()));
    }

    /// It is a supervisor with these settings.
    pub(super) fn supervises(&self, strategy: Option<Strategy>, intensity: Intensity) {
        let mut facts = lock(&self.facts);
        facts.strategy = strategy;
        facts.intensity = Some(intensity);
        facts.restarts.clear();
    }

    /// This supervisor counted a restart.
    pub(super) fn count_restart(&self) {
        let mut facts = lock(&self.facts);
        let keep = facts.intensity.map_or(0, |intensity| intensity.max_restarts as usize + 1);
        facts.restarts.push_back(Instant::now());
        while facts.restarts.len() > keep {
            facts.restarts.pop_front();
        }
    }

    pub(super) fn set_state(&self, state: NodeState) {
        lock(&self.facts).state = state;
    }

    /// A life ended for this reason.
    pub(super) fn ended(&self, incarnation: Incarnation, reason: &ExitReason) {
        let mut facts = lock(&self.facts);
        let lived = facts.started.map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let lived_ms = millis(lived);
        while facts.history.len() >= HISTORY_MAX {
            facts.history.pop_front();
        }
        facts.history.push_back(ExitRecord { at: Utc::now(), incarnation, reason: reason.clone(), lived_ms });
    }

    /// The actor of this life is gone. Harmless when a later one has begun.
    pub(super) fn detach(&self, incarnation: Incarnation) {
        let mut facts = lock(&self.facts);
        if facts.incarnation != incarnation {
            return;
        }
        facts.attached = None;
        facts.mailbox = None;
        if matches!(facts.state, NodeState::Starting | NodeState::Running | NodeState::Stopping) {
            facts.state = NodeState::Stopped;
        }
        drop(facts);
        self.set_busy(None);
    }

    pub(super) fn set_busy(&self, doing: Option<&'static str>) {
        *lock(&self.busy) = doing.map(|doing| (doing, Instant::now()));
    }

    pub(super) fn lived(&self) -> Duration {
        lock(&self.facts).started.map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    pub(super) fn add_child(&self, order: u64, child: Arc<Probe>) {
        lock(&self.children).insert(order, child);
    }

    pub(super) fn remove_child(&self, order: u64) {
        let removed = lock(&self.children).remove(&order);
        drop(removed);
    }

    /// Empties the list of children and returns it.
    pub(super) fn take_children(&self) -> Vec<Arc<Probe>> {
        let children = std::mem::take(&mut *lock(&self.children));
        children.into_values().collect()
    }

    pub(super) fn children(&self) -> Vec<Arc<Probe>> {
        lock(&self.children).values().cloned().collect()
    }

    /// The actor of the current life.
    pub(super) fn attached(&self) -> Option<Attached> {
        lock(&self.facts).attached.clone()
    }

    /// The probe at `path`, if it is this node's or below it.
    pub(super) fn find(self: &Arc<Self>, path: &str) -> Option<Arc<Probe>> {
        if self.path.as_str() == path {
            return Some(self.clone());
        }
        // Ids have no slash, so a node's descendants begin with its path and one.
        let below = |child: &Arc<Probe>| {
            path.strip_prefix(child.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.children().iter().filter(|child| below(child)).find_map(|child| child.find(path))
    }

    /// The actors below this node that have not let go of everything yet.
    pub(super) fn living_descendants(&self) -> Vec<Attached> {
        let mut living = Vec::new();
        let mut todo = self.children();
        while let Some(probe) = todo.pop() {
            living.extend(probe.attached());
            todo.extend(probe.children());
        }
        living
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("path", &self.path).field("kind", &self.kind).finish_non_exhaustive()
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
