//! `singularity cron`: periodic jobs, when they are due next, and what became of the last ones.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::exit::Failure;
use super::{live, output};
use crate::config::CatchUp;
use crate::cron::Zone;
use crate::instance::InstanceRow;
use crate::queue::engine::CronOverview;
use crate::queue::{Crontab, Engine, Workers};

/// Periodic jobs.
#[derive(Debug, Subcommand)]
pub(super) enum CronCommand {
    /// Entries of the configuration with their next time and their last job: `cron list`
    List(ListArgs),
}

/// How to list them.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Listing {
    /// Who inserts the jobs.
    leader: Option<String>,
    entries: Vec<Line>,
    /// Entries that others led with and this configuration lacks.
    elsewhere: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    expr: String,
    timezone: Zoned,
    worker: String,
    /// `null` where the options of the worker say it.
    queue: Option<String>,
    catch_up: CatchUp,
    /// `null` for `@reboot`.
    next_at: Option<DateTime<Utc>>,
    /// Time of the last job; the job, and its state if it was not deleted.
    last_at: Option<DateTime<Utc>>,
    last_job_id: Option<i64>,
    last_job_state: Option<String>,
    /// Why its jobs wait although they are due, if they do; nodes of other runtimes are not asked.
    obstacle: Option<String>,
}

/// A zone, written as its name.
#[derive(Debug, Clone, Copy)]
struct Zoned(Zone);

impl Serialize for Zoned {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

/// Does it.
///
/// # Errors
/// Those of the database.
pub(super) async fn run(command: CronCommand, context: &Context) -> Result<(), Failure> {
    let CronCommand::List(args) = command;
    let leader = &context.config.services.leader;
    let crontab = Crontab::new(&context.config.cron, leader.lease.get(), &Workers::default())?;
    let (overview, instances) = context
        .with_tables(async |storage| {
            let overview = Engine::new(storage.db().clone()).cron_overview(&leader.name).await?;
            Ok((overview, live::instances(storage).await?))
        })
        .await?;
    let now = overview.now;
    let listing = listing(context, &crontab, overview, &instances);
    if args.json {
        return output::document("singularity.cron_list.v1", &listing);
    }
    let head = ["entry", "expression", "zone", "next", "last", "job", "state", "worker", "queue", "catch up"];
    output::table(&head, listing.entries.iter().map(|line| row(line, now)).collect());
    if listing.entries.is_empty() {
        output::note("no periodic job is configured; add a table [cron.NAME] with expr and worker");
    } else if !instances.iter().any(live::is_live) {
        output::note("no instance is online, so no job is inserted; start one with `singularity start`");
    }
    for line in &listing.entries {
        if let Some(obstacle) = &line.obstacle {
            output::note(format!("{}: {obstacle}", line.name));
        }
    }
    if !listing.elsewhere.is_empty() {
        output::note(format!("not in this configuration, but known from others: {}", listing.elsewhere.join(", ")));
    }
    Ok(())
}

fn listing(context: &Context, crontab: &Crontab, overview: CronOverview, instances: &[InstanceRow]) -> Listing {
    let is_anyone_online = instances.iter().any(live::is_live);
    let entries = crontab.iter().filter_map(|entry| {
        let config = context.config.cron.get(entry.name())?;
        let row = overview.rows.iter().find(|row| row.name == entry.name());
        Some(Line {
            name: entry.name().to_owned(),
            expr: entry.expression().to_string(),
            timezone: Zoned(entry.zone()),
            worker: config.worker.clone(),
            queue: config.queue.clone(),
            catch_up: config.catch_up,
            next_at: entry.next(overview.now),
            last_at: row.and_then(|row| row.due_at),
            last_job_id: row.and_then(|row| row.job_id),
            last_job_state: row.and_then(|row| row.state.clone()),
            obstacle: is_anyone_online
                .then(|| live::obstacle(instances, &config.worker, config.queue.as_deref()))
                .flatten(),
        })
    });
    let entries: Vec<Line> = entries.collect();
    let elsewhere =
        overview.rows.into_iter().map(|row| row.name).filter(|name| !context.config.cron.contains_key(name));
    Listing { leader: overview.leader, entries, elsewhere: elsewhere.collect() }
}

fn row(line: &Line, now: DateTime<Utc>) -> Vec<String> {
    let zone = line.timezone.0;
    let moment = |at: DateTime<Utc>| {
        format!("{} ({})", at.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z"), output::relative(at, now))
    };
    let state = match (line.last_job_id, &line.last_job_state) {
        (None, _) => "-",
        (Some(_), None) => "deleted",
        (Some(_), Some(state)) => state,
    };
    let catch_up = match line.catch_up {
        CatchUp::None => "none",
        CatchUp::Last => "last",
        CatchUp::All => "all",
    };
    vec![
        line.name.clone(),
        line.expr.clone(),
        zone.name().to_owned(),
        line.next_at.map_or("when a node first leads".into(), moment),
        line.last_at.map_or("-".into(), moment),
        line.last_job_id.map_or("-".into(), |id| id.to_string()),
        state.to_owned(),
        line.worker.clone(),
        line.queue.clone().unwrap_or_else(|| "its worker's".into()),
        catch_up.to_owned(),
    ]
}
