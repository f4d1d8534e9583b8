//! The conformance suite of supervision: each row of OTP's and Elixir's own suites that carries over, and ours, as a
//! test through the public interface. `rows.rs` lists the rows and keeps `docs/otp-conformance.md` and the tests equal.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    unreachable_pub,
    reason = "helpers of tests fail as tests do, and nobody outside can reach them"
)]

mod kit;
mod log;
mod rows;

mod dynamic_restarts;
mod dynamic_starts;
mod escalation;
mod extra_ends;
mod extra_lives;
mod extra_scale;
mod names;
mod partition;
mod requests;
mod restart_loops;
mod restart_types;
mod scale;
mod significant;
mod significant_update;
mod specs;
mod start_dynamic;
mod start_static;
mod stop_dynamic;
mod stop_static;
mod strategies;
mod tree;
mod update;
