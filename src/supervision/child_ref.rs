//! A child as whoever asked for it knows it.

use std::fmt;
use std::sync::Arc;

use super::core::{ChildId, ExitReason, Incarnation, Key, Path};
use super::life::ActorHandle;
use super::{NodeState, Probe};

/// A child that a supervisor started by request. Names the child, also after it was restarted. Cheap to clone.
#[derive(Clone)]
pub struct ChildRef {
    pub(super) key: Key,
    handle: ActorHandle,
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
    pub(super) fn new(key: Key, handle: ActorHandle) -> Self {
        Self { key, handle }
    }

    /// Its id.
    pub fn id(&self) -> &ChildId {
        &self.probe().id
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

impl fmt::Debug for ChildRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildRef").field("path", self.path()).field("incarnation", &self.incarnation()).finish()
    }
}
