//! `tree events`: what supervisors and operators did, kept in the database, also of instances that are gone.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use super::ask;
use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::{live, output};
use crate::instance::{self, EVENTS_LISTED_MAX, EventRow};
use crate::node::Storage;

/// Characters of what happened that are shown.
const WHAT_CHARS_MAX: usize = 160;

/// Whose, and how many.
#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Only of this instance, which may be offline
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// The newest so many
    #[arg(long, value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(EVENTS_LISTED_MAX)))]
    limit: u32,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    events: Vec<EventRow>,
}

pub(super) async fn run(args: EventsArgs, context: &Context) -> Result<(), Failure> {
    let wanted = args.instance.as_deref();
    let events = context.with_tables(async |storage| {
        let events = newest(storage, wanted, args.limit).await?;
        if let Some(wanted) = wanted.filter(|_| events.is_empty()) {
            let rows = live::instances(storage).await?;
            if rows.iter().all(|row| row.instance_id != wanted) {
                return Err(ask::unknown(wanted, &rows));
            }
        }
        Ok(events)
    });
    let events = events.await?;
    if args.json {
        return output::document("singularity.tree_events.v1", &Listing { events });
    }
    if events.is_empty() {
        output::note("nothing is on record: no death, no crash, no restart and no order of an operator within 30 days");
        return Ok(());
    }
    let now = Utc::now();
    let row = |event: &EventRow| {
        let cells = [event.instance_id.clone(), event.level.clone(), event.path.clone(), event.incarnation.to_string()];
        [vec![output::relative(event.at, now)], cells.to_vec(), vec![what(event)]].concat()
    };
    output::table(&["when", "instance", "level", "actor", "life", "what"], events.iter().map(row).collect());
    Ok(())
}

/// The newest events, oldest first.
pub(in crate::cli) async fn newest(
    storage: &Storage,
    wanted: Option<&str>,
    limit: u32,
) -> Result<Vec<EventRow>, Failure> {
    Ok(instance::events(storage.db(), wanted, limit).await?)
}

/// An event on one line.
pub(in crate::cli) fn line(event: &EventRow, now: DateTime<Utc>) -> String {
    format!("{}  {}  {}", output::relative(event.at, now), event.path, what(event))
}

fn what(event: &EventRow) -> String {
    let detail = |name: &str| event.detail.get(name).and_then(|value| value.as_str());
    let text = match event.event.as_str() {
        "operated" => {
            let why = event.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let refused = event.reason.as_ref().map(|reason| format!(" (refused: {reason})")).unwrap_or_default();
            let by = event.by_whom.as_deref().unwrap_or("unknown");
            format!("{} by {by}{why}{refused}", detail("operation").unwrap_or("order"))
        }
        "started" => "started again".into(),
        "died" => format!("died: {}", event.reason.as_deref().unwrap_or("nobody said why")),
        other => {
            let place = detail("location").map(|location| format!(" at {location}")).unwrap_or_default();
            match &event.reason {
                Some(reason) => format!("{}: {reason}{place}", other.replace('_', " ")),
                None => other.replace('_', " "),
            }
        }
    };
    output::shortened(&text, WHAT_CHARS_MAX)
}
