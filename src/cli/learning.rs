//! `singularity learning`: what CentralCloud told the fleet, what each instance made of it, and decisions of people.

mod decide;
mod list;
mod show;

use clap::Subcommand;

use super::codes;
use super::context::Context;
use super::exit::{Exit, Failure};

/// What the fleet learned.
#[derive(Debug, Subcommand)]
pub(super) enum LearningCommand {
    /// Learnings, the latest first, and how many instances made what of them: `learning list`
    List(list::ListArgs),
    /// One learning with its evidence, and what each instance made of it: `learning show 7`
    Show(show::ShowArgs),
    /// Lets a learning hold that was proposed or rejected: `learning apply 7`
    Apply(decide::DecideArgs),
    /// Lets a learning not hold, also one that does: `learning reject 7 --reason "too early"`
    Reject(decide::DecideArgs),
}

/// Does it.
///
/// # Errors
/// Exit 3 when there is no such learning or instance, 4 when it cannot be applied, 5 when not all instances confirm,
/// and those of the database.
pub(super) async fn run(command: LearningCommand, context: &Context) -> Result<(), Failure> {
    match command {
        LearningCommand::List(args) => list::run(args, context).await,
        LearningCommand::Show(args) => show::run(args, context).await,
        LearningCommand::Apply(args) => decide::run(args, true, context).await,
        LearningCommand::Reject(args) => decide::run(args, false, context).await,
    }
}

fn not_found(id: i64) -> Failure {
    Failure::new(Exit::NotFound, codes::NO_LEARNING, format!("there is no learning {id}"))
        .hint("see `singularity learning list`")
}
