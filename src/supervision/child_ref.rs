//! A child as whoever asked for it knows it.

use std::fmt;
use std::sync::Arc;

use super::child::Info;
use super::core::{ChildId, ChildKind, ExitReason, Incarnation, Key, Path};
use super::life::ActorHandle;
use super::{NodeState, Probe};

/// A child that a supervisor started by request. Names the child, also after it was restarted. Cheap to clone.
#[derive(Clone)]
pub struct ChildRef {
    pub(super) key: Key,
    handle: ActorHandle,
    info: Option<Info>,
}

/// A child as its supervisor sees it, an element of OTP's `which_children`.
#[derive(Clone, Debug)]
pub struct ChildInfo {
    /// Its id.
    pub id: ChildId,
    /// The running child; absent while it is down or waits for a restart.
    pub child: Option<ChildRef>,
    /// What it is doing; tells a child that is down from one that waits to be restarted.
    pub state: NodeState,
    /// What it is.
    pub kind: ChildKind,
    /// Short type name of the actor, OTP's `modules`; empty before the first start.
    pub actor: &'static str,
}

/// How many children a supervisor has, as OTP's `count_children`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildCounts {
    /// All children, running or not.
    pub specs: usize,
    /// Those that run.
    pub active: usize,
    /// Those that are supervisors.
    pub supervisors: usize,
    /// Those that are workers.
    pub workers: usize,
}

impl ChildRef {
    pub(super) fn new(key: Key, handle: ActorHandle, info: Option<Info>) -> Self {
        Self { key, handle, info }
    }

    /// What its start function told beside it, if it was a `T`; see [`Started::with_info`](super::Started::with_info).
    pub fn info<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.info.clone()?.downcast().ok()
    }

    /// Its id.
    pub fn id(&self) -> &ChildId {
        self.probe().id()
    }

    /// Its place in the tree.
    pub fn path(&self) -> &Path {
        &self.probe().path
    }

    /// Its probe.
    pub fn probe(&self) -> &Arc<Probe> {
        &self.handle.life.probe
    }

    /// The incarnation that the request started.
    pub fn incarnation(&self) -> Incarnation {
        self.handle.life.incarnation
    }

    /// What it is doing now.
    pub fn state(&self) -> NodeState {
        self.probe().state()
    }

    /// Waits until the incarnation that the request started has ended, and tells how. It may have been restarted since.
    ///
    /// Cancel safety: nothing is lost.
    pub async fn ended(&self) -> ExitReason {
        self.handle.cell.wait(None).await.ok();
        self.handle.life.exit().unwrap_or(ExitReason::Killed)
    }

    /// Kills the incarnation that the request started, as if it had crashed: no cleanup runs, and its supervisor
    /// restarts it by its rules.
    pub fn kill(&self) {
        self.handle.cell.kill();
    }
}

/// Two are equal when they name the same incarnation of the same child.
impl PartialEq for ChildRef {
    fn eq(&self, other: &Self) -> bool {
        self.handle.cell == other.handle.cell
    }
}

impl Eq for ChildRef {}

impl fmt::Debug for ChildRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildRef").field("path", self.path()).field("incarnation", &self.incarnation()).finish()
    }
}
