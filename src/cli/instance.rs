//! `singularity instance`: who is there.

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
    /// Instances that are there, with their load and last heartbeat: `instance list`
    List(ListArgs),
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
    let head = ["instance", "status", "leader", "heartbeat", "load", "queues", "workers", "host", "pid", "version"];
    output::table(&head, instances.iter().map(row).collect());
    if !args.all && offline > 0 {
        output::note(format!("{offline} offline; see them with --all"));
    } else if instances.is_empty() {
        output::note("no instance was ever here; start one with `singularity start`");
    }
    Ok(())
}

fn row(row: &InstanceRow) -> Vec<String> {
    let queues = live::queues(row).into_iter().map(|view| {
        let paused = if view.paused { " paused" } else { "" };
        format!("{} {}/{}{paused}", view.queue, view.running, view.limit)
    });
    vec![
        row.instance_id.clone(),
        row.status.clone(),
        if row.leader { "yes" } else { "no" }.to_owned(),
        format!("{} ago", output::millis(row.heartbeat_age_ms)),
        row.load.to_string(),
        queues.collect::<Vec<_>>().join(", "),
        live::workers(row).join(", "),
        row.hostname.clone(),
        row.pid.clone(),
        row.version.clone(),
    ]
}
