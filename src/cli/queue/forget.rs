//! `queue forget NAME`: ends what `--keep` began, and shows what each instance has then.

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::fleet::{self, Answer};
use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::config::Period;
use crate::instance::Settings;
use crate::node::keys_of;

/// What to forget.
#[derive(Debug, Args)]
pub(in crate::cli) struct ForgetArgs {
    /// The queue, or '*' for what was kept for all of them together
    queue: String,
    /// Only what was kept for this instance; without it all, also that of single instances
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Longest wait for the instances' answers
    #[arg(long, value_name = "PERIOD", default_value = "10s")]
    timeout: Period,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Forgotten<'a> {
    queue: &'a str,
    /// Settings that there were.
    forgotten: u64,
    instances: &'a [Answer],
}

pub(in crate::cli) async fn run(args: ForgetArgs, context: &Context) -> Result<(), Failure> {
    let done = context.with_tables(async |storage| {
        let settings = Settings::new(storage.db().clone());
        let forgotten = settings.forget(args.instance.as_deref(), &keys_of(&args.queue)).await?;
        // One that is offline hears of it when it starts.
        let rows = fleet::online(storage, args.instance.as_deref()).await?;
        let body = json!({ "queue": args.queue, "settings": true });
        Ok((forgotten, fleet::ask_all(storage, &rows, &body, args.timeout.get()).await))
    });
    let (forgotten, answers) = Box::pin(done).await?;
    if forgotten == 0 {
        let text = format!("nothing is kept for queue \"{}\"", args.queue);
        return Err(Failure::new(Exit::NotFound, codes::NOTHING_KEPT, text).hint("see `singularity queue show NAME`"));
    }
    if args.json {
        let document = Forgotten { queue: &args.queue, forgotten, instances: &answers };
        output::document("singularity.queue_forget.v1", &document)?;
    } else {
        output::table(&fleet::HEAD, answers.iter().flat_map(|answer| fleet::rows(answer, &args.queue)).collect());
    }
    fleet::unconfirmed(&answers).map_or(Ok(()), Err)
}
