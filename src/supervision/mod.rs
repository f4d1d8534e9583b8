//! The OTP half: supervisors and supervised actors on ractor.
//!
//! `core` decides, purely; the rest carries out, and is the only place that names ractor. A [`System`] starts a root
//! [`SupervisorSpec`]; its children are supervisors and [`Actor`]s, which are reached through [`Address`]es that
//! outlive restarts. The tree can be read at any time with [`System::snapshot`].
//!
//! What BEAM isolates and Rust cannot: stack overflow, exhausted memory, a panic during a panic, `abort`, and code that
//! never reaches an await point. The last is reported as a zombie, and should run on another runtime, because it holds
//! up whatever tokio queued behind it on its thread; the others take the process down.
//!
//! Invariants: two incarnations of one child never work at once (unless [`OnZombie::Replace`] allows it); no task
//! outlives its supervisor; every mailbox and buffer has a limit.

#[cfg(panic = "abort")]
compile_error!("supervision needs panic = \"unwind\": a crash of one actor must not end the process");

mod actor;
mod address;
mod child;
mod child_ref;
mod children;
mod core;
mod ctx;
mod detail;
mod dynamic;
mod dynamic_actor;
mod error;
mod life;
mod link;
mod lock;
mod mailbox;
mod operate;
mod panics;
mod partition;
mod probe;
mod registry;
mod report;
mod roster;
mod supervised;
mod supervisor;
mod supervisor_actor;
mod supervisor_handle;
mod system;
mod task;
mod tree;

#[cfg(test)]
mod tests;

pub use self::core::{
    AutoShutdown, Backoff, CHILDREN_MAX, ChildId, ChildKind, ChildRules, CrashInfo, ERROR_TEXT_BYTES_MAX, ErrorInfo,
    ExitReason, ID_BYTES_MAX, Incarnation, Intensity, MAX_RESTARTS_MAX, OnZombie, Path, Restart, Shutdown, SpecError,
    Strategy,
};
pub use actor::{Actor, ActorError, Flow};
pub use address::{Address, Reply};
pub use child::{ActorRun, ChildSpec, SHUTDOWN_DEFAULT, StartCause, StartCtx, StartFn, Started};
pub use child_ref::{ChildCounts, ChildInfo, ChildRef};
pub use ctx::{Ctx, Timer};
pub use detail::{ActorDetail, ExitDetail, SpecDetail};
pub use dynamic::{DynamicHandle, DynamicSupervisorSpec};
pub use error::{CallError, CastError, ChildError, OperateError, StartChildError, StartError};
pub use life::KILL_WAIT_MAX;
pub use link::REQUESTS_MAX;
pub use operate::{Operation, SUSPEND_WAIT_MAX};
pub(crate) use panics::{Caught, catch, catch_sync};
pub use partition::{PartitionHandle, PartitionKey, PartitionSupervisorSpec};
pub use probe::{ExitRecord, HISTORY_MAX, LABELS_MAX, Probe};
pub use registry::NAMES_MAX;
pub use report::{EVENTS_MAX, EventLevel, SupervisionEvent, SupervisionEventKind};
pub use supervisor::SupervisorSpec;
pub use supervisor_handle::{SpecDiff, SupervisorHandle};
pub use system::{Running, System};
pub use task::TaskCtx;
pub use tree::{LastExit, MailboxNode, NodeExtra, NodeKind, NodeState, TREE_CHILDREN_MAX, TreeNode};
