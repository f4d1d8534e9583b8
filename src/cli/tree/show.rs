//! `tree`, `tree PATH`, `tree --watch`: what runs now.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Value, json};

use super::ask::{self, Chosen};
use super::{COMMANDS, actor, events, view};
use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cli::signals::Stops;
use crate::config::{Period, nearest};
use crate::instance::{EventRow, InstanceRow};
use crate::node::Storage;

/// Longest wait for an answer; a live node looks at least once a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Shortest time between two looks of `--watch`.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Events that are shown of an instance that is offline.
const LAST_EVENTS: u32 = 10;

/// Whose tree, and how much of it.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// One actor in detail, for example /services/stager; without it the whole tree
    path: Option<String>,
    /// Only this instance; without it all that are online
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Levels below the root, or below PATH, that are shown; 0 is that one alone
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Looks again and again until it is interrupted
    #[arg(long)]
    watch: bool,
    /// Time between two looks of --watch
    #[arg(long, value_name = "PERIOD", default_value = "1s", requires = "watch")]
    interval: Period,
    /// One JSON document; with --watch one a line
    #[arg(long)]
    json: bool,
}

/// What was seen.
#[derive(Serialize)]
struct Listing {
    at: DateTime<Utc>,
    instances: Vec<Seen>,
}

#[derive(Serialize)]
struct Seen {
    instance_id: String,
    status: String,
    last_heartbeat: DateTime<Utc>,
    #[serde(flatten)]
    what: What,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Tree(Value),
    Actor(Value),
    /// It is offline; the last events that were kept.
    Events(Vec<EventRow>),
}

/// What was seen, and what could not be.
type Look = (Listing, Option<Failure>);

pub(super) async fn run(args: ShowArgs, context: &Context) -> Result<(), Failure> {
    if let Some(word) = args.path.as_deref().filter(|path| !path.starts_with('/'))
        && let Some(command) = nearest(word, COMMANDS)
    {
        let text = format!("\"{word}\" is neither a command nor the path of an actor, which begins with \"/\"");
        return Err(Failure::new(Exit::Usage, codes::NO_TREE_COMMAND, text).hint(format!("singularity tree {command}")));
    }
    if args.watch {
        return watch(&args, context).await;
    }
    let (listing, failure) = context.with_tables(async |storage| look(storage, &args).await).await?;
    if args.json {
        output::document(schema(&args), &listing)?;
    } else {
        output::line(text(&listing, &args)?);
    }
    failure.map_or(Ok(()), Err)
}

fn schema(args: &ShowArgs) -> &'static str {
    if args.path.is_some() { "singularity.actor.v1" } else { "singularity.tree.v1" }
}

/// Looks until it is interrupted, or nobody reads any more. That an instance or the database is away is told, and is no
/// end.
async fn watch(args: &ShowArgs, context: &Context) -> Result<(), Failure> {
    let mut stops = Stops::listen()?;
    let storage = tokio::select! {
        storage = context.migrated() => storage?,
        () = stops.next() => return Err(Failure::silent(Exit::Interrupted)),
    };
    let watched = tokio::select! {
        watched = looks(&storage, args) => watched,
        () = stops.next() => Err(Failure::silent(Exit::Interrupted)),
    };
    storage.close().await;
    watched
}

/// One look after another, as long as somebody reads.
async fn looks(storage: &Storage, args: &ShowArgs) -> Result<(), Failure> {
    let interval = args.interval.get().max(INTERVAL_MIN);
    let mut told_before = String::new();
    loop {
        let (shown, failure) = match Box::pin(look(storage, args)).await {
            Ok((listing, failure)) if args.json => (output::document_text(schema(args), &listing)?, failure),
            Ok((listing, failure)) => (text(&listing, args)?, failure),
            Err(failure) => (String::new(), Some(failure)),
        };
        let told = failure.map(|failure| failure.to_string()).unwrap_or_default();
        let in_picture = output::is_terminal() && !args.json;
        if !in_picture && !told.is_empty() && told != told_before {
            output::note(&told);
        }
        let is_read = if args.json {
            shown.is_empty() || output::is_read(&shown)
        } else {
            let time = Utc::now().format("%Y-%m-%d %H:%M:%S UTC");
            // On a terminal what went wrong is part of the picture, or it would be painted over.
            output::repaint(&format!("{time}\n{shown}\n{}", if in_picture { &told } else { "" }))
        };
        if !is_read {
            return Ok(());
        }
        told_before = told;
        tokio::time::sleep(interval).await;
    }
}

async fn look(storage: &Storage, args: &ShowArgs) -> Result<Look, Failure> {
    let at = Utc::now();
    let rows = match ask::choose(storage, args.instance.as_deref()).await? {
        Chosen::Live(rows) => rows,
        Chosen::Offline(row) => {
            let events = events::newest(storage, Some(&row.instance_id), LAST_EVENTS).await?;
            let failure = ask::offline(&row);
            return Ok((Listing { at, instances: vec![seen(*row, What::Events(events))] }, Some(failure)));
        }
    };
    let (action, body) = match &args.path {
        None => ("tree", json!({})),
        Some(path) => ("actor", json!({ "path": path })),
    };
    let answers = rows.into_iter().map(|row| {
        let body = &body;
        async move {
            let answer = ask::ask(storage, &row, action, body, ANSWER_LIMIT).await;
            (row, answer)
        }
    });
    let (mut instances, mut failures) = (Vec::new(), Vec::new());
    for (row, answer) in join_all(answers).await {
        match answer {
            Ok(mut answer) => {
                let tree = if args.path.is_some() { answer.get_mut("node") } else { Some(&mut answer) };
                if let (Some(tree), Some(depth)) = (tree, args.depth) {
                    view::prune(tree, depth);
                }
                let what = if args.path.is_some() { What::Actor(answer) } else { What::Tree(answer) };
                instances.push(seen(row, what));
            }
            Err(failure) => failures.push(failure),
        }
    }
    Ok((Listing { at, instances }, Failure::all(failures)))
}

fn seen(row: InstanceRow, what: What) -> Seen {
    Seen { instance_id: row.instance_id, status: row.status, last_heartbeat: row.last_heartbeat, what }
}

fn text(listing: &Listing, args: &ShowArgs) -> Result<String, Failure> {
    let mut lines = Vec::new();
    for seen in &listing.instances {
        let id = &seen.instance_id;
        let strange = |error| ask::strange(id, &error);
        match &seen.what {
            What::Tree(tree) => {
                lines.push(format!("{id} {}", seen.status));
                lines.push(view::tree(tree, listing.at).map_err(strange)?);
            }
            What::Actor(detail) => {
                lines.push(format!("{id} {}", seen.status));
                lines.extend(actor::lines(detail, args.depth, listing.at).map_err(strange)?);
            }
            What::Events(events) => {
                let heartbeat = output::relative(seen.last_heartbeat, listing.at);
                lines.push(format!("{id} {}, last heartbeat {heartbeat}", seen.status));
                let none = events.is_empty().then(|| "no crash, no restart and no order is known of it".to_owned());
                lines.extend(none);
                lines.extend(events.iter().map(|event| events::line(event, listing.at)));
            }
        }
    }
    Ok(lines.join("\n"))
}
