//! Helpers for the tests of programs that use this library: those of `Oban.Testing`, under the same names.
//!
//! | To test | Use | Needs a database |
//! | --- | --- | --- |
//! | what a worker makes of its arguments | [`perform_job`], [`build_job`], [`perform_built_job`] | no |
//! | that code enqueues a job, or none | [`assert_enqueued`], [`refute_enqueued`], [`all_enqueued`] | yes |
//! | that enqueued jobs run to their end | [`drain_queue`] | yes |
//! | code that enqueues, with what its jobs do | [`Inline`] in the place of the engine | no |
//!
//! Nothing here asks the wall clock where a test may want its own time: deadlines and time-outs are by tokio's clock,
//! which a test can pause; [`Enqueued::scheduled_at`] and [`Drain::with_scheduled_until`] take the moment.
//!
//! ```
//! use serde_json::json;
//! use singularity::queue::{JobContext, JobError, Outcome, Worker};
//! use singularity::testing::perform_job;
//!
//! struct Double;
//!
//! impl Worker for Double {
//!     type Args = std::collections::BTreeMap<String, u32>;
//!     const NAME: &'static str = "double";
//!
//!     async fn perform(&self, args: Self::Args, _context: JobContext) -> Result<Outcome, JobError> {
//!         let number = args.get("number").ok_or_else(|| JobError::msg("no number"))?;
//!         Ok(Outcome::Recorded(json!(2 * number)))
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let outcome = perform_job(&Double, json!({"number": 21})).await?;
//! assert_eq!(outcome, Outcome::Recorded(json!(42)));
//! # Ok::<(), singularity::testing::TestingError>(())
//! # }).unwrap();
//! ```

mod drain;
mod enqueued;
mod error;
mod inline;
mod perform;

pub use crate::queue::engine::Enqueued;
pub use drain::{DRAIN_ROUND_MAX, DRAIN_ROUNDS_MAX, Drain, DrainCounts, drain_queue};
pub use enqueued::{all_enqueued, assert_enqueued, assert_enqueued_within, refute_enqueued, refute_enqueued_within};
pub use error::TestingError;
pub use inline::{INLINE_PERFORMED_MAX, Inline, InlineJob};
pub use perform::{build_job, perform_built_job, perform_job};
