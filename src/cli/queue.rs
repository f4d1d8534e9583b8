//! `singularity queue`: queues with their jobs, who works on them, and orders to those.

mod fleet;
mod forget;
mod order;
mod show;
mod told;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use self::told::Paused;
use super::context::Context;
use super::exit::Failure;
use super::{live, output};
use crate::instance::{Setting, Settings};
use crate::node::queue_of;
use crate::queue::engine::QueueCounts;
use crate::queue::{Engine, Pause};

/// Queues.
#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// Unfinished jobs of each queue, and the instances that work on it: `queue list`
    List(ListArgs),
    /// One queue on every instance, asked just now, with the jobs that run: `queue show default`
    Show(show::ShowArgs),
    /// Changes how many jobs run at once on each instance: `queue scale default 20 --instance a`
    Scale(order::ScaleArgs),
    /// Lets instances take no more jobs; running ones go on: `queue pause default`
    Pause(order::SwitchArgs),
    /// Lets instances take jobs again: `queue resume default`
    Resume(order::SwitchArgs),
    /// Starts a queue where it does not run: `queue start mailers --limit 5 --instance a`
    Start(order::StartArgs),
    /// Stops a queue: it takes no more jobs and is gone when its running ones have ended: `queue stop mailers`
    Stop(order::StopArgs),
    /// Forgets what was kept for a queue, so that the configuration holds again: `queue forget default`
    Forget(forget::ForgetArgs),
}

/// How to list them.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The instance whose share is shown; without it all
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    queues: Vec<Line>,
    /// Settings of queues that outlive restarts, by `--keep`.
    kept: Vec<Setting>,
}

/// A queue: counts from the table of jobs, instances as of their last heartbeat.
#[derive(Debug, Serialize)]
struct Line {
    #[serde(flatten)]
    counts: QueueCounts,
    instances: Vec<Share>,
}

/// What one instance does for a queue.
#[derive(Debug, Serialize)]
struct Share {
    instance_id: String,
    status: String,
    limit: u64,
    running: u64,
    paused: bool,
    /// Who paused it, where that is known.
    pause: Option<Pause>,
    /// Takes no more jobs and is gone when its running ones have ended.
    stopping: bool,
}

/// Does it.
///
/// # Errors
/// Exit 2 for what no queue can be told, 3 when there is no such queue or instance, 5 when not all instances confirm,
/// and those of the database.
pub(super) async fn run(command: QueueCommand, context: &Context) -> Result<(), Failure> {
    match command {
        QueueCommand::List(args) => list(args, context).await,
        QueueCommand::Show(args) => show::run(args, context).await,
        QueueCommand::Scale(args) => order::scale(args, context).await,
        QueueCommand::Pause(args) => order::pause(args, context).await,
        QueueCommand::Resume(args) => order::resume(args, context).await,
        QueueCommand::Start(args) => order::start(args, context).await,
        QueueCommand::Stop(args) => order::stop(args, context).await,
        QueueCommand::Forget(args) => forget::run(args, context).await,
    }
}

async fn list(args: ListArgs, context: &Context) -> Result<(), Failure> {
    let configured: Vec<&str> = context.config.queues.keys().map(String::as_str).collect();
    let (queues, kept, online) = context
        .with_tables(async |storage| {
            let counts = Engine::new(storage.db().clone()).queue_counts().await?;
            let rows = fleet::choose(storage, args.instance.as_deref()).await?;
            let mut kept = Settings::new(storage.db().clone()).in_force(args.instance.as_deref()).await?;
            kept.retain(|setting| queue_of(&setting.key).is_some());
            Ok((joined(counts, &rows, &configured), kept, rows.len()))
        })
        .await?;
    if args.json {
        return output::document("singularity.queue_list.v1", &Listing { queues, kept });
    }
    let head = [
        "queue",
        "available",
        "oldest",
        "scheduled",
        "executing",
        "retryable",
        "instance",
        "status",
        "running/limit",
        "paused",
    ];
    output::table(&head, queues.iter().flat_map(rows).collect());
    why_paused(&queues, &kept).iter().for_each(output::line);
    if online == 0 {
        output::note("no instance is online; start one with `singularity start`");
    }
    Ok(())
}

/// Who paused what, and which pauses are kept.
fn why_paused(queues: &[Line], kept: &[Setting]) -> Vec<String> {
    let now = chrono::Utc::now();
    let paused = queues.iter().flat_map(|line| {
        line.instances.iter().filter_map(|share| {
            let pause = share.pause.as_ref()?;
            Some(Paused { queue: &line.counts.queue, instance_id: &share.instance_id, pause })
        })
    });
    let mut lines = told::pauses(paused, now);
    for setting in kept {
        if let Some((queue, "paused")) = queue_of(&setting.key)
            && setting.value == true
        {
            lines.push(format!("{queue} {}", told::kept_line(setting, now)));
        }
    }
    lines
}

/// Queues that have unfinished jobs, that one of these instances works on, or that the configuration names.
fn joined(counts: Vec<QueueCounts>, instances: &[crate::instance::InstanceRow], configured: &[&str]) -> Vec<Line> {
    let empty = QueueCounts::none;
    let line = |counts| Line { counts, instances: Vec::new() };
    let mut queues: BTreeMap<String, Line> =
        counts.into_iter().map(|counts| (counts.queue.clone(), line(counts))).collect();
    for name in configured {
        queues.entry((*name).to_owned()).or_insert_with(|| line(empty(name)));
    }
    for row in instances {
        for view in live::queues(row) {
            let queue = queues.entry(view.queue.clone()).or_insert_with(|| line(empty(&view.queue)));
            queue.instances.push(Share {
                instance_id: row.instance_id.clone(),
                status: row.status.clone(),
                limit: view.limit,
                running: view.running,
                paused: view.paused,
                pause: view.pause,
                stopping: view.stopping,
            });
        }
    }
    queues.into_values().collect()
}

/// One row an instance; what is about the queue stands in the first one alone.
fn rows(line: &Line) -> Vec<Vec<String>> {
    let QueueCounts { queue, available, scheduled, executing, retryable, oldest_available_ms } = &line.counts;
    let oldest = oldest_available_ms.map_or_else(|| "-".to_owned(), |ms| output::millis(ms.max(0)));
    let counts = [scheduled, executing, retryable].map(ToString::to_string);
    let of_queue = [vec![queue.clone(), available.to_string(), oldest], counts.to_vec()].concat();
    let of_instance = |share: Option<&Share>| match share {
        Some(share) => vec![
            share.instance_id.clone(),
            share.status.clone(),
            format!("{}/{}", share.running, share.limit),
            match (share.stopping, share.paused) {
                (true, _) => "stopping",
                (false, true) => "yes",
                (false, false) => "no",
            }
            .to_owned(),
        ],
        None => vec!["-".to_owned(), String::new(), String::new(), String::new()],
    };
    let first = [of_queue.clone(), of_instance(line.instances.first())].concat();
    let further = line
        .instances
        .iter()
        .skip(1)
        .map(|share| [vec![String::new(); of_queue.len()], of_instance(Some(share))].concat());
    std::iter::once(first).chain(further).collect()
}
