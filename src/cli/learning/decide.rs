//! `learning apply`, `reject`: a person's word about a learning, on one instance or on all, also those that see it
//! later.

use clap::Args;
use serde::Serialize;

use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cli::routing::fleet;
use crate::cli::tree::ask;
use crate::cloud::Learning;
use crate::cloud::{By, Decided, LearningStore};
use crate::config::Period;
use crate::error::Coded;

/// Which one, and for whom.
#[derive(Debug, Args)]
pub(in crate::cli) struct DecideArgs {
    /// Number of the learning
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    id: i64,
    /// Only on this instance; without it on all, also on those that see it later
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Why, for those who read `learning show` afterwards
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Longest wait for the instances' answers
    #[arg(long, value_name = "PERIOD", default_value = "10s")]
    timeout: Period,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Done<'a> {
    learning_id: i64,
    instances: &'a [Decided],
}

pub(in crate::cli) async fn run(args: DecideArgs, apply: bool, context: &Context) -> Result<(), Failure> {
    let done = context.with_tables(async |storage| {
        let store = LearningStore::new(storage.db().clone());
        let learning = store.get(args.id).await?.ok_or_else(|| super::not_found(args.id))?;
        if apply {
            check(&learning, storage.db().server_now().await?)?;
        }
        fleet::check(storage, args.instance.as_deref()).await?;
        let author = ask::by()?;
        let by = By { author: &author, reason: args.reason.as_deref() };
        let decided = store.decide(args.id, args.instance.as_deref(), apply, by).await?;
        // They look at it now rather than later.
        Ok((decided, fleet::ask_all(storage, args.instance.as_deref(), args.timeout.get()).await?))
    });
    let (decided, answers) = Box::pin(done).await?;
    if args.json {
        output::document("singularity.learning_decision.v1", &Done { learning_id: args.id, instances: &decided })?;
    } else {
        output::table(&["instance", "before", "now", "note"], decided.iter().map(row).collect());
    }
    if decided.is_empty() {
        output::note("no instance has seen it yet; it holds when they do");
    }
    if let Some(failure) = fleet::unanswered(&answers) {
        return Err(failure);
    }
    let replaced = decided.iter().filter_map(|own| own.replaced_by).max();
    match replaced {
        // A policy older than its own is refused.
        Some(later) if apply && decided.iter().all(|own| own.replaced_by.is_some()) => {
            let text = format!("learning {} has no effect: {later} is about the same, newer, and applied", args.id);
            Err(Failure::new(Exit::Conflict, codes::REPLACED, text)
                .hint(format!("reject it first: `singularity learning reject {later}`")))
        }
        _ => Ok(()),
    }
}

/// Refuses what no instance could apply.
fn check(learning: &Learning, now: chrono::DateTime<chrono::Utc>) -> Result<(), Failure> {
    let (reason, hint) = match learning.read() {
        Err(error) => (format!("{}: {error}", error.code()), error.hint()),
        Ok(_) if learning.is_expired(now) => ("it has expired".to_owned(), None),
        Ok(_) => return Ok(()),
    };
    let text = format!("learning {} cannot be applied: {reason}", learning.id);
    let hint = hint.unwrap_or_else(|| "see `singularity learning list` for those that can".into());
    Err(Failure::new(Exit::Conflict, codes::NOT_APPLICABLE, text).hint(hint))
}

fn row(own: &Decided) -> Vec<String> {
    let note = match own.replaced_by {
        Some(id) => format!("learning {id} holds instead"),
        None => String::new(),
    };
    vec![own.instance_id.clone(), own.before.clone(), own.state.clone(), note]
}
