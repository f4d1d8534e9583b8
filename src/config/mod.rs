//! Configuration: `actors.toml`, its layers and its checks.
//!
//! `model.rs` is the result as types; `schema.rs` the same keys as data, with ranges; `load.rs` the order of the
//! layers. A configuration that loads is valid: whoever gets a [`Config`] from [`load`] need not check it again. Fields
//! that a program sets are checked by [`Config::check`], which a node does when it starts.

mod agent;
mod check;
mod cloud;
mod command;
mod cron;
mod cron_unique;
mod document;
mod embedding;
mod ground;
mod instance_view;
mod kind;
mod layer;
mod limits;
mod load;
mod model;
mod origin;
mod overlay;
mod overlooked;
mod period;
mod print;
mod problem;
mod routes;
mod rules;
mod schema;
mod secret;
mod suggest;
#[cfg(test)]
mod tests;
mod walk;

pub use agent::{Agent, AgentWorkflow, SimulatedAnswer};
pub use cloud::{Apply, Central, Cloud, Role};
pub use command::{Command, CommandOutput, ExitMeaning};
pub use cron::{CatchUp, Cron, Object};
pub use cron_unique::{CronUnique, UNIQUE_FIELDS, UNIQUE_STATES, UNIQUE_TIMESTAMPS};
pub use embedding::{EmbeddingModel, EmbeddingWorkflow, ModelKind};
pub use ground::{Database, Embedded, Indexes, Instance, Mode, Runtime};
pub use limits::{Budget, BudgetPeriod, Limits};
pub use load::{ENV_PREFIX, FILE_NAME, Loaded, SHIPPED, Source, load};
pub use model::*;
pub use origin::Origin;
pub use overlooked::{Overlooked, overlooked};
pub use period::{Period, PeriodOrOff};
pub use print::{Entry, entries, print};
pub use problem::{ConfigErrors, Excerpt, Fault, Problem};
pub use routes::ConfiguredRoute;
pub use secret::SecretRef;
pub(crate) use suggest::nearest;
