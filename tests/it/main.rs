//! Integration tests in one binary: linking is the slow part of a test build.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "helpers of tests fail as tests do, and nobody outside can reach them"
)]

mod embedded_create;
mod embedded_healing;
mod embedded_sharing;
mod embedded_support;
mod embedded_users;
