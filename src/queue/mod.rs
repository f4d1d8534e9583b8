//! The Oban half: jobs in `oban_jobs`, claimed by demand, executed under supervision, completed in guarded batches.
//!
//! The way of a job: [`engine`] inserts it and sends a notice → its queue's `producer` claims it into a slot (`slots`)
//! → an `executor` under the queue's dynamic supervisor runs its `worker` → the `completer` stores what it came to
//! (`outcome`) and frees the slot. What is inserted through a node whose queue is idle its producer inserts itself, as
//! claimed (`direct`). The `stager` makes due jobs available, the `lifeline` those of dead instances. The
//! `peer` campaigns for Oban's lease of the leader where its `role` allows it; while this instance leads, the `pruner`
//! deletes what finished long ago, the `reindexer` rebuilds what bloats, and `cron` inserts jobs when their time comes
//! (`crontab` says which). `gossip` and `metrics` tell dashboards what happens here, while a node is there beside
//! which one may run.
//!
//! Promises: at least once; exactly one accepted completion per attempt; never more than the limit; a running job is
//! not handed out again while its owner is alive.

mod aside;
mod attempt;
mod backoff;
mod blocking;
mod change;
mod check;
mod completer;
mod completions;
mod context;
mod crews;
mod cron;
mod crontab;
mod direct;
pub mod engine;
mod enqueue;
mod error;
mod executor;
mod family;
mod foreign;
mod gossip;
mod horizon;
mod job;
mod job_error;
mod job_runtime;
mod keeper;
mod launch;
mod leadership;
mod lifeline;
mod looks;
mod measures;
mod metrics;
mod new_job;
mod options;
mod order;
mod outcome;
mod pause;
mod peer;
mod producer;
mod pruner;
mod queues;
mod recorded;
mod reindexer;
mod role;
mod slots;
mod stager;
mod state;
mod stop;
mod taken;
mod unique;
mod worker;
mod young;

pub use attempt::Attempt;
pub use backoff::backoff;
pub use blocking::BLOCKING_MAX;
pub use change::{Change, JobUpdate};
pub use check::QueueCheck;
pub use completer::Completer;
pub use completions::{COMPLETION_BATCH_MAX, Completion, Completions};
pub use context::{JobContext, PROGRESS_CHARS_MAX};
pub use crews::{Crews, MakeProducer};
pub use cron::{Cron, CronArgs};
pub use crontab::{CRON_JOBS_MAX, CRON_ON_TIME_MIN, CronEntry, CronPlan, Crontab};
pub use engine::Engine;
pub use enqueue::Enqueue;
pub use error::QueueError;
pub(crate) use executor::timed_out;
pub use executor::{CANCEL_GRACE, Executor, HANDED_BACK_WAIT, Run, RunContext};
pub use family::META_PARENT_JOB;
pub use foreign::Foreign;
pub use gossip::{Gossip, GossipArgs};
pub use horizon::Horizon;
pub use job::Job;
pub use job_error::JobError;
pub use job_runtime::{JobCodeError, JobRuntime};
pub use keeper::{Began, BeginError, Keeper, KeeperArgs, KeeperMsg};
pub(crate) use launch::start_attempt;
pub use leadership::Leadership;
pub use lifeline::{Lifeline, LifelineArgs};
pub use looks::Looks;
pub use measures::Measures;
pub use metrics::{Metrics, MetricsArgs};
pub use new_job::{
    DELAY_MAX, MAX_ATTEMPTS_DEFAULT, MAX_ATTEMPTS_MAX, NAME_CHARS_MAX, NewJob, PAYLOAD_BYTES_MAX, PAYLOAD_DEPTH_MAX,
    PRIORITY_MAX, Schedule,
};
pub use options::WorkerOptions;
pub use order::{LIMIT_MAX, QueueOrder, ident, ident_of};
pub use outcome::{Ack, ERROR_BYTES_MAX, Outcome, SNOOZE_MAX, ack};
pub use pause::Pause;
pub use peer::{FOREIGN_MEMORY_LEASES, Peer, PeerArgs, PeerMsg, describe_role};
pub use producer::{Producer, ProducerArgs};
pub use pruner::{Pruner, PrunerArgs};
pub use queues::{AddError, QUEUES_MAX, Queues};
pub use recorded::RECORDED_BYTES_MAX;
pub(crate) use recorded::{encoded as encoded_result, recorded as recorded_result};
pub use reindexer::{Reindexer, ReindexerArgs, rebuild};
pub use role::{Foreigner, Role, Sight};
pub use slots::{QueueState, Slot};
pub use stager::{Stager, StagerArgs};
pub use state::State;
pub use stop::{StopCause, StopSignal};
pub use unique::{Replace, ReplaceField, UNIQUE_KEYS_MAX, UNIQUE_PERIOD_DEFAULT, Unique, UniqueField, UniqueTimestamp};
pub use worker::{Executable, Execution, Worker, Workers};
pub(crate) use worker::{check_args, performed};
pub use young::{YOUNG_FOR, Young};
