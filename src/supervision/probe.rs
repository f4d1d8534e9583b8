//! Probes: what is known about one child, shared by its supervisor, its wrapper and whoever looks at the tree.
//!
//! Reading probes asks no actor anything, so the tree can be read while a supervisor sits in a long shutdown. A static
//! child's probe outlives its incarnations; a dynamic child's goes with the child.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ractor::ActorCell;
use tokio::time::Instant;

use super::child::Given;
use super::core::{ChildId, ExitReason, Incarnation, Intensity, Path, Restart, Strategy};
use super::life::Life;
use super::lock::lock;
use super::mailbox::Gauge;
use super::roster::Roster;
use super::tree::{NodeKind, NodeState};
use super::{DynamicHandle, SupervisorHandle};

/// Most ends of a child that are remembered.
pub const HISTORY_MAX: usize = 16;

/// Most labels of one child; further ones are ignored.
pub const LABELS_MAX: usize = 32;

/// So many children are touched before they are looked at.
const AHEAD: usize = 16;

/// Live facts about one child. Everything here is cheap: short locks, no waiting.
pub struct Probe {
    pub(super) id: ChildId,
    pub(super) path: Path,
    pub(super) kind: NodeKind,
    restarts_total: AtomicU64,
    pub(super) facts: Mutex<Facts>,
    busy: Mutex<Option<(&'static str, Instant)>>,
    /// Whether `busy` says something. Most children are idle, and a look at an idle one need not lock.
    is_busy: AtomicBool,
    children: Mutex<Roster>,
    /// How many children there are. Most nodes have none, and a look at such a one need not lock.
    children_total: AtomicUsize,
}

pub(super) struct Facts {
    /// What its spec says; replaced when a supervisor takes over a changed specification.
    given: Arc<Given>,
    /// Its restart type and whether its spec has labels, kept here for those who look at very many nodes.
    pub(super) restart: Restart,
    is_labelled: bool,
    pub(super) state: NodeState,
    /// When the pending restart is due, if it has to wait.
    pub(super) retry_at: Option<DateTime<Utc>>,
    pub(super) incarnation: Incarnation,
    pub(super) actor: &'static str,
    pub(super) started: Option<(DateTime<Utc>, Instant)>,
    pub(super) labels: BTreeMap<Cow<'static, str>, String>,
    pub(super) history: VecDeque<ExitRecord>,
    pub(super) mailbox: Option<Arc<dyn Gauge>>,
    pub(super) supervising: Option<Box<Supervising>>,
    attached: Option<Attached>,
}

/// What only supervisors have.
pub(super) struct Supervising {
    pub(super) strategy: Option<Strategy>,
    pub(super) intensity: Intensity,
    /// When restarts were counted; never more than the intensity needs.
    pub(super) restarts: VecDeque<Instant>,
    pub(super) overseer: Overseer,
}

/// How requests about its children reach a supervisor.
#[derive(Clone)]
pub(super) enum Overseer {
    Static(SupervisorHandle),
    Dynamic(DynamicHandle),
}

/// The actor of the current life.
#[derive(Clone)]
pub(super) struct Attached {
    pub(super) cell: ActorCell,
    /// Tells when it has let go of everything it held; ractor calls it stopped a moment earlier.
    pub(super) life: Arc<Life>,
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

impl Facts {
    /// Whether its spec has labels or some were set since.
    pub(super) fn has_labels(&self) -> bool {
        self.is_labelled || !self.labels.is_empty()
    }

