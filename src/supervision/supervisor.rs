//! Static supervisors: a fixed list of children, started in order, stopped in reverse, restarted by strategy.

use std::sync::Arc;

use super::child::ChildSpec;
use super::core::{AutoShutdown, ChildId, Intensity, SpecError, Strategy, validate_group};
use super::partition::PartitionHandle;
use super::supervisor_actor;
use super::supervisor_handle::SupervisorHandle;
use super::tree::NodeKind;

/// A static supervisor and its children. Defaults: 3 restarts in 5 s, never ends by itself.
#[derive(Clone, Debug)]
pub struct SupervisorSpec {
    pub(super) id: ChildId,
    pub(super) strategy: Strategy,
    pub(super) intensity: Intensity,
    pub(super) auto_shutdown: AutoShutdown,
    pub(super) children: Vec<ChildSpec>,
    pub(super) handle: Option<SupervisorHandle>,
    /// What a name of it leads to, when its children are partitions.
    pub(super) partitions: Option<PartitionHandle>,
}

impl SupervisorSpec {
    /// A supervisor without children yet.
    pub fn new(id: impl Into<ChildId>, strategy: Strategy) -> Self {
        Self {
            id: id.into(),
            strategy,
            intensity: Intensity::default(),
            auto_shutdown: AutoShutdown::Never,
            children: Vec::new(),
            handle: None,
            partitions: None,
        }
    }

    /// How many restarts are too many. Default 3 in 5 s.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Whether it ends once significant children ended. Default never.
    #[must_use]
    pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
        self.auto_shutdown = auto_shutdown;
        self
    }

    /// Adds a child at the end.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Adds children at the end.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = ChildSpec>) -> Self {
        self.children.extend(children);
        self
    }

    /// Makes `handle` reach this supervisor while it runs.
    #[must_use]
    pub fn handle(mut self, handle: &SupervisorHandle) -> Self {
        self.handle = Some(handle.clone());
        self
    }

    /// Makes it the supervisor of partitions that `handle` reaches.
    pub(super) fn partitions(mut self, handle: &PartitionHandle) -> Self {
        self.partitions = Some(handle.clone());
        self.handle(handle.supervisor())
    }

    /// Checks everything that can be wrong with it; starting it does the same. Supervisors among the children check
    /// themselves when they start.
    pub fn validate(&self) -> Result<(), SpecError> {
        validate_group(self.intensity, self.auto_shutdown, self.children.iter().map(ChildSpec::rules))
    }

    /// As a child of another supervisor: permanent, stopped without a time limit.
    pub fn into_child(self) -> ChildSpec {
        let id = self.id.clone();
        let spec = Arc::new(self);
        let child = ChildSpec::new(id, move |ctx| {
            let spec = spec.clone();
            Box::pin(supervisor_actor::start_child(ctx, spec))
        });
        child.supervising(NodeKind::Supervisor)
    }
}
