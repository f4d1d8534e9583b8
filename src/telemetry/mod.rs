//! What an instance says about itself while it runs: log lines on stderr.
//!
//! Targets: `job` (one line a finished attempt), `oban` (what services did, by Oban's names: [`oban`]), `queue`,
//! `instance`, `postgres`, `llm`, and `sup.*` for supervision. Arguments, prompts and answers are never logged.

#[cfg(feature = "cli")]
pub mod logs;
pub mod oban;
