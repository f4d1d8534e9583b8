//! `run`: every request of a file through a node in this process, answers and costs out.

mod input;
mod report;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::runtime::Handle;

use self::input::Input;
use super::codes;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::output;
use super::signals::Stops;
use super::start;
use crate::error::Coded;
use crate::node::Node;
use crate::queue::{QueueError, State};
use crate::workflow::{Batch, BatchRequest, EnqueuedBatch, Requests, RequestsError, Store};

/// What `run` logs unless it is verbose: finished and failed jobs are in its table.
pub(super) const LOG_FILTER: &str = "warn,job=off,queue=error,sqlx=error,ractor=error";
/// Time between two looks at the jobs of the batch.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Jobs in one look.
const LOOK_MAX: usize = 10_000;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// JSON Lines, one request a line with `prompt` or `messages` and optional `id`, `task_type`, `complexity`,
    /// `route`, `model`, `max_tokens`, `temperature`; `-` reads standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
    /// Leaves out bad lines instead of refusing the file
    #[arg(long)]
    pub skip_bad: bool,
    /// Name of this instance; without it INSTANCE_ID, else [instance] id of the configuration
    #[arg(long, value_name = "ID")]
    pub instance_id: Option<String>,
    /// Logs what `start` would log
    #[arg(short, long)]
    pub verbose: bool,
}

/// How waiting for the jobs ended.
enum Waited {
    Done,
    Interrupted,
    GaveUp(String),
}

/// Reads the file, starts a node, enqueues, waits, reports.
pub(super) async fn run(args: RunArgs, context: &Context, job_runtime: Handle) -> Result<(), Failure> {
    let input = Input::read(&args.file, &context.config)?;
    for bad in &input.bad {
        output::note(format!("{}:{}: error[{}]: {}", args.file.display(), bad.line, bad.code, bad.text));
    }
    if !input.bad.is_empty() && !args.skip_bad {
        let text = format!("{} of {} lines cannot be used; nothing was enqueued", input.bad.len(), input.lines());
        return Err(Failure::new(Exit::Usage, codes::BAD_LINES, text)
            .hint("mend these lines, or leave them out with --skip-bad"));
    }
    let mut stops = Stops::listen()?;
    let started = Instant::now();
    let options = start::options(context, start::instance_id(args.instance_id.clone(), context), job_runtime);
    let node = tokio::select! {
        node = Box::pin(Node::start(options)) => node?,
        () = stops.next() => return Err(Failure::silent(Exit::Interrupted)),
    };
    let result = Box::pin(work(&args, context, &input, &node, &mut stops, started)).await;
    Box::pin(node.shutdown(stops.next())).await;
    result
}

