//! `singularity embedding`: stored vectors, and what is like a text.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::codes;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::output;
use crate::llm::{Gateway, LlmError};
use crate::workflow::{Collection, Entry, Found, LISTING_MAX, Query, SEARCH_LIMIT_MAX, SearchError, Vectors};

/// Characters of a text that a table shows.
const CONTENT_CHARS_MAX: usize = 60;

/// Stored vectors.
#[derive(Debug, Subcommand)]
pub(super) enum EmbeddingCommand {
    /// Stored texts that are most like a text: `embedding search "failed jobs" --collection docs`
    Search(SearchArgs),
    /// Collections, or the keys of one: `embedding list --collection docs`
    List(ListArgs),
}

/// What to search for.
#[derive(Debug, Args)]
pub(super) struct SearchArgs {
    /// The text
    text: String,
    /// Only in this collection
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    /// Model whose vectors are compared [default: that of [workflows.embedding]]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// At most so many, the best first
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=SEARCH_LIMIT_MAX as i64))]
    limit: u16,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// What to list.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The keys of this collection
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    /// Only keys after this one, for the next page
    #[arg(long, value_name = "KEY", requires = "collection")]
    after: Option<String>,
    /// At most so many keys
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=LISTING_MAX))]
    limit: i64,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct SearchAnswer<'a> {
    text: &'a str,
    model: &'a str,
    /// The vector of the text was made without a model.
    simulated: bool,
    cost_nanousd: Option<i64>,
    #[serde(flatten)]
    found: &'a Found,
}

#[derive(Serialize)]
struct Collections<'a> {
    collections: &'a [Collection],
}

#[derive(Serialize)]
struct Entries<'a> {
    collection: &'a str,
    entries: &'a [Entry],
    /// For `--after`, where there may be more.
    next_after: Option<&'a str>,
}

/// Does it.
///
/// # Errors
/// Those of the database, of the model, and a collection that is not there.
pub(super) async fn run(command: EmbeddingCommand, context: &Context) -> Result<(), Failure> {
    match command {
        EmbeddingCommand::Search(args) => search(args, context).await,
        EmbeddingCommand::List(args) => list(args, context).await,
    }
}

async fn search(args: SearchArgs, context: &Context) -> Result<(), Failure> {
    let gateway = Gateway::new(&context.config).map_err(|problems| {
        let failures = problems.iter().map(|problem| Failure::coded(Exit::Config, problem)).collect();
        Failure::all(failures).unwrap_or_else(|| Failure::silent(Exit::Config))
    })?;
    let model = args.model.as_deref().unwrap_or(&context.config.workflows.embedding.model);
    let (embedded, found, now) = context
        .with_tables(async |storage| {
            let key = uuid::Uuid::now_v7().to_string();
            let embedded = gateway.embed(model, &[&args.text], &key).await.map_err(|error| not_embedded(&error))?;
            let vector = embedded.vectors.first().map(Vec::as_slice).unwrap_or_default();
            let query = Query { vector, model, collection: args.collection.as_deref(), limit: usize::from(args.limit) };
            let found = Vectors::new(storage.db().clone()).search(&query).await.map_err(|error| match error {
                SearchError::Db(error) => Failure::from(error),
                error @ SearchError::TooMany { .. } => Failure::coded(Exit::Failed, &error),
            })?;
            Ok((embedded, found, storage.db().server_now().await?))
        })
        .await?;
    if args.json {
        let answer = SearchAnswer {
            text: &args.text,
            model,
            simulated: embedded.simulated,
            cost_nanousd: embedded.cost.nanousd,
            found: &found,
        };
        return output::document("singularity.embedding_search.v1", &answer);
    }
    let rows = found.matches.iter().map(|found| {
        vec![
            format!("{:.3}", found.likeness),
            found.collection.clone(),
            found.key.clone(),
            output::relative(found.updated_at, now),
            output::shortened(&found.content, CONTENT_CHARS_MAX),
        ]
    });
    output::table(&["likeness", "collection", "key", "stored", "text"], rows.collect());
    output::note(format!("{} vectors of model {model} were compared", found.compared));
    if found.not_comparable > 0 {
        let count = found.not_comparable;
        output::note(format!(
            "{count} others are of another model; name it with --model (`embedding list` shows them)"
        ));
    }
    if embedded.simulated {
        output::note("simulated: likeness of spelling, made without a model");
    }
    Ok(())
}

fn not_embedded(error: &LlmError) -> Failure {
    Failure::coded(if error.sent { Exit::Unavailable } else { Exit::Usage }, error)
}

async fn list(args: ListArgs, context: &Context) -> Result<(), Failure> {
    let Some(collection) = args.collection else { return collections(args.json, context).await };
    let (entries, now) = context
        .with_tables(async |storage| {
            let vectors = Vectors::new(storage.db().clone());
            let entries = vectors.entries(&collection, args.after.as_deref(), args.limit).await?;
            if entries.is_empty() && args.after.is_none() {
                let names = vectors.collections().await?;
                let mut names: Vec<&str> = names.iter().map(|row| row.collection.as_str()).collect();
                names.dedup();
                let known = if names.is_empty() { "none".into() } else { names.join(", ") };
                let text = format!("there is no collection {collection:?}; there are {known}");
                let hint = "name one of these, or enqueue a job of embedding that fills it";
                return Err(Failure::new(Exit::NotFound, codes::NO_COLLECTION, text).hint(hint));
            }
            Ok((entries, storage.db().server_now().await?))
        })
        .await?;
    let is_full = i64::try_from(entries.len()).is_ok_and(|shown| shown == args.limit);
    let next_after = entries.last().filter(|_| is_full).map(|entry| entry.key.as_str());
    if args.json {
        let answer = Entries { collection: &collection, entries: &entries, next_after };
        return output::document("singularity.embedding_keys.v1", &answer);
    }
    let rows = entries.iter().map(|entry| {
        vec![
            entry.key.clone(),
            model_shown(&entry.model, entry.simulated),
            entry.dimensions.to_string(),
            entry.job_id.to_string(),
            output::relative(entry.updated_at, now),
            output::shortened(&entry.content, CONTENT_CHARS_MAX),
        ]
    });
    output::table(&["key", "model", "dimensions", "job", "stored", "text"], rows.collect());
    if let Some(key) = next_after {
        output::note(format!("more with --after {key:?}"));
    }
    Ok(())
}

async fn collections(json: bool, context: &Context) -> Result<(), Failure> {
    let (collections, now): (Vec<Collection>, DateTime<Utc>) = context
        .with_tables(async |storage| {
            Ok((Vectors::new(storage.db().clone()).collections().await?, storage.db().server_now().await?))
        })
        .await?;
    if json {
        return output::document("singularity.embedding_list.v1", &Collections { collections: &collections });
    }
    let rows = collections.iter().map(|row| {
        vec![
            row.collection.clone(),
            model_shown(&row.model, row.simulated),
            row.dimensions.to_string(),
            row.vectors.to_string(),
            row.vector_bytes.to_string(),
            output::relative(row.updated_at, now),
        ]
    });
    output::table(&["collection", "model", "dimensions", "vectors", "bytes", "last stored"], rows.collect());
    if collections.is_empty() {
        output::note("no vectors are stored; enqueue a job, for example embedding with --args '{\"text\": \"hello\"}'");
    }
    Ok(())
}

fn model_shown(model: &str, simulated: bool) -> String {
    if simulated { format!("{model} (simulated)") } else { model.to_owned() }
}
