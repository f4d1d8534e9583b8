//! All integration tests in one binary: linking is the slow part of a test build.

mod support;

mod llm_breaker;
mod llm_outcomes;
mod llm_setup;
mod llm_wire;
