//! What the system says about this process and its machine. Where `/proc` is missing, nothing is said.

use std::fs;
use std::time::Duration;

/// What Linux counts processor time in, whatever the kernel's own clock.
const TICK: Duration = Duration::from_millis(10);

/// Resident memory of this process, in megabytes.
pub(super) fn rss_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes / 1_024.0)
}

/// Processor time that this process has used.
pub(super) fn cpu() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in brackets, may hold anything; the fields are counted from its end.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = |place: usize| fields.split_whitespace().nth(place).and_then(|field| field.parse::<u64>().ok());
    Some(TICK * u32::try_from(ticks(11)? + ticks(12)?).ok()?)
}

/// Load average of the machine over the last minute.
pub(super) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}
