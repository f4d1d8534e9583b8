//! `start`: runs a node until it is told to stop.

mod begin;

use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tokio::runtime::Handle;

use super::codes;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::signals::{Asked, Stops};
use super::{config as checked, live, output};
use crate::config::{Config, Overlooked, ProviderKind, Role};
use crate::node::{Guardian, Node, NodeOptions};
use crate::queue::Workers;
use crate::workflow::Workflows;
use begin::{Begun, begin};

/// Arguments of `start`.
#[derive(Debug, Args)]
pub(super) struct StartArgs {
    /// Name of this instance; without it INSTANCE_ID, else [instance] id of the configuration
    #[arg(long, value_name = "ID")]
    pub instance_id: Option<String>,
    /// What this instance does: member executes jobs, central learns from what all report, both does both. Without it
    /// [cloud] role of the configuration
    #[arg(long, value_name = "ROLE")]
    #[arg(value_parser = PossibleValuesParser::new(Role::NAMES).try_map(|name| name.parse::<Role>()))]
    pub role: Option<Role>,
    /// Stops when standard input ends as well, for a program that starts this one
    #[arg(long)]
    pub until_stdin_closes: bool,
}

/// The instance id by rank: argument, `INSTANCE_ID`, configuration.
pub(super) fn instance_id(argument: Option<String>, context: &Context) -> String {
    let given = argument.or_else(|| std::env::var("INSTANCE_ID").ok().filter(|id| !id.is_empty()));
    given.unwrap_or_else(|| context.config.instance.id.clone())
}

/// What a node of this command is started with.
pub(super) fn options(context: &Context, instance_id: String, job_runtime: Handle) -> NodeOptions {
    NodeOptions {
        config: Arc::clone(&context.config),
        base_dir: context.base_dir(),
        instance_id,
        built_in: true,
        workers: Workers::default(),
        workflows: Workflows::default(),
        job_runtime: Some(job_runtime),
        guardian: Guardian::ThisProgram,
    }
}

/// Starts the node, says READY, and drains it at the first signal; a second one cuts the grace short.
pub(super) async fn run(args: StartArgs, context: &Context, job_runtime: Handle) -> Result<(), Failure> {
    let mut stops = Stops::listen()?;
    let mut options = options(context, instance_id(args.instance_id, context), job_runtime);
    if let Some(role) = args.role {
        Arc::make_mut(&mut options.config).cloud.role = role;
    }
    for Overlooked { name, meant } in checked::overlooked(context) {
        tracing::warn!(target: "config", name, meant, "an environment variable that nothing reads");
    }
    let simulated = simulated_routes(&options.config);
    let node = match begin(options, &mut stops).await? {
        Begun::Ready(node) => node,
        Begun::Stopped(asked) => {
            output::note("stopped before it was ready");
            return if asked == Asked::Interrupt { Err(Failure::silent(Exit::Interrupted)) } else { Ok(()) };
        }
        Begun::Forced => return Err(Failure::silent(Exit::Interrupted)),
    };
    if let Some(warning) = simulated_beside_others(&node, &simulated).await {
        output::note(warning);
    }
    output::line(ready(&node));
    tokio::select! {
        () = stops.next() => {}
        () = stdin_closed(args.until_stdin_closes) => {}
        reason = node.gave_up() => {
            Box::pin(node.shutdown(std::future::ready(()))).await;
            let text = format!("the supervision tree gave up: {reason}");
            return Err(Failure::new(Exit::GaveUp, codes::GAVE_UP, text).hint("see the log lines of target sup.report above"));
        }
    }
    output::note("stopping: no more claims; running jobs may finish (a second signal hands them back at once)");
    let drained = Box::pin(node.shutdown(stops.next())).await;
    if drained.handed_back > 0 {
        output::note(format!("handed back {} jobs without spending their attempt", drained.handed_back));
    }
    output::note("stopped");
    if drained.forced { Err(Failure::silent(Exit::Interrupted)) } else { Ok(()) }
}

/// Names of the routes whose reference is a simulated model, where this instance works on jobs at all.
fn simulated_routes(config: &Config) -> Vec<String> {
    let is_simulated = |model: &str| {
        let model = config.models.get(model);
        let provider = model.and_then(|model| config.providers.get(&model.provider));
        provider.is_some_and(|provider| provider.kind == ProviderKind::Simulated)
    };
    let all = config.routing.all().filter(|_| config.cloud.role.executes());
    all.filter(|route| is_simulated(route.reference)).map(|route| route.name.to_owned()).collect()
}

/// What to say where prompts of others may be answered here with text that is made up. What the database does not
/// answer now is left unsaid.
async fn simulated_beside_others(node: &Node, routes: &[String]) -> Option<String> {
    if routes.is_empty() {
        return None;
    }
    let rows = live::instances(node.storage()).await.ok()?;
    let others = rows.iter().filter(|row| live::is_live(row) && row.instance_id != node.instance_id());
    let others: Vec<&str> = others.map(|row| row.instance_id.as_str()).collect();
    (!others.is_empty()).then(|| {
        format!(
            "warning: models are simulated here for {}, and {} the jobs; where others ask real models, name them in \
             [routing.models] and start again",
            routes.join(", "),
            if let [other] = others[..] { format!("{other} shares") } else { format!("{} share", others.join(", ")) }
        )
    })
}

/// Resolves when standard input has ended, and never where that is not asked for.
async fn stdin_closed(asked: bool) {
    if !asked {
        return std::future::pending().await;
    }
    // Whatever is written there has no meaning, and one that cannot be read has ended too.
    drop(tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await);
}

/// One line that a person and a script can read.
fn ready(node: &Node) -> String {
    let queues: Vec<_> = node
        .queues()
        .iter()
        .map(|queue| format!("{}:{}{}", queue.name(), queue.limit(), if queue.is_paused() { " (paused)" } else { "" }))
        .collect();
    let kind = if node.storage().is_embedded() { "embedded" } else { "given" };
    format!(
        "READY instance={} database={kind} url={} queues={}",
        node.instance_id(),
        node.storage().display_url(),
        queues.join(",")
    )
}
