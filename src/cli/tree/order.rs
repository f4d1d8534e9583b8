//! `tree restart`, `terminate`, `suspend`, `resume`: orders to a live instance, carried out by itself.

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ask::{self, Chosen};
use super::view::View;
use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cli::signals::Stops;
use crate::config::Period;
use crate::instance::InstanceRow;
use crate::node::Storage;
use crate::supervision::Operation;

/// What the order is about.
#[derive(Debug, Args)]
pub(super) struct OrderArgs {
    /// The actor, as `singularity tree` shows the way to it, for example /services/stager
    path: String,
    /// Why, for those who read the events and the log afterwards
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The instance; needed when several are online
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Longest wait; the instance goes on after it
    #[arg(long, value_name = "PERIOD", default_value = "60s")]
    timeout: Period,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Done {
    instance_id: String,
    operation: Operation,
    path: String,
    /// The actor afterwards; null when it is no more.
    actor: Value,
}

pub(super) async fn run(operation: Operation, args: OrderArgs, context: &Context) -> Result<(), Failure> {
    let mut stops = Stops::listen()?;
    let ordered = context.with_tables(async |storage| {
        let row = the_one(storage, args.instance.as_deref()).await?;
        let body = json!({ "operation": operation, "path": args.path, "why": args.reason });
        let answer = tokio::select! {
            answer = ask::ask(storage, &row, "operate", &body, args.timeout.get()) => answer?,
            () = stops.next() => {
                output::note("the order was given and may still be carried out; see `singularity tree events`");
                return Err(Failure::silent(Exit::Interrupted));
            }
        };
        Ok((row.instance_id, answer))
    });
    let (instance_id, mut answer) = ordered.await?;
    let actor = answer.get_mut("actor").map(Value::take).unwrap_or_default();
    let done = Done { instance_id, operation, path: args.path, actor };
    if args.json {
        return output::document("singularity.tree_order.v1", &done);
    }
    let now = actor_now(&done.actor);
    let did = match operation {
        Operation::Restart => "restarted",
        Operation::Terminate => "terminated",
        Operation::Suspend => "suspended",
        Operation::Resume => "resumed",
    };
    output::line(format!("{} {did} on instance {}{now}", done.path, done.instance_id));
    if let Some(job) = job_of(&done.path).filter(|_| operation == Operation::Terminate) {
        output::note(format!("the job is handed back and runs again; `singularity job cancel {job}` would end it"));
    }
    let undo = match operation {
        Operation::Terminate if !done.actor.is_null() => "restart",
        Operation::Suspend => "resume",
        _ => return Ok(()),
    };
    output::note(format!(
        "it stays so until `singularity tree {undo} {} --instance {}`, or until its supervisor restarts it",
        done.path, done.instance_id
    ));
    Ok(())
}

fn actor_now(actor: &Value) -> String {
    let view = actor.get("node").and_then(|node| View::deserialize(node).ok());
    view.map_or_else(String::new, |view| format!(": {}, incarnation {}", view.state, view.incarnation))
}

/// The job of an executor, which is named by its id.
fn job_of(path: &str) -> Option<i64> {
    path.strip_prefix("/executors/")?.rsplit_once('/')?.1.parse().ok()
}

/// The instance that is named, or the only one that is there.
async fn the_one(storage: &Storage, wanted: Option<&str>) -> Result<InstanceRow, Failure> {
    let mut rows = match ask::choose(storage, wanted).await? {
        Chosen::Live(rows) => rows,
        Chosen::Offline(row) => return Err(ask::offline(&row)),
    };
    let names: Vec<_> = rows.iter().map(|row| row.instance_id.clone()).collect();
    match rows.pop() {
        Some(row) if rows.is_empty() => Ok(row),
        _ => {
            let text = format!("several instances are online: {}", names.join(", "));
            let hint = format!("say which one is meant, for example --instance {}", names[0]);
            Err(Failure::new(Exit::Usage, codes::SEVERAL_ONLINE, text).hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executor_is_known_by_its_path() {
        assert_eq!(job_of("/executors/default/17"), Some(17));
        assert_eq!(job_of("/executors/default"), None);
        assert_eq!(job_of("/services/17"), None);
    }
}
