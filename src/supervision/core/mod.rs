//! The pure half of supervision: data, checks and decisions.
//!
//! Nothing here is async, reads a clock, draws a random number or knows ractor. Time comes in as a `Duration` since any
//! fixed origin; what must be done comes out as an ordered list of effects. So every rule of OTP's `supervisor` can be
//! tested as a table, without a runtime.
//!
//! Invariants: at most one incarnation per child id; starts in list order; stops in reverse order; no more than
//! `max_restarts` restarts within `period`.

mod backoff;
mod dynamic;
mod effect;
mod exit;
mod ids;
mod intensity;
mod machine;
mod plan;
mod request;
mod spec;

#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use exit::{CrashInfo, ERROR_TEXT_BYTES_MAX, ErrorInfo, ExitReason};
pub use ids::{ChildId, Incarnation, Path};
pub use spec::{
    AutoShutdown, CHILDREN_MAX, ChildKind, ChildRules, ID_BYTES_MAX, Intensity, MAX_RESTARTS_MAX, OnZombie, Restart,
    Shutdown, SpecError, Strategy,
};

pub(crate) use dynamic::{DynamicEvent, DynamicMachine};
pub(crate) use effect::{ChildState, Effect, Key, NumberMap, Report, is_expected};
pub(crate) use exit::truncate;
pub(crate) use machine::{Event, Machine};
pub(crate) use request::{Request, RequestError, Update};
pub(crate) use spec::{names, validate_group};
