//! Requests to a static supervisor while it runs: OTP's `start_child`, `terminate_child`, `restart_child`,
//! `delete_child`.

use super::{ChildId, ChildRules, Incarnation};

/// What is asked of a static supervisor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    /// Add a child at the end and start it. The incarnation is the last one its path ever had.
    Start(ChildRules, Incarnation),
    /// Stop a child and keep its spec, unless it is temporary.
    Terminate(ChildId),
    /// Start a child that is down.
    Restart(ChildId),
    /// Drop the spec of a child that is down.
    Delete(ChildId),
}

/// Why a request was refused; the names are OTP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestError {
    AlreadyStarted,
    AlreadyPresent,
    NotFound,
    Running,
    Restarting,
    Zombie,
    /// The start failed; the adapter knows the details.
    Start,
}
