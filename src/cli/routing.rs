//! `singularity routing`: which model serves which requests, why one job got its model, and orders of people about it.

mod explain;
pub(super) mod fleet;
mod order;
mod show;

use clap::Subcommand;

use super::context::Context;
use super::exit::Failure;

pub(super) use explain::evidence;
pub(super) use show::percent;

/// Which model serves which requests.
#[derive(Debug, Subcommand)]
pub(super) enum RoutingCommand {
    /// Models of each cell with their shares, on every instance as it is now: `routing show`
    Show(show::ShowArgs),
    /// Why a job got its model: `routing explain 4711`
    Explain(explain::ExplainArgs),
    /// Has one model serve a route, whatever was learned: `routing pin complex opus --reason "audit" --for 2d`
    Pin(order::PinArgs),
    /// Ends that: `routing unpin complex`
    Unpin(order::UnpinArgs),
    /// Switches a model off: nothing calls it until it is switched on: `routing off opus --reason "outage"`
    Off(order::SwitchArgs),
    /// Switches a model on again: `routing on opus`
    On(order::SwitchArgs),
    /// Lets everything that was learned count or not: `routing learning off`
    Learning(order::LearningArgs),
}

/// Does it.
///
/// # Errors
/// Exit 2 for what cannot be ordered, 3 when there is no such job or instance, 5 when not all instances confirm, and
/// those of the database.
pub(super) async fn run(command: RoutingCommand, context: &Context) -> Result<(), Failure> {
    match command {
        RoutingCommand::Show(args) => show::run(args, context).await,
        RoutingCommand::Explain(args) => explain::run(args, context).await,
        RoutingCommand::Pin(args) => order::pin(args, context).await,
        RoutingCommand::Unpin(args) => order::unpin(args, context).await,
        RoutingCommand::Off(args) => order::switch(args, true, context).await,
        RoutingCommand::On(args) => order::switch(args, false, context).await,
        RoutingCommand::Learning(args) => order::learning(args, context).await,
    }
}