async fn work(
    args: &RunArgs,
    context: &Context,
    input: &Input,
    node: &Node,
    stops: &mut Stops,
    started: Instant,
) -> Result<(), Failure> {
    let requests = Requests::new(node.engine().clone());
    let enqueued = requests.enqueue(&batch(context, input, node)).await.map_err(|error| refused(args, input, error))?;
    let store = Store::new(node.engine().db().clone());
    let distinct: BTreeSet<i64> = enqueued.job_ids.iter().copied().collect();
    let before = report::answered(&store, &distinct).await?;
    say_what_is_known(&enqueued, before.len(), distinct.len());
    note_if_paused(context, node);

    let bar = progress(distinct.len());
    bar.set_position(before.len() as u64);
    let waiting = distinct.difference(&before).copied().collect();
    let waited = wait(node, waiting, &bar, stops).await;
    bar.finish_and_clear();
    let done = match waited? {
        Waited::Done => true,
        Waited::Interrupted => {
            output::note("stopping: running requests may finish (a second signal hands them back at once)");
            // Before the report, which tells of them too.
            Box::pin(node.drain(stops.next())).await;
            false
        }
        Waited::GaveUp(reason) => {
            return Err(Failure::new(Exit::GaveUp, codes::GAVE_UP, format!("the supervision tree gave up: {reason}")));
        }
    };
    let report = report::Report::collect(input, &enqueued, &before, node.engine(), &store).await?;
    report.print(args.json, started.elapsed())?;
    if !done {
        output::note("interrupted: the same command finishes what is left");
        return Err(Failure::silent(Exit::Interrupted));
    }
    requests.finish(enqueued.id).await?;
    if report.all_completed() && input.bad.is_empty() { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

fn batch(context: &Context, input: &Input, node: &Node) -> Batch {
    let workflow = &context.config.workflows.llm_request;
    let requests = input.requests.iter().map(|item| BatchRequest {
        id: item.request.id.clone(),
        fingerprint: item.request.fingerprint(),
        args: item.args.clone(),
    });
    Batch {
        fingerprint: input.fingerprint.clone(),
        instance_id: node.instance_id().to_owned(),
        queue: workflow.queue.clone(),
        max_attempts: i32::try_from(workflow.max_attempts).unwrap_or(i32::MAX),
        requests: requests.collect(),
    }
}

fn refused(args: &RunArgs, input: &Input, error: RequestsError) -> Failure {
    if let RequestsError::Conflicts(conflicts) = &error {
        for conflict in conflicts {
            let line = input.requests.get(conflict.index).map_or(0, |item| item.line);
            output::note(format!(
                "{}:{line}: error[{}]: another request has the id {conflict}",
                args.file.display(),
                error.code(),
            ));
        }
        return Failure::coded(Exit::Conflict, &error);
    }
    match error {
        RequestsError::Queue(error) => error.into(),
        error => Failure::coded(Exit::Usage, &error),
    }
}

fn say_what_is_known(enqueued: &EnqueuedBatch, answered: usize, total: usize) {
    if enqueued.resumed {
        output::note(format!("going on with an interrupted run: {answered} of {total} requests are answered already"));
    } else if enqueued.known > 0 {
        output::note(format!("{answered} of {total} requests were answered before and are not asked again"));
    }
}

fn note_if_paused(context: &Context, node: &Node) {
    let name = &context.config.workflows.llm_request.queue;
    let state = match node.queues().get(name) {
        Some(queue) if queue.is_paused() => "is paused",
        Some(_) => return,
        None => "does not run",
    };
    output::note(format!("queue {name} {state} here; requests wait for an instance that runs it"));
}

/// Says how many requests wait, and of the first of them why and for how long.
async fn note_of_waiting(node: &Node, parked: usize, first: Option<i64>) {
    let (engine, noun) = (node.engine(), if parked == 1 { "request waits" } else { "requests wait" });
    let mut text = format!("{parked} {noun} for another attempt");
    // What cannot be asked now is told by the next look, or not at all: this is no reason to end.
    if let Some(id) = first
        && let Ok(Some(job)) = engine.get(id).await
        && let Ok(now) = engine.db().server_now().await
    {
        let reason = super::job::why_it_waits(&job).unwrap_or_else(|| "its last attempt did not say why".into());
        text += &format!("; job {}, {}: {reason}", job.id, output::relative(job.scheduled_at, now));
    }
    output::note(format!("{text} (`singularity job show ID` tells of the others)"));
}

fn progress(total: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
    // The template is a constant that a test of the look would notice; a broken one falls back to the default.
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} eta {eta} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Waits until every job is finished or gone, however long the database is away.
async fn wait(
    node: &Node,
    mut waiting: BTreeSet<i64>,
    bar: &ProgressBar,
    stops: &mut Stops,
) -> Result<Waited, QueueError> {
    let total = bar.length().unwrap_or_default();
    let mut said = false;
    while !waiting.is_empty() {
        let pause = async {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let ids: Vec<i64> = waiting.iter().copied().take(LOOK_MAX).collect();
            let states = node.engine().states(&ids).await;
            (ids, states)
        };
        let (ids, states) = tokio::select! {
            looked = pause => looked,
            () = stops.next() => return Ok(Waited::Interrupted),
            reason = node.gave_up() => return Ok(Waited::GaveUp(reason.to_string())),
        };
        match states {
            Ok(states) => {
                let parked =
                    states.iter().filter(|(_, state)| matches!(state, State::Scheduled | State::Retryable)).count();
                let unfinished: BTreeSet<i64> =
                    states.into_iter().filter(|(_, state)| !state.is_terminal()).map(|(id, _)| id).collect();
                let idle = parked > 0 && parked == unfinished.len();
                bar.set_message(if idle { format!("{parked} wait for another attempt") } else { String::new() });
                if idle && !std::mem::replace(&mut said, true) {
                    note_of_waiting(node, parked, unfinished.first().copied()).await;
                }
                for id in ids {
                    if !unfinished.contains(&id) {
                        waiting.remove(&id);
                    }
                }
                bar.set_position(total.saturating_sub(waiting.len() as u64));
            }
            Err(error) if error.is_unavailable() => bar.set_message("waiting for the database"),
            Err(error) => return Err(error),
        }
    }
    Ok(Waited::Done)
}
