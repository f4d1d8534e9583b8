//! CentralCloud: takes in what instances report, keeps it, learns from it, and forgets the single parts of it after a
//! time.

mod ingest;
pub mod learner;
mod learner_actor;
mod retention;

pub use ingest::{Ingest, IngestArgs, READS_MAX, Take};
pub use learner_actor::{Learn, Learner, LearnerArgs};
pub use retention::{Forget, Retention, RetentionArgs};
