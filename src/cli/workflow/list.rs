//! `singularity workflow list`: the newest runs.

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::workflow::{ListedRun, RETRYING, RUNS_LIST_MAX, RunFilter, Store};

/// Characters of an error that the table shows.
const ERROR_CHARS_MAX: usize = 60;

/// States of runs.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RunState {
    /// An attempt works on it, or will
    Running,
    /// It waits for jobs that it enqueued
    Waiting,
    /// Done
    Completed,
    /// An attempt failed, and its job has another one
    Retrying,
    /// Its last attempt failed
    Failed,
    /// Its job was cancelled while it was not done
    Cancelled,
}

/// Which runs.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those of this workflow: the worker that its jobs name
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only those in this state; may be given several times
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    states: Vec<RunState>,
    /// At most so many, the newest first
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(RUNS_LIST_MAX)))]
    limit: u32,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing<'a> {
    runs: &'a [ListedRun],
}

/// From the beginning to the end; of what is tried again there is no end yet.
fn took(run: &ListedRun) -> String {
    let end = run.finished_at.filter(|_| run.state != RETRYING);
    end.map(|at| output::millis((at - run.started_at).num_milliseconds())).unwrap_or_default()
}

pub(super) async fn run(args: ListArgs, context: &Context) -> Result<(), Failure> {
    let name = |state: &RunState| state.to_possible_value().map(|value| value.get_name().to_owned());
    let filter = RunFilter { workflow: args.workflow, states: args.states.iter().filter_map(name).collect() };
    let (runs, now) = context
        .with_tables(async |storage| {
            let runs = Store::new(storage.db().clone()).runs(&filter, args.limit).await?;
            Ok((runs, storage.db().server_now().await?))
        })
        .await?;
    if args.json {
        return output::document("singularity.workflow_list.v1", &Listing { runs: &runs });
    }
    if runs.is_empty() {
        output::note("no run fits");
        return Ok(());
    }
    let rows = runs.iter().map(|run| {
        vec![
            run.job_id.to_string(),
            run.workflow.clone(),
            run.state.clone(),
            run.job_state.clone().unwrap_or_else(|| "deleted".into()),
            run.steps.to_string(),
            run.children.to_string(),
            output::relative(run.started_at, now),
            took(run),
            run.cost_nanousd.map(|cost| output::dollars(Some(cost))).unwrap_or_default(),
            run.error.as_deref().map(|error| output::shortened(error, ERROR_CHARS_MAX)).unwrap_or_default(),
        ]
    });
    let head = ["job", "workflow", "state", "job state", "steps", "children", "begun", "took", "cost", "error"];
    output::table(&head, rows.collect());
    Ok(())
}
