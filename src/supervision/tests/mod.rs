//! Tests of the adapter beyond OTP's own suite, which `tests/otp` follows through the public interface. Those whose
//! names begin with a row of it need what is not public. Most run on one thread under tokio's paused clock.

mod addresses;
mod boot;
mod dynamic;
mod exits;
mod kit;
mod operate;
mod reports;
mod restarts;
mod snapshots;
mod starts;
mod stops;
mod stress;
mod tasks;
mod zombies;
