//! What integration tests share.

pub mod db;
pub mod provider;
pub mod proxy;
