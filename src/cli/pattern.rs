//! `singularity pattern`: ways of working that succeeded again and again, as CentralCloud knows them.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::{codes, output};
use crate::cloud::{PATTERNS_LISTED_MAX, PatternRow, PatternStore};
use crate::config::nearest;

/// Patterns.
#[derive(Debug, Subcommand)]
pub(super) enum PatternCommand {
    /// Patterns, those that were seen most often first: `pattern list`
    List(ListArgs),
    /// One pattern with its definition, and the instances that have it: `pattern show "classifier>coder"`
    Show(ShowArgs),
}

/// How many.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(i64).range(1..=PATTERNS_LISTED_MAX))]
    limit: i64,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Which one.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Its name
    name: String,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    patterns: Vec<PatternRow>,
}

/// Does it.
///
/// # Errors
/// Exit 3 when there is no such pattern, and those of the database.
pub(super) async fn run(command: PatternCommand, context: &Context) -> Result<(), Failure> {
    match command {
        PatternCommand::List(args) => list(args, context).await,
        PatternCommand::Show(args) => show(args, context).await,
    }
}

async fn list(args: ListArgs, context: &Context) -> Result<(), Failure> {
    let patterns = context
        .with_tables(async |storage| Ok(PatternStore::new(storage.db().clone()).list(None, args.limit).await?))
        .await?;
    if args.json {
        return output::document("singularity.pattern_list.v1", &Listing { patterns });
    }
    let head = ["pattern", "seen", "succeeded", "source", "learning", "instances", "last seen"];
    let now = chrono::Utc::now();
    let row = |of: &PatternRow| {
        vec![
            of.name.clone(),
            of.occurrences.to_string(),
            of.successes.to_string(),
            of.source.clone(),
            of.learning_id.map_or_else(|| "-".into(), |id| id.to_string()),
            of.instances.join(", "),
            output::relative(of.last_seen, now),
        ]
    };
    output::table(&head, patterns.iter().map(row).collect());
    if patterns.is_empty() {
        output::note("no pattern is known yet; jobs name theirs in job_results.patterns_discovered");
    }
    Ok(())
}

async fn show(args: ShowArgs, context: &Context) -> Result<(), Failure> {
    let found = context
        .with_tables(async |storage| {
            let store = PatternStore::new(storage.db().clone());
            match store.list(Some(&args.name), 1).await?.pop() {
                Some(pattern) => Ok(pattern),
                None => Err(not_found(&args.name, &store.list(None, PATTERNS_LISTED_MAX).await?)),
            }
        })
        .await?;
    if args.json {
        return output::document("singularity.pattern.v1", &found);
    }
    let pair = |name: &str, value: String| (name.to_owned(), value);
    output::pairs(&[
        pair("pattern", found.name),
        pair("definition", serde_json::to_string_pretty(&found.definition).unwrap_or_default()),
        pair("source", found.source),
        pair("seen", format!("{} times, {} of them successes", found.occurrences, found.successes)),
        pair("first seen", found.first_seen.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
        pair("last seen", found.last_seen.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
        pair("learning", found.learning_id.map_or_else(|| "none yet".into(), |id| id.to_string())),
        pair("instances", found.instances.join(", ")),
    ]);
    Ok(())
}

fn not_found(name: &str, known: &[PatternRow]) -> Failure {
    let failure = Failure::new(Exit::NotFound, codes::NO_PATTERN, format!("there is no pattern \"{name}\""));
    match nearest(name, known.iter().map(|of| of.name.as_str())) {
        Some(near) => failure.hint(format!("did you mean \"{near}\"?")),
        None => failure.hint("see `singularity pattern list`"),
    }
}
