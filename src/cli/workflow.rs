//! `singularity workflow`: runs of workflows, step by step.

mod list;
mod run;
mod show;

use clap::Subcommand;
use tokio::runtime::Handle;

use super::context::Context;
use super::exit::Failure;

/// Runs of workflows.
#[derive(Debug, Subcommand)]
pub(super) enum WorkflowCommand {
    /// Enqueues a job of a workflow, waits for its end and shows its run: `workflow run llm_request '{"prompt": "hi"}'`
    Run(Box<run::RunArgs>),
    /// The newest runs: `workflow list --state failed`
    List(list::ListArgs),
    /// Steps, durations, costs, errors and children of one run: `workflow show 17`
    Show(show::ShowArgs),
}

/// Does it.
///
/// # Errors
/// Exit 2 for bad arguments, 3 where there is no such run, and those of the database. Running: 1 when the job failed, 5
/// when the time is over.
pub(super) async fn run(command: WorkflowCommand, context: &Context, job_runtime: Handle) -> Result<(), Failure> {
    match command {
        WorkflowCommand::Run(args) => run::run(*args, context, job_runtime).await,
        WorkflowCommand::List(args) => list::run(args, context).await,
        WorkflowCommand::Show(args) => show::run(args, context).await,
    }
}
