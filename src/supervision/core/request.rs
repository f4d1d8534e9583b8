//! Requests to a static supervisor while it runs: OTP's `start_child`, `terminate_child`, `restart_child`,
//! `delete_child`, and what operators ask for beyond OTP.

use super::{AutoShutdown, ChildId, ChildRules, Incarnation, Intensity, Strategy};

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
    /// Stop a child in order, with those that the strategy restarts along with it, and start them again. Counts as no
    /// failure. OTP has no such request.
    Cycle(ChildId),
    /// Take over a changed specification.
    Update(Box<Update>),
}

/// A changed specification, OTP's `code_change`: flags are replaced and children matched by id. Running children stay
/// as they are and take new rules; new ones are known but not started; those that are no longer listed are kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Update {
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    pub(crate) auto_shutdown: AutoShutdown,
    /// In list order, with the last incarnation of each path.
    pub(crate) children: Vec<(ChildRules, Incarnation)>,
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
    /// A temporary child cannot be started a second time.
    Temporary,
    /// The start failed; the adapter knows the details.
    Start,
}
