//! What integration tests share.

pub mod db;
pub mod heard;
pub mod node;
pub mod process;
pub mod provider;
pub mod proxy;
pub mod rows;
pub mod said;
