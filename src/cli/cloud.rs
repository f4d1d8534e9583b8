//! `singularity cloud`: how far the instances have reported, what CentralCloud has, and what nobody could use.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::exit::Failure;
use super::output;
use crate::cloud::{LETTERS_MAX, Letter, Overview, QueueRow, Reporter, Totals};

/// Characters of a message in a table.
const MESSAGE_CHARS: usize = 60;

/// Reports of the instances, and what CentralCloud made of them.
#[derive(Debug, Subcommand)]
pub(super) enum CloudCommand {
    /// Reports, queues and totals: `cloud show`
    Show(ShowArgs),
    /// Messages that nobody could use, with the reasons: `cloud dead`
    Dead(DeadArgs),
}

/// How to show it.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Which ones.
#[derive(Debug, Args)]
pub(super) struct DeadArgs {
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(LETTERS_MAX)))]
    limit: u32,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown {
    totals: Totals,
    reporters: Vec<Reporter>,
    queues: Vec<QueueRow>,
}

#[derive(Serialize)]
struct Dead {
    letters: Vec<Letter>,
}

/// Does it.
///
/// # Errors
/// Those of the database.
pub(super) async fn run(command: CloudCommand, context: &Context) -> Result<(), Failure> {
    match command {
        CloudCommand::Show(args) => show(&args, context).await,
        CloudCommand::Dead(args) => dead(&args, context).await,
    }
}

async fn show(args: &ShowArgs, context: &Context) -> Result<(), Failure> {
    let shown = context.with_tables(async |storage| {
        let overview = Overview::new(storage.db().clone());
        let (totals, reporters) = (overview.totals().await?, overview.reporters().await?);
        Ok((Shown { totals, reporters, queues: overview.queues().await? }, storage.db().server_now().await?))
    });
    let (shown, now) = Box::pin(shown).await?;
    if args.json {
        return output::document("singularity.cloud.v1", &shown);
    }
    let totals = &shown.totals;
    output::pairs(&[
        ("attempts".into(), format!("{}, {} successful", totals.attempts, totals.successes)),
        ("cost".into(), output::dollars(Some(totals.cost_nanousd))),
        ("tokens".into(), totals.tokens.to_string()),
        ("kept".into(), format!("{} results, {} reports", totals.results, totals.reports)),
        ("learnings".into(), totals.learnings.to_string()),
    ]);
    output::line("");
    let head = ["instance", "status", "reports", "last report", "unreported"];
    let row = |row: &Reporter| {
        vec![
            row.instance_id.clone(),
            row.status.clone().unwrap_or_else(|| "forgotten".into()),
            row.reports.to_string(),
            if row.reports == 0 { "-".into() } else { output::relative(row.reported_at, now) },
            row.unreported.to_string(),
        ]
    };
    output::table(&head, shown.reporters.iter().map(row).collect());
    output::line("");
    let row = |row: &QueueRow| {
        let oldest = row.oldest_ms.map_or_else(|| "-".into(), output::millis);
        vec![row.queue.clone(), row.messages.to_string(), oldest, row.dead.to_string()]
    };
    output::table(&["queue", "messages", "oldest", "dead letters"], shown.queues.iter().map(row).collect());
    if shown.queues.iter().any(|queue| queue.dead > 0) {
        output::note("see why with `singularity cloud dead`");
    }
    Ok(())
}

async fn dead(args: &DeadArgs, context: &Context) -> Result<(), Failure> {
    let letters = context.with_tables(async |storage| {
        Ok((Overview::new(storage.db().clone()).letters(args.limit).await?, storage.db().server_now().await?))
    });
    let (letters, now) = Box::pin(letters).await?;
    if args.json {
        return output::document("singularity.cloud_dead.v1", &Dead { letters });
    }
    let row = |letter: &Letter| {
        let message = letter.message.as_ref().map_or_else(|| "NULL".into(), ToString::to_string);
        vec![
            letter.queue.clone(),
            letter.msg_id.map_or_else(|| "-".into(), |id| id.to_string()),
            output::relative(letter.at, now),
            letter.reads.map_or_else(|| "-".into(), |reads| reads.to_string()),
            letter.reason.clone(),
            output::shortened(&message, MESSAGE_CHARS),
        ]
    };
    output::table(&["queue", "message", "put aside", "reads", "reason", "content"], letters.iter().map(row).collect());
    if letters.is_empty() {
        output::note("every message could be used");
    }
    Ok(())
}
