//! Every SQL statement on jobs, one function each.
//!
//! Invariants: each write of an attempt's result is guarded by id, state `executing`, attempt, producer and time of the
//! claim, so a stale runner changes nothing; the database's clock decides every time; statements that choose rows lock
//! them with SKIP LOCKED and check the state again where they write. Names are unqualified and resolved by the pool's
//! `search_path`, except in `insert` and `unique`, which also run on a connection that the caller brought.

mod attempts;
mod bare;
mod claim;
mod complete;
mod cron;
mod direct;
mod enqueued;
mod exchange;
mod family;
mod filter;
mod foreign;
mod gather;
mod insert;
mod lead;
mod lenient;
mod manage;
mod prune;
mod queues;
mod read;
mod reindex;
mod row;
mod sweep;
mod taken;
mod tell;
mod unique;

pub use bare::{Bare, BareInserts, BareNotices};
pub use claim::Claim;
pub use complete::GuardedAck;
pub use cron::{CronDecision, CronEntryKey, CronOverview, CronRow, CronStand};
pub use direct::{DirectStart, StartsDirectly};
pub use enqueued::Enqueued;
pub use exchange::Exchanged;
pub use filter::{FILTER_VALUES_MAX, JobFilter};
pub use foreign::Foreigners;
pub use insert::{INSERT_BATCH_MAX, Inserted};
pub use lead::Election;
pub use manage::{CHANGE_BATCH_MAX, Changed, ChangedMany};
pub use read::{LIST_MAX, QueueCounts};
pub use reindex::IndexName;
pub use sweep::{Rescued, Staged};
pub use taken::Taken;
pub use tell::StateCount;
pub use unique::UNIQUE_BATCH_MAX;

use std::sync::Arc;

use crate::postgres::{Database, Lane};

/// The statements, bound to one database and schema. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    db: Database,
    /// For claims, with or without completions, and for completions alone.
    claims: Lane,
    completions: Lane,
    /// For single inserts, and those that wait for it.
    inserts: Lane,
    gather: gather::Gather,
    /// Who may start single jobs here.
    starts: Option<Arc<dyn StartsDirectly>>,
    insert_sql: Arc<str>,
    short_insert_sql: Arc<str>,
}

impl Engine {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        let insert_sql = insert::statement(&db).into();
        let short_insert_sql = insert::short_statement(&db).into();
        let (claims, completions) = (Lane::planned_once(db.clone()), Lane::impatient(db.clone()));
        let inserts = Lane::new(db.clone());
        let gather = gather::Gather::default();
        Self { db, claims, completions, inserts, gather, starts: None, insert_sql, short_insert_sql }
    }

    /// The same statements, with single jobs started by `starts` where it can: they are never `available`.
    pub(crate) fn starting_by(self, starts: Arc<dyn StartsDirectly>) -> Self {
        Self { starts: Some(starts), ..self }
    }

    /// The database below.
    pub fn db(&self) -> &Database {
        &self.db
    }
}
