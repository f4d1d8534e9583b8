//! What integration tests share.

pub mod db;
pub mod process;
pub mod provider;
pub mod proxy;
