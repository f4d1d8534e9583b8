//! What integration tests share.

pub mod db;
pub mod proxy;
