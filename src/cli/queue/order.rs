//! `queue scale`, `pause`, `resume`, `start`, `stop`: orders to one instance or to all, and what each has afterwards.
//!
//! An order goes out as Oban's signal, which every Oban node obeys in whatever language, and to each instance of ours
//! also as a request, because signals can be lost and nobody answers them. Both say the same, so either is enough.

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::fleet::{self, Answer};
use super::told;
use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::tree::ask;
use crate::cli::{known, output};
use crate::config::{Period, Queue};
use crate::instance::{Authorship, REASON_CHARS_MAX, Settings};
use crate::node::{kept, queue_of};
use crate::postgres::notifier::message::{IDENT_ANY, QUEUE_ANY};
use crate::queue::{Engine, QueueOrder};

/// Whom an order is for.
#[derive(Debug, Args)]
pub(in crate::cli) struct Whom {
    /// The instance that it is for; without it all
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Longest wait for the instances' answers
    #[arg(long, value_name = "PERIOD", default_value = "10s")]
    timeout: Period,
    /// Keep it over restarts, also for instances that start later; `queue forget` ends that. What is kept for '*' holds
    /// for the queues of the configuration and those that are kept started
    #[arg(long)]
    keep: bool,
    /// Why, for those who read `queue show`, `queue list` or `tree events` afterwards
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Keep it for so long, then go back to what the configuration says
    #[arg(long = "for", value_name = "PERIOD", requires = "keep")]
    lasts: Option<Period>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// `queue pause`, `resume`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SwitchArgs {
    /// The queue, or '*' for all
    queue: String,
    #[command(flatten)]
    whom: Whom,
}

/// `queue stop`.
#[derive(Debug, Args)]
pub(in crate::cli) struct StopArgs {
    /// The queue
    queue: String,
    #[command(flatten)]
    whom: Whom,
}

/// `queue scale`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ScaleArgs {
    /// The queue
    queue: String,
    /// Jobs that run at once on each instance; 1 to 10,000
    #[arg(value_name = "N")]
    limit: u32,
    #[command(flatten)]
    whom: Whom,
}

/// `queue start`.
#[derive(Debug, Args)]
pub(in crate::cli) struct StartArgs {
    /// The queue
    queue: String,
    /// Jobs that run at once on each instance; 1 to 10,000. Default: what the configuration says, or 10
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Start without taking jobs
    #[arg(long)]
    paused: bool,
    #[command(flatten)]
    whom: Whom,
}

/// What came of an order.
#[derive(Serialize)]
struct Done<'a> {
    order: &'static str,
    queue: &'a str,
    /// Every instance that it was for.
    instances: &'a [Answer],
}

pub(in crate::cli) async fn pause(args: SwitchArgs, context: &Context) -> Result<(), Failure> {
    run(QueueOrder::Pause { queue: args.queue }, &args.whom, context).await
}

pub(in crate::cli) async fn resume(args: SwitchArgs, context: &Context) -> Result<(), Failure> {
    run(QueueOrder::Resume { queue: args.queue }, &args.whom, context).await
}

pub(in crate::cli) async fn scale(args: ScaleArgs, context: &Context) -> Result<(), Failure> {
    run(QueueOrder::Scale { queue: args.queue, limit: args.limit }, &args.whom, context).await
}

pub(in crate::cli) async fn start(args: StartArgs, context: &Context) -> Result<(), Failure> {
    let configured = context.config.queues.get(&args.queue).map(|queue| queue.limit);
    let limit = args.limit.or(configured).unwrap_or(Queue::default().limit);
    run(QueueOrder::Start { queue: args.queue, limit, paused: args.paused }, &args.whom, context).await
}

pub(in crate::cli) async fn stop(args: StopArgs, context: &Context) -> Result<(), Failure> {
    run(QueueOrder::Stop { queue: args.queue }, &args.whom, context).await
}

async fn run(order: QueueOrder, whom: &Whom, context: &Context) -> Result<(), Failure> {
    order.check()?;
    let ordered = context.with_tables(async |storage| {
        let engine = Engine::new(storage.db().clone());
        let rows = match whom.keep {
            // It holds from the next start of those that are not there now.
            true => fleet::online(storage, whom.instance.as_deref()).await?,
            false => fleet::choose(storage, whom.instance.as_deref()).await?,
        };
        if !matches!(order, QueueOrder::Start { .. }) && order.queue() != QUEUE_ANY {
            known::queue(storage, context, order.queue()).await?;
        }
        let why = whom.reason.as_deref().map(|why| why.chars().take(REASON_CHARS_MAX).collect::<String>());
        let mut body = json!({ "signal": order.signal(IDENT_ANY), "why": why });
        let settings = Settings::new(storage.db().clone());
        let mut undone_by = Vec::new();
        if whom.keep {
            let author = ask::by()?;
            let lasts = whom.lasts.map(|lasts| lasts.get());
            let by = Authorship { author: &author, reason: whom.reason.as_deref(), lasts };
            settings.keep(whom.instance.as_deref(), &kept(&order), &by).await?;
            body["settings"] = true.into();
        } else {
            let all = settings.in_force(None).await?;
            undone_by = told::against(&order, whom.instance.as_deref(), &all).into_iter().cloned().collect();
        }
        engine.order(&context.config.services.leader.name, whom.instance.as_deref(), &order).await?;
        Ok((fleet::ask_all(storage, &rows, &body, whom.timeout.get()).await, undone_by))
    });
    let (answers, undone_by) = Box::pin(ordered).await?;
    if whom.json {
        output::document(
            "singularity.queue_order.v1",
            &Done { order: order.name(), queue: order.queue(), instances: &answers },
        )?;
    } else {
        output::table(&fleet::HEAD, answers.iter().flat_map(|answer| fleet::rows(answer, order.queue())).collect());
        say_what_is_going_on(&order, &answers);
    }
    for setting in &undone_by {
        let (line, queue) =
            (told::kept_line(setting, chrono::Utc::now()), queue_of(&setting.key).map_or("", |of| of.0));
        let ends = format!("`singularity queue forget '{queue}'` ends that, and --keep replaces it");
        output::note(format!("what is kept comes back when an instance starts: {line}; {ends}"));
    }
    if answers.is_empty() && whom.keep {
        output::note("no instance that it is for is online; it holds from their next start");
        return Ok(());
    }
    if answers.is_empty() {
        let text = "no instance is online; Oban nodes in other languages were told, if there are any";
        return Err(Failure::new(Exit::NotFound, codes::NOBODY_ONLINE, text).hint("start one with `singularity start`"));
    }
    fleet::unconfirmed(&answers).map_or(Ok(()), Err)
}

/// What the table does not say of itself.
fn say_what_is_going_on(order: &QueueOrder, answers: &[Answer]) {
    let checks = || answers.iter().flat_map(|answer| &answer.queues);
    match order {
        QueueOrder::Scale { limit, .. } => {
            let above = checks().filter(|check| check.running.len() > *limit as usize).count();
            if above > 0 {
                output::note("where more run than the limit, they go on; nothing new begins until they are fewer");
            }
        }
        QueueOrder::Start { limit, paused, .. } => {
            if checks().any(|check| check.limit != *limit || check.paused != *paused) {
                output::note("a queue that ran already is not changed by a start; use scale, pause or resume");
            }
        }
        QueueOrder::Stop { .. } => {
            let running: usize = checks().map(|check| check.running.len()).sum();
            if running > 0 {
                output::note(format!("{running} jobs still run; each queue is gone when its own have ended"));
            }
        }
        QueueOrder::Pause { .. } | QueueOrder::Resume { .. } => {}
    }
}
