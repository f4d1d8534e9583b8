//! Singularity: an actor runtime that runs Oban's PostgreSQL queues under OTP supervision.

pub mod config;
pub mod error;
pub mod llm;
