//! `singularity instance`: who is there.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::exit::Failure;
use super::{live, output};
use crate::instance::InstanceRow;

/// Instances.
#[derive(Debug, Subcommand)]
pub(super) enum InstanceCommand {
    /// Instances that are there, with their load and last heartbeat: `instance list`
    List(ListArgs),
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
/// Those of the database.
pub(super) async fn run(command: InstanceCommand, context: &Context) -> Result<(), Failure> {
    let InstanceCommand::List(args) = command;
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
