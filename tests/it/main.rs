//! The integration tests, one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail like tests; clippy exempts only the test functions themselves"
)]

mod embedded_create;
mod embedded_healing;
mod embedded_sharing;
mod embedded_support;
mod embedded_users;
