//! A node: everything of one instance, assembled, started and stopped.
//!
//! The tree, in start order (stop is the reverse; a failure restarts what was started after it):
//!
//! ```text
//! singularity             rest_for_one
//! ├─ infra                one_for_one   notifier · peer
//! ├─ instance             one_for_one   registry · history · control · settings
//! ├─ cloud                one_for_one   aggregator · learning_sync
//! ├─ services             one_for_one   queue_keeper · stager · lifeline · gossip · metrics · horizon
//! │                                     and what is configured: pruner · run_pruner · reindexer · cron
//! ├─ completer
//! ├─ executors            one_for_one   one dynamic supervisor a queue
//! │   └─ default → job 4711                                                    (temporary)
//! ├─ queues               one_for_one   one producer a queue
//! └─ central              one_for_one   ingest · learner · retention           (role central or both)
//! ```
//!
//! The completer stands before the executors, so that it still stores what they report while they stop. The cloud
//! stands before both, so that its last report has all results. CentralCloud stands last, so that what goes wrong there
//! stops no job. It is there only where the built-in workflows are ([`NodeOptions::built_in`]).
//!
//! A node in a program of one's own, with a worker of one's own; it leaves the jobs of the built-in workflows to others
//! ([`NodeOptions::built_in`]):
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//! use singularity::config::Config;
//! use singularity::node::{Node, NodeOptions};
//! use singularity::queue::{JobContext, JobError, Outcome, Worker};
//!
//! struct Greet;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Guest {
//!     name: String,
//! }
//!
//! impl Worker for Greet {
//!     type Args = Guest;
//!     const NAME: &'static str = "greet";
//!
//!     async fn perform(&self, guest: Guest, _context: JobContext) -> Result<Outcome, JobError> {
//!         tracing::info!("hello {}", guest.name);
//!         Ok(Outcome::Completed)
//!     }
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = NodeOptions::new(Config::shipped()?);
//! options.workers.register(Greet);
//! let node = Node::start(options).await?;
//! node.engine().insert(Greet::new_job(&Guest { name: "Joe".into() })?).await?;
//! // Let running jobs finish for as long as the configured grace.
//! node.shutdown(std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod answers;
mod assembly;
mod cloud;
mod complaints;
mod crontab;
mod error;
mod job_threads;
mod kept;
mod listening;
mod notices;
mod queues;
mod settings;
mod shutdown;
mod steering;
mod storage;

pub use assembly::{Node, NodeOptions};
pub use error::NodeError;
pub use kept::{kept, keys_of, queue_of};
pub use shutdown::Drained;
pub use steering::OrderError;
pub use storage::{Guardian, Source, Storage};
