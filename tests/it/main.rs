//! Integration tests, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "helpers of tests fail as tests do, and nobody outside can reach them"
)]

mod postgres_migrate;
mod postgres_notifier;
mod postgres_pgmq;
mod postgres_pool;
mod support;
