//! `learning list`: the log, the latest first.

use clap::Args;
use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cloud::Kind;
use crate::cloud::{LEARNINGS_LISTED_MAX, LearningStore, Listed};

/// Characters of a summary in a table.
const SUMMARY_CHARS_MAX: usize = 80;

/// Which ones.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = Kind::ALL.map(Kind::as_str))]
    kind: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(i64).range(1..=LEARNINGS_LISTED_MAX))]
    limit: i64,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    learnings: Vec<Listed>,
}

pub(in crate::cli) async fn run(args: ListArgs, context: &Context) -> Result<(), Failure> {
    let (learnings, now) = context
        .with_tables(async |storage| {
            let store = LearningStore::new(storage.db().clone());
            Ok((store.list(args.kind.as_deref(), args.limit).await?, storage.db().server_now().await?))
        })
        .await?;
    if args.json {
        return output::document("singularity.learning_list.v1", &Listing { learnings });
    }
    let head = ["id", "type", "about", "decided", "expires", "instances", "summary"];
    let row = |of: &Listed| {
        let learning = &of.learning;
        let back = learning.rolls_back.map(|id| format!("rolls back {id}: ")).unwrap_or_default();
        vec![
            learning.id.to_string(),
            learning.kind.clone(),
            learning.key.clone(),
            output::relative(learning.created_at, now),
            learning.expires_at.map_or_else(|| "never".to_owned(), |at| output::relative(at, now)),
            states(of),
            output::shortened(&format!("{back}{}", learning.summary), SUMMARY_CHARS_MAX),
        ]
    };
    output::table(&head, learnings.iter().map(row).collect());
    if learnings.is_empty() {
        output::note("nothing was learned yet; CentralCloud learns from results (`singularity start --role central`)");
    }
    Ok(())
}

/// `3 applied, 1 proposed`
fn states(of: &Listed) -> String {
    if of.states.is_empty() {
        return "not seen yet".into();
    }
    of.states.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}
