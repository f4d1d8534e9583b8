//! `singularity workflow run`: enqueues one job of a workflow, waits for its end, shows its run.

use std::path::PathBuf;

use clap::Args;
use tokio::runtime::Handle;

use super::show;
use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::job::{enqueue, wait};
use crate::cli::signals::Stops;
use crate::cli::{known, live, output, start};
use crate::config::Period;
use crate::node::{Node, Storage};
use crate::queue::{Engine, NewJob};

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Name of the workflow: the worker that its jobs name
    name: String,
    /// What it is given, a JSON object; "-" reads it from stdin
    #[arg(value_name = "ARGS", default_value = "{}")]
    args: String,
    /// Reads what it is given from a file
    #[arg(long, value_name = "FILE", conflicts_with = "args")]
    file: Option<PathBuf>,
    /// Queue [default: "default", or that of the workflow in the configuration]
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Longest wait, for example 20s or 5m [default: as long as it takes]
    #[arg(long, value_name = "PERIOD")]
    timeout: Option<Period>,
    /// Wait although nobody knows the workflow: an instance that does starts later
    #[arg(long)]
    later: bool,
    /// Starts a node in this process for it, which stops when the run has ended
    #[arg(long)]
    here: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// How to wait for it.
#[derive(Debug, Clone, Copy)]
struct Wait {
    timeout: Option<Period>,
    later: bool,
    json: bool,
}

pub(super) async fn run(args: RunArgs, context: &Context, job_runtime: Handle) -> Result<(), Failure> {
    let given = match &args.file {
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Failure::new(Exit::Usage, codes::NO_ARGS_FILE, format!("{} cannot be read: {error}", file.display()))
                    .hint("name a file with one JSON object")
            })?;
            enqueue::object("--file", &text)?
        }
        None => enqueue::object_or_stdin("ARGS", &args.args)?,
    };
    let mut job = enqueue::of_worker(args.name, given, &context.config)?;
    if let Some(queue) = args.queue {
        job.queue = queue;
    }
    let job = job.validated()?;
    let wait = Wait { timeout: args.timeout, later: args.later, json: args.json };
    if args.here {
        return on_own_node(wait, job, context, job_runtime).await;
    }
    context.with_new_tables(async |storage| follow(storage, context, job, wait).await).await
}

/// Starts a node, runs the job, and stops the node again, also when a signal ends the waiting.
async fn on_own_node(wait: Wait, job: NewJob, context: &Context, job_runtime: Handle) -> Result<(), Failure> {
    let mut stops = Stops::listen()?;
    let options = start::options(context, start::instance_id(None, context), job_runtime);
    let node = tokio::select! {
        node = Box::pin(Node::start(options)) => node?,
        () = stops.next() => return Err(Failure::silent(Exit::Interrupted)),
    };
    let result = tokio::select! {
        result = Box::pin(follow(node.storage(), context, job, wait)) => result,
        () = stops.next() => Err(Failure::silent(Exit::Interrupted)),
    };
    Box::pin(node.shutdown(stops.next())).await;
    result
}

/// Enqueues the job, waits for its end, shows its run.
async fn follow(storage: &Storage, context: &Context, job: NewJob, wait: Wait) -> Result<(), Failure> {
    let instances = live::instances(storage).await?;
    if !wait.later {
        known::worker(storage, context, &instances, &job.worker, true).await?;
    }
    let inserted = Engine::new(storage.db().clone()).insert(job.clone()).await?;
    output::note(format!("job {} in queue {}", inserted.id, job.queue));
    if let Some(obstacle) = live::obstacle(&instances, &job.worker, Some(&job.queue)) {
        output::note(format!("note: {obstacle}"));
    }
    let ended = wait::one(storage, inserted.id, wait.timeout).await?;
    // What there is of it is shown, also where it is not finished.
    if let Some(known) = show::known(storage, inserted.id).await? {
        show::print(&known, wait.json)?;
    }
    ended
}
