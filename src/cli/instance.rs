//! `singularity instance`: who is there, and what is known of each.

mod show;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::tree::ask;
use super::{codes, live, output};
use crate::cloud::SyncStore;
use crate::instance::{InstanceError, InstanceRow};

/// Instances.
#[derive(Debug, Subcommand)]
pub(super) enum InstanceCommand {
    /// Instances that are there, since when, with their last heartbeat and queues: `instance list`
    List(ListArgs),
    /// Everything that is known of an instance, also of one that died: `instance show b`
    Show(show::ShowArgs),
    /// Drops the queue of learnings of an instance that will not come back: `instance forget b`
    Forget(ForgetArgs),
}

/// Which one.
#[derive(Debug, Args)]
pub(super) struct ForgetArgs {
    /// The instance, which is offline
    id: String,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Forgotten<'a> {
    instance_id: &'a str,
}

/// Which ones.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Also those that are offline
    #[arg(long)]
    all: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    instances: Vec<InstanceRow>,
}

/// Does it.
///
/// # Errors
/// Exit 3 when there is nothing of such an instance, 4 when it is online, and those of the database.
pub(super) async fn run(command: InstanceCommand, context: &Context) -> Result<(), Failure> {
    match command {
        InstanceCommand::List(args) => list(args, context).await,
        InstanceCommand::Show(args) => show::run(args, context).await,
        InstanceCommand::Forget(args) => forget(args, context).await,
    }
}

/// Results that it left behind are still reported by others, and what it made of learnings stays known. When it comes
/// back after all it follows the log from the beginning.
async fn forget(args: ForgetArgs, context: &Context) -> Result<(), Failure> {
    context
        .with_tables(async |storage| {
            let rows = live::instances(storage).await?;
            if let Some(row) = rows.iter().find(|row| row.instance_id == args.id && live::is_live(row)) {
                let error = InstanceError::InUse {
                    instance_id: row.instance_id.clone(),
                    hostname: row.hostname.clone(),
                    pid: row.pid.clone(),
                    age_ms: row.heartbeat_age_ms,
                };
                let hint = "stop it first; a living instance needs its queue";
                return Err(Failure::coded(Exit::Conflict, &error).hint(hint));
            }
            if SyncStore::new(storage.db().clone()).leave(&args.id).await? {
                return Ok(());
            }
            Err(match rows.iter().any(|row| row.instance_id == args.id) {
                true => {
                    let text = format!("instance \"{}\" has no queue of learnings", args.id);
                    Failure::new(Exit::NotFound, codes::NOTHING_KEPT, text)
                }
                false => ask::unknown(&args.id, &rows),
            })
        })
        .await?;
    if args.json {
        return output::document("singularity.instance_forget.v1", &Forgotten { instance_id: &args.id });
    }
    output::line(format!("instance {} hears of no more learnings; it may still come back", args.id));
    Ok(())
}

async fn list(args: ListArgs, context: &Context) -> Result<(), Failure> {
    let mut instances = context.with_tables(async |storage| live::instances(storage).await).await?;
    let offline = instances.iter().filter(|row| !live::is_live(row)).count();
    if !args.all {
        instances.retain(live::is_live);
    }
    if args.json {
        return output::document("singularity.instance_list.v1", &Listing { instances });
    }
    let head = ["instance", "status", "started", "heartbeat", "queues", "host", "pid", "version"];
    let now = Utc::now();
    output::table(&head, instances.iter().map(|of| row(of, now)).collect());
    if !args.all && offline > 0 {
        output::note(format!("{offline} offline; see them with --all"));
    } else if instances.is_empty() {
        output::note("no instance was ever here; start one with `singularity start`");
    }
    Ok(())
}

/// In a word or two; of one that is offline how it ended, where that is known.
fn status(row: &InstanceRow) -> String {
    match (live::is_live(row), row.leader) {
        (true, true) => format!("{}, leader", row.status),
        (true, false) => row.status.clone(),
        (false, _) if row.died => "offline, died".to_owned(),
        (false, _) if row.registered_status == "offline" => "offline, stopped".to_owned(),
        (false, _) => "offline, silent".to_owned(),
    }
}

fn row(row: &InstanceRow, now: DateTime<Utc>) -> Vec<String> {
    let queues = live::queues(row).into_iter().filter(|_| live::is_live(row)).map(|view| {
        let paused = if view.paused { " paused" } else { "" };
        format!("{} {}/{}{paused}", view.queue, view.running, view.limit)
    });
    let queues = queues.collect::<Vec<_>>().join(", ");
    vec![
        row.instance_id.clone(),
        status(row),
        row.started_at.map_or_else(|| "-".into(), |at| output::relative(at, now)),
        format!("{} ago", output::millis(row.heartbeat_age_ms)),
        if queues.is_empty() { "-".to_owned() } else { queues },
        row.hostname.clone(),
        row.pid.clone(),
        row.version.clone(),
    ]
}
