//! `instance show ID`: everything that is known of one instance, also when it is gone.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::status;
use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::tree::{ask, events};
use crate::cli::{live, output};
use crate::instance::{EventRow, HELD_JOBS_MAX, HeldJob, InstanceRow, Setting, Settings, held_jobs};

/// Events that are shown; `tree events` has more.
const EVENTS_MAX: u32 = 10;

/// Which one.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// The instance, which may be offline
    id: String,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// How an instance that is offline ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Ending {
    /// `died`, `stopped` in order, or `silent`: without a heartbeat, and nobody has taken its jobs over yet.
    how: &'static str,
    /// When; of one that is silent or stopped, its last heartbeat.
    at: DateTime<Utc>,
    /// What those say who counted it as dead.
    reason: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    row: InstanceRow,
    /// Null while it is there.
    ended: Option<Ending>,
    /// What it executes, or still holds.
    jobs: Vec<HeldJob>,
    /// Settings that outlive restarts and hold for it.
    kept: Vec<Setting>,
    /// The newest ones, oldest first.
    events: Vec<EventRow>,
}

pub(super) async fn run(args: ShowArgs, context: &Context) -> Result<(), Failure> {
    let shown = context.with_tables(async |storage| {
        let mut rows = live::instances(storage).await?;
        let Some(at) = rows.iter().position(|row| row.instance_id == args.id) else {
            return Err(ask::unknown(&args.id, &rows));
        };
        let row = rows.swap_remove(at);
        let events = events::newest(storage, Some(&args.id), EVENTS_MAX).await?;
        let jobs = held_jobs(storage.db(), &args.id).await?;
        let kept = Settings::new(storage.db().clone()).in_force(Some(&args.id)).await?;
        Ok(Shown { ended: ending(&row, &events), row, jobs, kept, events })
    });
    let shown = Box::pin(shown).await?;
    if args.json {
        return output::document("singularity.instance.v1", &shown);
    }
    people(&shown);
    Ok(())
}

/// How it ended, if it did.
fn ending(row: &InstanceRow, events: &[EventRow]) -> Option<Ending> {
    if live::is_live(row) {
        return None;
    }
    let at = row.last_heartbeat;
    Some(if row.died {
        let death = events.iter().rev().find(|event| event.event == "died" && event.process == row.incarnation);
        Ending {
            how: "died",
            at: death.map_or(at, |event| event.at),
            reason: death.and_then(|event| event.reason.clone()),
        }
    } else {
        Ending { how: if row.registered_status == "offline" { "stopped" } else { "silent" }, at, reason: None }
    })
}

fn people(shown: &Shown) {
    let (row, now) = (&shown.row, Utc::now());
    let moment = |at: DateTime<Utc>| format!("{}, {}", output::relative(at, now), at.format("%F %T UTC"));
    let state = match &shown.ended {
        None => status(row),
        Some(Ending { how: "silent", .. }) => {
            format!("{}: no heartbeat for too long, and nobody has counted it as dead yet", status(row))
        }
        Some(Ending { at, reason, .. }) => {
            let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{} {}{reason}", status(row), output::relative(*at, now))
        }
    };
    let stale_after = output::millis(row.stale_after_ms);
    let mut pairs = vec![
        ("instance", row.instance_id.clone()),
        ("state", state),
        ("host", format!("{}, process {}", row.hostname, row.pid)),
        ("version", row.version.clone()),
        ("started", row.started_at.map_or_else(|| "unknown".into(), moment)),
        ("heartbeat", format!("{}; it counts as dead {stale_after} after its last one", moment(row.last_heartbeat))),
        ("first seen", moment(row.created_at)),
        ("workers", live::workers(row).join(", ")),
        ("offers", offers(row)),
    ];
    pairs.extend(shown.kept.iter().map(|setting| ("kept", kept(setting, now))));
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    output::pairs(&pairs);

    let queues = live::queues(row);
    if !queues.is_empty() {
        output::line("");
        let rows = queues.iter().map(queue);
        match shown.ended {
            None => output::table(&["queue", "limit", "running", "state"], rows.collect()),
            // What they do now, nobody knows.
            Some(_) => {
                let head = ["queue", "limit", "ran at its last heartbeat"];
                output::table(&head, rows.map(|row| row.into_iter().take(head.len()).collect()).collect());
            }
        }
    }
    if !shown.jobs.is_empty() {
        output::line("");
        output::table(
            &["job", "queue", "worker", "attempt", "claimed"],
            shown.jobs.iter().map(|job| held(job, now)).collect(),
        );
    }
    if shown.jobs.len() >= HELD_JOBS_MAX {
        output::note(format!("the first {HELD_JOBS_MAX} jobs that it executes"));
    }
    if !shown.events.is_empty() {
        output::line("");
        shown.events.iter().for_each(|event| output::line(events::line(event, now)));
        if shown.events.len() == EVENTS_MAX as usize {
            output::note(format!(
                "the newest {EVENTS_MAX}; more with `singularity tree events --instance {}`",
                row.instance_id
            ));
        }
    }
}

/// What it says of itself beside its workers: `llm, embedding, region=north`.
fn offers(row: &InstanceRow) -> String {
    let named = row.capabilities.as_object().into_iter().flatten().filter(|(name, _)| *name != "workers");
    let told = named.filter_map(|(name, value)| match value {
        Value::Bool(true) => Some(name.clone()),
        Value::Bool(false) | Value::Null => None,
        other => Some(format!("{name}={other}")),
    });
    told.collect::<Vec<_>>().join(", ")
}

fn kept(setting: &Setting, now: DateTime<Utc>) -> String {
    let reason = setting.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let whom = if setting.instance_id.is_empty() { " for all" } else { "" };
    let set = output::relative(setting.set_at, now);
    format!("{} = {}{whom}, by {}, {set}{reason}", setting.key, setting.value, setting.author)
}

fn queue(view: &live::QueueView) -> Vec<String> {
    let state = if view.stopping {
        "stopping"
    } else if view.paused {
        "paused"
    } else {
        "runs"
    };
    vec![view.queue.clone(), view.limit.to_string(), view.running.to_string(), state.to_owned()]
}

fn held(job: &HeldJob, now: DateTime<Utc>) -> Vec<String> {
    vec![
        job.id.to_string(),
        job.queue.clone(),
        job.worker.clone(),
        format!("{}/{}", job.attempt, job.max_attempts),
        job.attempted_at.map_or_else(|| "-".into(), |at| output::relative(at, now)),
    ]
}
