//! `learning show N`: a learning with its evidence, and what each instance made of it.

use clap::Args;
use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::routing;
use crate::cloud::Learning;
use crate::cloud::{Application, LearningStore};

/// Which one.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// Number of the learning
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    id: i64,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    learning: &'a Learning,
    instances: &'a [Application],
}

pub(in crate::cli) async fn run(args: ShowArgs, context: &Context) -> Result<(), Failure> {
    let found = context.with_tables(async |storage| {
        let store = LearningStore::new(storage.db().clone());
        let learning = store.get(args.id).await?.ok_or_else(|| super::not_found(args.id))?;
        Ok((learning, store.applications(args.id).await?, storage.db().server_now().await?))
    });
    let (learning, applications, now) = found.await?;
    if args.json {
        return output::document("singularity.learning.v1", &Shown { learning: &learning, instances: &applications });
    }
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let mut lines = vec![
        pair("learning", format!("{} ({}, version {})", learning.id, learning.kind, learning.schema_version)),
        pair("about", learning.key.clone()),
        pair("says", learning.summary.clone()),
        pair("decided", output::relative(learning.created_at, now)),
        pair("expires", learning.expires_at.map_or_else(|| "never".into(), |at| output::relative(at, now))),
    ];
    lines.extend(learning.rolls_back.map(|id| pair("rolls back", id.to_string())));
    lines.push(pair("payload", serde_json::to_string_pretty(&learning.payload).unwrap_or_default()));
    lines.extend(routing::evidence(&learning.evidence));
    output::pairs(&lines);
    let head = ["instance", "state", "by", "when", "note"];
    output::table(&head, applications.iter().map(|own| row(own, now)).collect());
    if applications.is_empty() {
        output::note("no instance has seen it yet");
    }
    Ok(())
}

fn row(own: &Application, now: chrono::DateTime<chrono::Utc>) -> Vec<String> {
    let replaced = own.replaced_by.map(|id| format!("replaced by {id}"));
    let note: Vec<String> = replaced.into_iter().chain(own.reason.clone()).collect();
    vec![
        own.instance_id.clone(),
        own.state.clone(),
        own.decided_by.clone(),
        output::relative(own.decided_at, now),
        note.join("; "),
    ]
}
