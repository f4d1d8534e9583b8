//! All integration tests in one binary: linking is the slow part of a test build.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "helpers of tests fail like tests, and their modules are read as if they were crates"
)]

mod support;

mod llm_breaker;
mod llm_outcomes;
mod llm_setup;
mod llm_wire;
