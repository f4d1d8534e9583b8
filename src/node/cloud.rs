//! The two branches of the tree by which the fleet learns: `cloud` on every instance, `central` where it is
//! CentralCloud.

use std::sync::Arc;

use crate::cloud::sync::{LearningSync, SyncArgs, SyncMsg};
use crate::cloud::{
    Aggregator, AggregatorArgs, Ingest, IngestArgs, Intake, Keep, Reports, Retention, RetentionArgs, RetentionStore,
};
use crate::config::Config;
use crate::postgres::Database;
use crate::supervision::{Address, Strategy, SupervisorSpec};

/// What every instance does: it reports, and hears what was learned.
pub(super) fn cloud(config: &Config, db: &Database, sync: &SyncArgs, learning: &Address<SyncMsg>) -> SupervisorSpec {
    let aggregator = AggregatorArgs {
        reports: Reports::new(db.clone()),
        instance_id: Arc::clone(&sync.instance_id),
        interval: config.cloud.report_interval.get(),
    };
    SupervisorSpec::new("cloud", Strategy::OneForOne)
        .child(Aggregator::child(aggregator))
        .child(LearningSync::child(sync.clone(), learning))
}

/// What CentralCloud does: it takes reports in, learns from them, and forgets them. `None` on a member.
pub(super) fn central(config: &Config, db: &Database) -> Option<SupervisorSpec> {
    if !config.cloud.role.is_central() {
        return None;
    }
    let central = &config.central;
    let ingest = IngestArgs { intake: Intake::new(db.clone()), interval: central.ingest_interval.get() };
    let keep = Keep {
        results: central.keep_results.get(),
        reports: central.keep_reports.get(),
        letters: central.keep_letters.get(),
    };
    let retention = RetentionArgs { store: RetentionStore::new(db.clone()), keep };
    let central = SupervisorSpec::new("central", Strategy::OneForOne);
    Some(central.child(Ingest::child(ingest)).child(Retention::child(retention)))
}
