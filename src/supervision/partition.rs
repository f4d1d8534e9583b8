//! Partition supervisors: the same child several times, and a key that says which one is meant (Elixir's
//! `PartitionSupervisor`). For actors that would be a bottleneck alone.
//!
//! The partitions are children of a static supervisor with strategy one_for_one; their ids are their numbers.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::child::{ChildSpec, Started};
use super::child_ref::{ChildCounts, ChildInfo, ChildRef};
use super::core::{CHILDREN_MAX, ChildId, Intensity, SpecError, Strategy};
use super::error::{ChildError, StartError};
use super::tree::NodeKind;
use super::{SupervisorHandle, SupervisorSpec, supervisor_actor};

/// A partition supervisor. Default intensity 3 in 5 s. It never ends by itself: significant children are refused.
#[derive(Clone)]
pub struct PartitionSupervisorSpec {
    id: ChildId,
    partitions: usize,
    intensity: Intensity,
    child: Arc<dyn Fn(usize) -> ChildSpec + Send + Sync>,
}

/// Reaches a partition supervisor and knows how many partitions there are; made before it starts and survives its
/// restarts. Cheap to clone.
#[derive(Clone)]
pub struct PartitionHandle {
    supervisor: SupervisorHandle,
    sizes: Arc<Sizes>,
}

#[derive(Default)]
struct Sizes {
    /// Partitions at the supervisor's start; never more.
    initial: AtomicUsize,
    now: AtomicUsize,
}

/// Whose work goes to the same partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionKey {
    /// Goes by its remainder, without its sign, as in Elixir.
    Integer(i64),
    /// Goes by its hash, which is the same within one build of the program.
    Hash(u64),
}

impl PartitionKey {
    /// A key that is anything but an integer.
    pub fn of(key: &(impl Hash + ?Sized)) -> Self {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        Self::Hash(hasher.finish())
    }

    /// The partition of this key among so many; `None` when there are none.
    pub fn partition(self, partitions: usize) -> Option<usize> {
        let value = match self {
            Self::Integer(value) => value.unsigned_abs(),
            Self::Hash(value) => value,
        };
        let remainder = value.checked_rem(u64::try_from(partitions).ok()?)?;
        usize::try_from(remainder).ok()
    }
}

impl From<i64> for PartitionKey {
    fn from(key: i64) -> Self {
        Self::Integer(key)
    }
}

impl From<&str> for PartitionKey {
    fn from(key: &str) -> Self {
        Self::of(key)
    }
}

impl PartitionSupervisorSpec {
    /// So many partitions of what `child` makes for each number from 0. The id of what it makes is replaced by the
    /// number.
    pub fn new(
        id: impl Into<ChildId>,
        partitions: usize,
        child: impl Fn(usize) -> ChildSpec + Send + Sync + 'static,
    ) -> Self {
        Self { id: id.into(), partitions, intensity: Intensity::default(), child: Arc::new(child) }
    }

    /// How many restarts are too many. Default 3 in 5 s.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Checks everything that can be wrong with it; starting it does the same.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.group()?.validate()
    }

    /// As a child of a static supervisor, reached through `handle`: permanent, stopped without a time limit.
    pub fn into_child(self, handle: &PartitionHandle) -> ChildSpec {
        let (id, handle) = (self.id.clone(), handle.clone());
        let child = ChildSpec::new(id, move |ctx| {
            let (spec, handle) = (self.clone(), handle.clone());
            Box::pin(async move {
                let group = spec.group()?.partitions(&handle);
                let started: Result<Started, StartError> = supervisor_actor::start_child(ctx, Arc::new(group)).await;
                if started.is_ok() {
                    handle.sizes.initial.store(spec.partitions, Ordering::Relaxed);
                    handle.sizes.now.store(spec.partitions, Ordering::Release);
                }
                started
            })
        });
        child.supervising(NodeKind::PartitionSupervisor)
    }

    fn group(&self) -> Result<SupervisorSpec, SpecError> {
        if !(1..=CHILDREN_MAX).contains(&self.partitions) {
            return Err(SpecError::Partitions(self.partitions));
        }
        let children = (0..self.partitions).map(|number| (self.child)(number).with_id(name(number)));
        Ok(SupervisorSpec::new(self.id.clone(), Strategy::OneForOne).intensity(self.intensity).children(children))
    }
}

fn name(number: usize) -> ChildId {
    number.to_string().into()
}

impl PartitionHandle {
    /// A handle that reaches nobody yet.
    pub fn new() -> Self {
        Self { supervisor: SupervisorHandle::new(), sizes: Arc::default() }
    }

    /// How many partitions there are now; 0 before the start.
    pub fn partitions(&self) -> usize {
        self.sizes.now.load(Ordering::Acquire)
    }

    /// The number of the partition that this key goes to; `None` when there are none.
    pub fn route(&self, key: impl Into<PartitionKey>) -> Option<usize> {
        key.into().partition(self.partitions())
    }

    /// The child that this key goes to.
    ///
    /// Errors: `NotFound` when there are no partitions or this one is down, `NoProc`, `Busy`.
    pub async fn child(&self, key: impl Into<PartitionKey>) -> Result<ChildRef, ChildError> {
        let number = self.route(key).ok_or(ChildError::NotFound)?;
        self.supervisor.which_child(name(number)).await?.child.ok_or(ChildError::NotFound)
    }

    /// Stops the last partitions, or starts stopped ones again, until `partitions` run. Between 0 and the number at the
    /// start; specifications are kept. Keys are routed over those that are left. Not to be called by two at once; one
    /// that failed or was dropped is finished by the next.
    ///
    /// Errors: `Partitions` above the initial number, `Start` (those before it were started), `Zombie`, `NoProc`,
    /// `Busy`.
    pub async fn resize(&self, partitions: usize) -> Result<(), ChildError> {
        let (initial, now) = (self.sizes.initial.load(Ordering::Relaxed), self.partitions());
        if partitions > initial {
            return Err(ChildError::Partitions { wanted: partitions, initial });
        }
        // Nothing is routed to a partition that is about to stop, or not yet started.
        self.sizes.now.store(now.min(partitions), Ordering::Release);
        for number in (partitions..initial).rev() {
            match self.supervisor.terminate_child(name(number)).await {
                Ok(()) => {}
                // Most of these are down; some may run, when a resize before failed or was dropped.
                Err(ChildError::Zombie | ChildError::NotFound) if number >= now => {}
                Err(error) => return Err(error),
            }
        }
        for number in now..partitions {
            match self.supervisor.restart_child(name(number)).await {
                Ok(_) | Err(ChildError::Running | ChildError::Restarting) => {}
                Err(error) => return Err(error),
            }
        }
        self.sizes.now.store(partitions, Ordering::Release);
        Ok(())
    }

    /// All partitions that were there at the start, last first, also those that were stopped.
    ///
    /// Errors: `NoProc`, `Busy`.
    pub async fn which_children(&self) -> Result<Vec<ChildInfo>, ChildError> {
        self.supervisor.which_children().await
    }

    /// How many children there are.
    ///
    /// Errors: `NoProc`, `Busy`.
    pub async fn count_children(&self) -> Result<ChildCounts, ChildError> {
        self.supervisor.count_children().await
    }

    /// The supervisor of the partitions.
    pub fn supervisor(&self) -> &SupervisorHandle {
        &self.supervisor
    }
}

impl Default for PartitionHandle {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PartitionSupervisorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionSupervisorSpec")
            .field("id", &self.id)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PartitionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionHandle").field("partitions", &self.partitions()).finish_non_exhaustive()
    }
}
