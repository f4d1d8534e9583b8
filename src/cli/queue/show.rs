//! `queue show NAME`: one queue as every instance has it in this moment.

use clap::Args;
use serde::Serialize;

use super::fleet::{self, Answer};
use super::told::{self, Paused};
use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::{known, output};
use crate::config::Period;
use crate::instance::{Setting, Settings};
use crate::node::queue_of;
use crate::postgres::notifier::message::QUEUE_ANY;
use crate::queue::Engine;
use crate::queue::engine::QueueCounts;

/// What to show.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// The queue
    queue: String,
    /// The instance that is asked; without it all
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
struct Shown<'a> {
    #[serde(flatten)]
    counts: &'a QueueCounts,
    /// Settings that outlive restarts, by `--keep`.
    kept: &'a [Setting],
    instances: &'a [Answer],
}

pub(in crate::cli) async fn run(args: ShowArgs, context: &Context) -> Result<(), Failure> {
    let shown = context.with_tables(async |storage| {
        let engine = Engine::new(storage.db().clone());
        let rows = fleet::choose(storage, args.instance.as_deref()).await?;
        if args.queue != QUEUE_ANY {
            known::queue(storage, context, &args.queue).await?;
        }
        let counts = engine.queue_counts().await?.into_iter().find(|counts| counts.queue == args.queue);
        let mut kept = Settings::new(storage.db().clone()).in_force(args.instance.as_deref()).await?;
        let is_about = |queue: &str| queue == args.queue || queue == QUEUE_ANY;
        kept.retain(|setting| queue_of(&setting.key).is_some_and(|(queue, _)| is_about(queue)));
        let body = serde_json::json!({ "queue": args.queue });
        Ok((counts, kept, fleet::ask_all(storage, &rows, &body, args.timeout.get()).await))
    });
    let (counts, kept, answers) = Box::pin(shown).await?;
    let counts = counts.unwrap_or_else(|| QueueCounts::none(&args.queue));
    if args.json {
        output::document("singularity.queue.v1", &Shown { counts: &counts, kept: &kept, instances: &answers })?;
    } else {
        people(&counts, &answers);
        let now = chrono::Utc::now();
        kept.iter().for_each(|setting| output::line(told::kept_line(setting, now)));
    }
    fleet::unconfirmed(&answers).map_or(Ok(()), Err)
}

fn people(counts: &QueueCounts, answers: &[Answer]) {
    let QueueCounts { queue, available, scheduled, executing, retryable, oldest_available_ms } = counts;
    let oldest =
        oldest_available_ms.map(|ms| format!(" (the oldest for {})", output::millis(ms.max(0)))).unwrap_or_default();
    output::line(format!(
        "{queue}: {available} available{oldest}, {scheduled} scheduled, {executing} executing, {retryable} retryable"
    ));
    if answers.is_empty() {
        output::note("no instance is online; start one with `singularity start`");
        return;
    }
    output::table(&fleet::HEAD, answers.iter().flat_map(|answer| fleet::rows(answer, queue)).collect());
    let checks = || answers.iter().flat_map(|answer| &answer.queues);
    let paused = checks().filter_map(|check| {
        let pause = check.pause.as_ref()?;
        Some(Paused { queue: &check.queue, instance_id: &check.node, pause })
    });
    told::pauses(paused, chrono::Utc::now()).iter().for_each(output::line);
    for check in checks().filter(|check| !check.running.is_empty()) {
        let ids: Vec<String> = check.running.iter().map(ToString::to_string).collect();
        output::line(format!("running on {}: {}", check.node, ids.join(", ")));
    }
}
