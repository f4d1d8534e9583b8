//! What integration tests share.

pub mod db;
pub mod heard;
pub mod node;
pub mod process;
pub mod provider;
pub mod proxy;
pub mod rows;
pub mod said;

/// Says that a test was left out, and why: in a line that is not captured, as what it prints would be.
pub fn skipped(why: &str) {
    use std::io::Write;
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
}
