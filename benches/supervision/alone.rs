//! What is measured by a process of its own: memory, and starts by how many there are, because both depend on what the
//! process has used before.

use std::fmt;
use std::process::Command;
use std::str::FromStr;

use super::ours::Ours;
use super::table::{ROUNDS, started_bare, started_by_us};
use super::{bare, on_one_thread};

/// Tells a process what it is to measure.
const TASK: &str = "SUPERVISION_BENCH_ALONE";
/// Processes that measure starts, one after the other.
const PROCESSES: usize = 5;
/// Children with which such a process begins, so that nothing is measured that it does but once.
const WARM_UP: u64 = 100;

/// Whose children.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of a supervisor of ours.
    Supervised,
    /// Of a bare actor.
    Bare,
}

/// Microseconds that the start of one child takes, of so many that are started one after the other.
pub struct Start {
    /// In memory that the process has not used before: the system's time for it is in this.
    pub new: f64,
    /// In memory that as many children had before them, as far as the allocator has kept it.
    pub again: f64,
}

/// What starts cost by how many there are: the medians of several processes.
pub fn start(kind: Kind, children: u64) -> Start {
    let figures = |told: String| told.split_whitespace().map(|figure| figure.parse().unwrap()).collect::<Vec<f64>>();
    let all: Vec<_> = (0..PROCESSES).map(|_| figures(ask(&format!("start {kind} {children}")))).collect();
    let median_of = |place: usize| median(all.iter().map(|figures| figures[place]).collect());
    Start { new: median_of(0), again: median_of(1) }
}

/// Bytes that each child adds; `None` where the system does not tell.
pub fn rss(kind: Kind, children: u64) -> Option<f64> {
    ask(&format!("rss {kind} {children}")).trim().parse().ok()
}

fn ask(task: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap()).env(TASK, task).output().unwrap();
    assert!(output.status.success(), "{task}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What this process was started to measure, as text.
pub fn task() -> Option<String> {
    let task = std::env::var(TASK).ok()?;
    let words: Vec<_> = task.split_whitespace().collect();
    let number = |text: &str| text.parse().unwrap();
    Some(match words[..] {
        ["start", kind, children] => start_here(kind.parse().unwrap(), number(children)),
        ["rss", kind, children] => {
            rss_here(kind.parse().unwrap(), number(children)).map(|bytes| bytes.to_string()).unwrap_or_default()
        }
        _ => format!("{TASK} is unknown: {task}"),
    })
}

fn start_here(kind: Kind, children: u64) -> String {
    let each = |children: u64| {
        let took = match kind {
            Kind::Supervised => started_by_us(1, children),
            Kind::Bare => started_bare(1, children, 1).ran,
        };
        took.as_secs_f64() * 1e6 / f64::from(u32::try_from(children).unwrap())
    };
    each(WARM_UP);
    let new = each(children);
    let again = median((0..ROUNDS).map(|_| each(children)).collect());
    format!("{new} {again}")
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn rss_here(kind: Kind, children: u64) -> Option<f64> {
    let (before, after) = on_one_thread(async move {
        let ours = Ours::start(1).await;
        let parent = bare::parent().await;
        let before = resident()?;
        match kind {
            Kind::Supervised => drop(ours.children(children).await),
            Kind::Bare => drop(bare::start(&parent, children, bare::MANY).await),
        }
        Some((before, resident()?))
    })?;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    Some(after.saturating_sub(before) as f64 / children as f64)
}

/// Resident memory of this process in bytes.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    // Page size of every platform with /proc that this is developed on.
    Some(pages * 4096)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Supervised { "supervised" } else { "bare" })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Supervised, Self::Bare];
        all.into_iter().find(|kind| kind.to_string() == text).ok_or_else(|| format!("no kind of children: {text}"))
    }
}
