//! Singularity: an actor runtime that runs Oban's PostgreSQL queues under OTP supervision.
//!
//! | Module | What it is |
//! | --- | --- |
//! | [`node`] | one instance, assembled, started and stopped |
//! | [`cloud`] | what the fleet learns, and how it is told |
//! | [`testing`] | helpers for tests of workers and of code that enqueues |
//! | [`workflow`] | steps with checkpoints; the `llm_request` workflow |
//! | [`routing`] | which model serves which request |
//! | [`queue`] | jobs: insert, claim, execute, complete |
//! | [`instance`] | identity, heartbeat, the lease to work, questions from outside |
//! | [`llm`] | providers of models, usage, prices, errors |
//! | [`postgres`] | pool, migrations, notifications, the embedded server |
//! | [`supervision`] | OTP's supervisors on `ractor` |
//! | [`config`] | `actors.toml` |
//! | [`cron`] | expressions of periodic jobs and their moments in a time zone |
//! | [`telemetry`] | logs, and what services did by Oban's names |
//!
//! Features: `cli` is the command line of the binary, `embedded-postgres` the server that runs where no database is
//! named. Both are on by default; the library works without them.

#[cfg(feature = "cli")]
pub mod cli;
pub mod cloud;
pub mod config;
pub mod cron;
pub mod error;
pub mod instance;
pub mod llm;
pub mod node;
pub mod postgres;
pub mod queue;
pub mod routing;
pub mod supervision;
pub mod telemetry;
pub mod testing;
pub mod workflow;
