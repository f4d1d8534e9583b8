//! `singularity tree`: the live supervision tree of a node, looked at and operated through the database.
//!
//! Answers are read leniently, because the node may be of another version than this program.

mod actor;
pub(super) mod ask;
pub(super) mod events;
mod order;
mod show;
mod view;

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::Failure;
use crate::supervision::Operation;

/// What to show, or what to do.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct TreeArgs {
    #[command(flatten)]
    show: show::ShowArgs,
    #[command(subcommand)]
    command: Option<TreeCommand>,
}

#[derive(Debug, Subcommand)]
enum TreeCommand {
    /// Crashes, restarts and orders that were kept, also of dead instances: `tree events --instance ID`
    Events(events::EventsArgs),
    /// Stops an actor in order and starts it again: `tree restart /services/stager --reason "it hangs"`
    ///
    /// Those that its supervisor's strategy restarts with it are restarted too; it counts as no failure. An actor that
    /// was terminated is started.
    Restart(order::OrderArgs),
    /// Stops an actor in order and leaves it down until it is restarted: `tree terminate /services/stager`
    Terminate(order::OrderArgs),
    /// Lets an actor take no more messages; they wait: `tree suspend /services/stager`
    Suspend(order::OrderArgs),
    /// Lets a suspended actor take messages again: `tree resume /services/stager`
    Resume(order::OrderArgs),
}

/// Names of the commands, for whoever misspells one.
const COMMANDS: [&str; 5] = ["events", "restart", "terminate", "suspend", "resume"];

/// Does it.
///
/// # Errors
/// Exit 2 for bad arguments, 3 when there is no such instance or actor, 4 when an order is refused, 5 when an instance
/// does not answer, and those of the database.
pub(super) async fn run(args: TreeArgs, context: &Context) -> Result<(), Failure> {
    match args.command {
        None => show::run(args.show, context).await,
        Some(TreeCommand::Events(args)) => events::run(args, context).await,
        Some(TreeCommand::Restart(args)) => order::run(Operation::Restart, args, context).await,
        Some(TreeCommand::Terminate(args)) => order::run(Operation::Terminate, args, context).await,
        Some(TreeCommand::Suspend(args)) => order::run(Operation::Suspend, args, context).await,
        Some(TreeCommand::Resume(args)) => order::run(Operation::Resume, args, context).await,
    }
}
