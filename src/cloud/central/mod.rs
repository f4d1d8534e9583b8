//! CentralCloud: takes in what instances report, keeps it, and forgets the single parts of it after a time.

mod ingest;
mod retention;

pub use ingest::{Ingest, IngestArgs, READS_MAX, Take};
pub use retention::{Forget, Retention, RetentionArgs};
