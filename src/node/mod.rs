//! A node: everything of one instance, assembled, started and stopped.
//!
//! The tree, in start order (stop is the reverse; a failure restarts what was started after it):
//!
//! ```text
//! singularity             rest_for_one
//! ├─ infra                one_for_one   notifier
//! ├─ instance             one_for_one   registry · control
//! ├─ services             one_for_one   stager · lifeline
//! ├─ completer
//! ├─ executors            one_for_one   one dynamic supervisor a queue, max_children = limit
//! │   └─ default → job 4711                                                    (temporary)
//! └─ queues               one_for_one   one producer a queue
//! ```
//!
//! The completer stands before the executors, so that it still stores what they report while they stop.

mod assembly;
mod error;
mod notices;
mod shutdown;
mod storage;

pub use assembly::{Node, NodeOptions};
pub use error::NodeError;
pub use shutdown::Drained;
pub use storage::{Source, Storage};
