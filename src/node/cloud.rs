//! The two branches of the tree by which the fleet learns: `cloud` on every instance, `central` where it is
//! CentralCloud.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cloud::central::learner::Settings;
use crate::cloud::sync::{LearningSync, SyncArgs, SyncMsg};
use crate::cloud::{
    Aggregator, AggregatorArgs, Ingest, IngestArgs, Intake, Keep, Learner, LearnerArgs, LearnerStore, Reports,
    Retention, RetentionArgs, RetentionStore,
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

/// What CentralCloud does: it takes reports in, learns from them, and forgets them.
pub(super) fn central(config: &Config, db: &Database) -> SupervisorSpec {
    let central = &config.central;
    let ingest = IngestArgs { intake: Intake::new(db.clone()), interval: central.ingest_interval.get() };
    let keep = Keep {
        results: central.keep_results.get(),
        reports: central.keep_reports.get(),
        letters: central.keep_letters.get(),
    };
    let retention = RetentionArgs { store: RetentionStore::new(db.clone()), keep };
    let central = SupervisorSpec::new("central", Strategy::OneForOne);
    let central = central.child(Ingest::child(ingest)).child(Learner::child(learner(config, db)));
    central.child(Retention::child(retention))
}

fn learner(config: &Config, db: &Database) -> LearnerArgs {
    let central = &config.central;
    let latency_ceiling = central.latency_ceiling.get();
    let settings = Settings {
        margin: central.margin,
        floor: central.floor,
        ceiling: central.ceiling,
        nursery_jobs: central.nursery_jobs.into(),
        window: central.learn_window.get(),
        latency_ceiling_ms: latency_ceiling.map(|ceiling| u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX)),
        pattern_successes: central.pattern_successes.into(),
        ..Settings::default()
    };
    let store = LearnerStore::new(db.clone());
    LearnerArgs { store, routes: Arc::new(routes(config)), settings, interval: central.learn_interval.get() }
}

/// Models of each route, the reference first.
fn routes(config: &Config) -> BTreeMap<String, Vec<String>> {
    config.routing.all().map(|route| (route.name.to_owned(), route.models().map(str::to_owned).collect())).collect()
}
