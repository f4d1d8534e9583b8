//! `singularity job cancel`, `retry`, `delete` and `update` of all jobs that fit a filter.

use std::collections::BTreeMap;

use serde::Serialize;

use super::change::{allowed, done};
use crate::cli::codes;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::node::Storage;
use crate::queue::engine::{ChangedMany, JobFilter};
use crate::queue::{Change, Engine, State};

/// How many, and whether really.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) limit: Option<u64>,
    pub(super) dry_run: bool,
    /// Whether a deletion was confirmed.
    pub(super) yes: bool,
    pub(super) json: bool,
}

type Counts = BTreeMap<State, u64>;

/// The answer of `--json`. Counts are by the state before; of a dry run, what would be changed without the limit.
#[derive(Serialize)]
struct Report<'a> {
    action: &'static str,
    dry_run: bool,
    limit: Option<u64>,
    changed_total: u64,
    changed: &'a Counts,
    left: &'a Counts,
}

pub(super) async fn run(change: Change, filter: JobFilter, bounds: Bounds, storage: &Storage) -> Result<(), Failure> {
    let engine = Engine::new(storage.db().clone());
    let is_planned = bounds.dry_run || (change == Change::Delete && !bounds.yes);
    let result = if is_planned {
        planned(&change, engine.count_by_state(&filter).await?)
    } else {
        engine.change_all(change.clone(), &filter, bounds.limit).await?
    };
    if is_planned && !bounds.dry_run && result.total() > 0 {
        return Err(unconfirmed(&result, bounds.limit));
    }
    if bounds.json {
        return output::document(
            "singularity.job_change_many.v1",
            &Report {
                action: change.name(),
                dry_run: bounds.dry_run,
                limit: bounds.limit,
                changed_total: result.total(),
                changed: &result.changed,
                left: &result.left,
            },
        );
    }
    output::line(told(&change, &result, bounds));
    left(&change, &result, bounds).iter().for_each(output::note);
    Ok(())
}

/// What would become of jobs in these states.
fn planned(change: &Change, counts: Counts) -> ChangedMany {
    let (changed, left) = counts.into_iter().partition(|(state, _)| change.allows(*state));
    ChangedMany { changed, left }
}

fn unconfirmed(result: &ChangedMany, limit: Option<u64>) -> Failure {
    let total = result.total().min(limit.unwrap_or(u64::MAX));
    Failure::new(
        Exit::Usage,
        codes::UNCONFIRMED,
        format!("this deletes {}, for good; nothing was deleted", jobs(total, &result.changed)),
    )
    .hint("add --yes to delete them, or see them with `singularity job list` and the same options")
}

fn told(change: &Change, result: &ChangedMany, bounds: Bounds) -> String {
    let jobs = jobs(result.total(), &result.changed);
    if !bounds.dry_run {
        return format!("{} {jobs}", done(change));
    }
    let most = bounds.limit.filter(|limit| *limit < result.total());
    let most = most.map(|limit| format!(", the oldest {limit} of them")).unwrap_or_default();
    format!("would {} {jobs}{most}; nothing was changed", change.name())
}

/// What was left, and why.
fn left(change: &Change, result: &ChangedMany, bounds: Bounds) -> Vec<String> {
    let (beyond, refused): (Counts, Counts) =
        result.left.iter().map(|(state, count)| (*state, *count)).partition(|(state, _)| change.allows(*state));
    let mut notes = Vec::new();
    if !refused.is_empty() {
        let total = refused.values().sum();
        let (jobs, name) = (jobs(total, &refused), change.name());
        notes.push(format!("left as they are: {jobs}; {name} is allowed for {}", allowed(change)));
    }
    if !beyond.is_empty() && bounds.limit.is_some_and(|limit| result.total() >= limit) {
        let total = beyond.values().sum();
        notes.push(format!("left for the next time, because of --limit: {}", jobs(total, &beyond)));
    }
    notes
}

/// `12 jobs (10 available, 2 executing)`.
fn jobs(total: u64, counts: &Counts) -> String {
    let noun = if total == 1 { "job" } else { "jobs" };
    let parts: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    if parts.is_empty() { format!("no {noun}") } else { format!("{total} {noun} ({})", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { limit: None, dry_run: false, yes: false, json: false };

    #[test]
    fn tells_what_was_changed_and_what_was_left_and_why() {
        let counts = |list: &[(State, u64)]| list.iter().copied().collect::<Counts>();
        let result = ChangedMany {
            changed: counts(&[(State::Available, 10), (State::Executing, 2)]),
            left: counts(&[(State::Completed, 3), (State::Available, 7)]),
        };
        assert_eq!(told(&Change::Cancel, &result, BOUNDS), "cancelled 12 jobs (10 available, 2 executing)");
        let dry = Bounds { dry_run: true, limit: Some(5), ..BOUNDS };
        let text = told(&Change::Cancel, &result, dry);
        assert!(text.starts_with("would cancel 12 jobs") && text.contains("the oldest 5"), "{text}");
        let notes = left(&Change::Cancel, &result, Bounds { limit: Some(12), ..BOUNDS });
        assert!(notes[0].contains("3 jobs (3 completed)") && notes[0].contains("retryable"), "{notes:?}");
        assert!(notes[1].contains("--limit: 7 jobs (7 available)"), "{notes:?}");
        assert_eq!(told(&Change::Delete, &ChangedMany::default(), BOUNDS), "deleted no jobs");
    }
}
