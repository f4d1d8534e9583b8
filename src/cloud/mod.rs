//! The fleet learns: instances report what their attempts came to (UP), CentralCloud learns from it, and what it
//! learned comes back to every instance (DOWN).
//!
//! All of it travels through pgmq's queues in the database that the instances share. `names.rs` says how they are
//! called, `store/` has every statement.
//!
//! UP: `aggregator.rs` sends results since its cursor, as records (`record.rs`) and as an aggregate of them
//! (`report.rs`, with `sums.rs`). `central/` is CentralCloud: `ingest.rs` takes reports in, `retention.rs` forgets
//! them, and `learner.rs` learns. DOWN: `learning.rs` is what it tells, `sync.rs` follows it on every instance.

mod aggregator;
pub mod central;
mod learning;
mod names;
mod record;
mod report;
mod store;
mod sums;
pub mod sync;

pub use aggregator::{Aggregator, AggregatorArgs, Tell};
pub use central::{Forget, Ingest, IngestArgs, Learn, Learner, LearnerArgs, READS_MAX, Retention, RetentionArgs, Take};
pub use learning::{
    Benchmark, Cell, CostOptimization, EstimatedSavings, Kind, Learning, LearningError, ModelRouting, PatternDiscovery,
    Payload, PerformanceBenchmark, Preference, RoutingRule, SCHEMA_VERSION, WeightedModel,
};
pub use names::{INSTANCE_SLUG_MAX, Names};
pub use record::{MESSAGE_BYTES_MAX, MESSAGE_VERSION, NAME_BYTES_MAX, RECORDS_PER_MESSAGE_MAX, Record, Records};
pub use report::{ModelUse, Period, Report};
pub use store::costs::{CostGroup, CostStore, GroupBy};
pub use store::ingest::Intake;
pub use store::learner::{LearnerStore, Looked, Seen};
pub use store::learnings::{Application, By, Decided, LEARNINGS_LISTED_MAX, LearningStore, Listed};
pub use store::overview::{LETTERS_MAX, Letter, Overview, QueueRow, Reporter, Totals};
pub use store::patterns::{PATTERNS_LISTED_MAX, PatternRow, PatternStore};
pub use store::pgmq::{self, Message};
pub use store::report::{RESULTS_PER_REPORT_MAX, Reports, Sent};
pub use store::retention::{Keep, Store as RetentionStore};
pub use store::sync::{Standing, SyncStore, lock_for_publishing};
pub use store::watch::{JobStanding, JobSuccess, LearningLine, Share, Tally, Watch};
pub use sums::Sums;
