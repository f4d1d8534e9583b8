//! A node: everything of one instance, assembled, started and stopped.
//!
//! The tree, in start order (stop is the reverse; a failure restarts what was started after it):
//!
//! ```text
//! singularity             rest_for_one
//! ├─ infra                one_for_one   notifier · peer
//! ├─ instance             one_for_one   registry · history · control
//! ├─ services             one_for_one   stager · lifeline · pruner
//! ├─ completer
//! ├─ executors            one_for_one   one dynamic supervisor a queue, max_children = limit
//! │   └─ default → job 4711                                                    (temporary)
//! └─ queues               one_for_one   one producer a queue
//! ```
//!
//! The completer stands before the executors, so that it still stores what they report while they stop.
//!
//! A node in a program of one's own, with a worker of one's own:
//!
//! ```no_run
//! use serde_json::json;
//! use singularity::config::Config;
//! use singularity::node::{Node, NodeOptions};
//! use singularity::queue::{JobContext, NewJob, Outcome, Worker};
//!
//! struct Greet;
//!
//! impl Worker for Greet {
//!     fn name(&self) -> &str {
//!         "greet"
//!     }
//!
//!     async fn perform(&self, context: JobContext) -> Outcome {
//!         match context.job.args["name"].as_str() {
//!             Some(_name) => Outcome::Completed,
//!             None => Outcome::Cancelled("args have no name".into()),
//!         }
//!     }
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = NodeOptions::new(Config::shipped()?);
//! options.workers.register(Greet);
//! let node = Node::start(options).await?;
//! node.engine().insert(NewJob::new("greet", json!({"name": "Joe"}))).await?;
//! // Let running jobs finish for as long as the configured grace.
//! node.shutdown(std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod answers;
mod assembly;
mod error;
mod notices;
mod shutdown;
mod storage;

pub use assembly::{Node, NodeOptions};
pub use error::NodeError;
pub use shutdown::Drained;
pub use storage::{Guardian, Source, Storage};