    /// The labels of its spec and those set since, the latter winning.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let mut all = if self.is_labelled { self.given.labels.clone() } else { BTreeMap::new() };
        all.extend(self.labels.iter().map(|(key, value)| (key.to_string(), value.clone())));
        all
    }
}

impl Probe {
    pub(super) fn new(path: Path, given: Arc<Given>) -> Arc<Self> {
        let (id, kind) = (given.rules.id.clone(), given.node_kind);
        let (restart, is_labelled) = (given.rules.restart, !given.labels.is_empty());
        let facts = Facts {
            given,
            restart,
            is_labelled,
            state: NodeState::Stopped,
            retry_at: None,
            incarnation: Incarnation(0),
            actor: "",
            started: None,
            labels: BTreeMap::new(),
            history: VecDeque::new(),
            mailbox: None,
            supervising: None,
            attached: None,
        };
        Arc::new(Self {
            id,
            path,
            kind,
            restarts_total: AtomicU64::new(0),
            facts: Mutex::new(facts),
            busy: Mutex::new(None),
            is_busy: AtomicBool::new(false),
            children: Mutex::default(),
            children_total: AtomicUsize::new(0),
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

    /// Short type name of its actor; empty before the first start.
    pub(super) fn actor(&self) -> &'static str {
        lock(&self.facts).actor
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
        lock(&self.facts).labels()
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
        facts.retry_at = None;
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
    pub(super) fn supervises(&self, strategy: Option<Strategy>, intensity: Intensity, overseer: Overseer) {
        let supervising = Supervising { strategy, intensity, restarts: VecDeque::new(), overseer };
        lock(&self.facts).supervising = Some(Box::new(supervising));
    }

    /// This supervisor took over changed settings; what it counted stays.
    pub(super) fn supervises_by(&self, strategy: Option<Strategy>, intensity: Intensity) {
        if let Some(supervising) = &mut lock(&self.facts).supervising {
            supervising.strategy = strategy;
            supervising.intensity = intensity;
        }
    }

    /// How its children are asked for, when it is a supervisor that was started.
    pub(super) fn overseer(&self) -> Option<Overseer> {
        lock(&self.facts).supervising.as_ref().map(|supervising| supervising.overseer.clone())
    }

    /// What its spec says now.
    pub(super) fn given(&self) -> Arc<Given> {
        lock(&self.facts).given.clone()
    }

    /// The name in the registry that its spec says.
    pub(super) fn registered_name(&self) -> Option<Arc<str>> {
        lock(&self.facts).given.name.clone()
    }

    pub(super) fn set_given(&self, given: Arc<Given>) {
        let mut facts = lock(&self.facts);
        (facts.restart, facts.is_labelled) = (given.rules.restart, !given.labels.is_empty());
        facts.given = given;
    }

    pub(super) fn set_retry_at(&self, at: Option<DateTime<Utc>>) {
        lock(&self.facts).retry_at = at;
    }

    /// This supervisor counted a restart.
    pub(super) fn count_restart(&self) {
        let Some(supervising) = &mut lock(&self.facts).supervising else { return };
        supervising.restarts.push_back(Instant::now());
        while supervising.restarts.len() > supervising.intensity.max_restarts as usize + 1 {
            supervising.restarts.pop_front();
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
        let mut busy = lock(&self.busy);
        *busy = doing.map(|doing| (doing, Instant::now()));
        self.is_busy.store(busy.is_some(), Ordering::Release);
    }

    /// What it is handling, and since when.
    pub(super) fn busy(&self) -> Option<(&'static str, Instant)> {
        if self.is_busy.load(Ordering::Acquire) { *lock(&self.busy) } else { None }
    }

    pub(super) fn lived(&self) -> Duration {
        lock(&self.facts).started.map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    pub(super) fn add_child(&self, order: u64, child: Arc<Probe>) {
        let mut children = lock(&self.children);
        let before = children.insert(order, child);
        self.children_total.store(children.len(), Ordering::Release);
        drop(children);
        drop(before);
    }

    pub(super) fn remove_child(&self, order: u64) {
        let mut children = lock(&self.children);
        let removed = children.remove(order);
        self.children_total.store(children.len(), Ordering::Release);
        drop(children);
        drop(removed);
    }

    /// Empties the list of children and returns it.
    pub(super) fn take_children(&self) -> Vec<Arc<Probe>> {
        let mut children = lock(&self.children);
        self.children_total.store(0, Ordering::Release);
        std::mem::take(&mut *children).all().cloned().collect()
    }

    pub(super) fn children(&self) -> Vec<Arc<Probe>> {
        match self.children_total() {
            0 => Vec::new(),
            _ => lock(&self.children).all().cloned().collect(),
        }
    }

    /// How many children there are.
    pub(super) fn children_total(&self) -> usize {
        self.children_total.load(Ordering::Acquire)
    }

    /// Looks at up to `limit` children from this order on, in order, and tells where to go on. Nobody can be added or
    /// removed meanwhile, so the limit should be small.
    pub(super) fn look_at_children(&self, from: u64, limit: usize, mut look: impl FnMut(&Arc<Probe>)) -> Option<u64> {
        let children = lock(&self.children);
        let mut ahead = children.from(from).take(limit);
        let mut looked = children.from(from);
        for first in (0..limit).step_by(AHEAD) {
            ahead.by_ref().take(AHEAD).for_each(|(_, child)| child.touch());
            looked.by_ref().take(AHEAD.min(limit - first)).for_each(|(_, child)| look(child));
        }
        looked.next().map(|(order, _)| order)
    }

    /// Reads a little of everything that a look reads and takes no lock: processors fetch the memory of several nodes
    /// at once, but wait for each lock by itself.
    fn touch(self: &Arc<Self>) {
        let counts = (Arc::strong_count(self), self.path.holders(), self.id.holders());
        let facts = (self.facts.is_poisoned(), self.is_busy.load(Ordering::Relaxed), self.restarts_total());
        std::hint::black_box((counts, facts, self.children_total.load(Ordering::Relaxed)));
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

    /// The probes of its children, with the order in which they were added.
    pub(super) fn ordered_children(&self) -> Vec<(u64, Arc<Probe>)> {
        lock(&self.children).from(0).map(|(order, child)| (order, child.clone())).collect()
    }

    /// The actor of the present or last life, and those below it, that have not let go of everything yet.
    pub(super) fn remains(&self) -> Vec<Attached> {
        let incarnation = self.incarnation();
        let own = self.attached().filter(|own| own.life.incarnation == incarnation);
        own.into_iter().chain(self.living_descendants()).collect()
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
