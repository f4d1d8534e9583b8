//! What the operating system allows this process.

use super::Check;
use crate::config::Config;

/// Open files of a node beside its connections: logs, locks, the runtimes' own.
const FILES_OWN: u64 = 64;
/// Open files of a running job: a connection to its provider and one that is being made.
const FILES_PER_JOB: u64 = 2;
/// Where Linux tells limits.
const LIMITS: &str = "/proc/self/limits";

/// Whether as many files may be open as the queues' limits can need.
pub(super) fn file_descriptors(config: &Config) -> Check {
    let jobs: u64 = config.queues.values().map(|queue| u64::from(queue.limit)).sum();
    let needed = FILES_OWN + u64::from(config.database.pool_max) + FILES_PER_JOB * jobs;
    match std::fs::read_to_string(LIMITS) {
        Ok(text) => judge(soft_limit(&text), needed),
        Err(error) => Check::warn(
            "open_files",
            format!("{LIMITS} cannot be read: {error}"),
            format!("see that ulimit -n is at least {needed}"),
        ),
    }
}

fn judge(limit: Option<u64>, needed: u64) -> Check {
    match limit {
        Some(limit) if limit < needed => Check::warn(
            "open_files",
            format!("{limit} are allowed, and the queues' limits can need {needed}"),
            format!("ulimit -n {needed}, or lower the limits of the queues"),
        ),
        Some(u64::MAX) => Check::ok("open_files", format!("no limit, {needed} needed at most")),
        Some(limit) => Check::ok("open_files", format!("{limit} allowed, {needed} needed at most")),
        None => Check::warn("open_files", "the limit is unknown", format!("see that ulimit -n is at least {needed}")),
    }
}

/// The soft limit of open files; `unlimited` is the largest number.
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn reads_the_soft_limit() {
        let text = |soft: &str| {
            format!("Limit  Soft Limit  Hard Limit  Units\nMax open files            {soft}     4096    files\n")
        };
        assert_eq!(soft_limit(&text("1024")), Some(1024));
        assert_eq!(soft_limit(&text("unlimited")), Some(u64::MAX));
        assert_eq!(soft_limit("Max processes 5 5"), None);
    }

    #[test]
    fn warns_when_the_queues_can_need_more() {
        assert_eq!(judge(Some(100), 101).status, Status::Warn);
        assert_eq!(judge(Some(101), 101).status, Status::Ok);
        assert_eq!(judge(None, 101).status, Status::Warn);
    }
}
