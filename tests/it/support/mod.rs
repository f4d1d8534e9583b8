//! What several tests use.

pub mod provider;
