//! `singularity workflow show`: one run with all that belongs to it.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::node::Storage;
use crate::queue::{Engine, Job};
use crate::workflow::{RETRYING, Store, StoredChild, StoredPart, StoredResult, StoredRun};

/// Lines of one step that are shown to people.
const PARTS_SHOWN_MAX: usize = 40;
/// Characters of what a run came to that are shown to people.
const TEXT_CHARS_MAX: usize = 400;
/// Characters of an error that a line of the tables shows.
const ERROR_CHARS_MAX: usize = 60;

/// Which run.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Id of its job, or of the run itself
    #[arg(value_name = "ID|JOB", value_parser = which)]
    id: Which,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Job(i64),
    Run(Uuid),
}

/// The answer of `--json`: rows as they are stored.
#[derive(Serialize)]
pub(super) struct Known {
    run: StoredRun,
    /// Absent when its row was deleted.
    job: Option<Job>,
    result: Option<StoredResult>,
    #[serde(skip)]
    now: DateTime<Utc>,
}

fn which(text: &str) -> Result<Which, String> {
    let job = text.parse().ok().filter(|id| *id > 0).map(Which::Job);
    job.or_else(|| text.parse().ok().map(Which::Run))
        .ok_or_else(|| "write the number of a job, or the id of a run as `workflow list --json` shows it".into())
}

pub(super) async fn run(args: ShowArgs, context: &Context) -> Result<(), Failure> {
    let known = context
        .with_tables(async |storage| {
            let job_id = match args.id {
                Which::Job(id) => Some(id),
                Which::Run(id) => Store::new(storage.db().clone()).job_of(id).await?,
            };
            let known = match job_id {
                Some(job_id) => known(storage, job_id).await?,
                None => None,
            };
            known.ok_or_else(|| not_found(args.id))
        })
        .await?;
    print(&known, args.json)
}

fn not_found(which: Which) -> Failure {
    let text = match which {
        Which::Job(id) => format!("job {id} has no run of a workflow"),
        Which::Run(id) => format!("there is no run {id}"),
    };
    Failure::new(Exit::NotFound, codes::NO_RUN, text)
        .hint("see `singularity workflow list`; a run begins with the first attempt, and old ones are deleted")
}

/// What is known of the run of a job; `None` where it has none.
pub(super) async fn known(storage: &Storage, job_id: i64) -> Result<Option<Known>, Failure> {
    let store = Store::new(storage.db().clone());
    let Some(run) = store.run(job_id).await? else { return Ok(None) };
    let job = Engine::new(storage.db().clone()).get(job_id).await?;
    let result = store.results(&[job_id]).await?.pop();
    Ok(Some(Known { run, job, result, now: storage.db().server_now().await? }))
}

/// Shows it to people, or as one document.
pub(super) fn print(known: &Known, json: bool) -> Result<(), Failure> {
    if json {
        return output::document("singularity.workflow.v1", known);
    }
    let Known { run, job, result, now } = known;
    output::pairs(&summary(run, job.as_ref(), result.as_ref(), *now));
    if !run.steps.is_empty() || !run.parts.is_empty() {
        let head = ["step", "path", "attempt", "instance", "took", "cost", "stored"];
        output::table(&head, steps(run, *now));
    }
    if !run.children.is_empty() {
        let head = ["child", "job", "worker", "state", "cost", "error"];
        output::table(&head, run.children.iter().map(child).collect());
    }
    Ok(())
}

fn summary(
    run: &StoredRun,
    job: Option<&Job>,
    result: Option<&StoredResult>,
    now: DateTime<Utc>,
) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let state = job.map_or("deleted", |job| job.state.as_str());
    let took = |until: DateTime<Utc>| output::millis((until - run.started_at).num_milliseconds());
    let mut lines = vec![
        pair("run", run.id.to_string()),
        pair("job", format!("{} {state}", run.job_id)),
        pair("workflow", format!("{} {}", run.workflow, run.state)),
        pair("begun", output::relative(run.started_at, now)),
    ];
    // Of what is tried again there is no end yet.
    lines.extend(run.finished_at.filter(|_| run.state != RETRYING).map(|at| pair("took", took(at))));
    if let Some(result) = result {
        let mark = if result.simulated { " (simulated)" } else { "" };
        lines.push(pair("cost", format!("{}{mark}", output::dollars(result.cost_nanousd))));
        for field in ["pattern", "text"] {
            let value = result.result.as_ref().and_then(|value| value.get(field)).and_then(|value| value.as_str());
            lines.extend(value.map(|value| pair(field, output::shortened(value, TEXT_CHARS_MAX))));
        }
    }
    for error in job.iter().flat_map(|job| &job.errors) {
        let attempt = error.get("attempt").map(ToString::to_string).unwrap_or_default();
        let text = error.get("error").and_then(|text| text.as_str()).map_or_else(|| error.to_string(), str::to_owned);
        lines.push(pair("error", format!("attempt {attempt}: {text}")));
    }
    lines
}

/// A line a step, each followed by what was done inside of it.
fn steps(run: &StoredRun, now: DateTime<Utc>) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let inside = |position: i32| {
        let of_step = move |part: &&StoredPart| part.path.split('.').next() == Some(&position.to_string());
        run.parts.iter().filter(of_step)
    };
    for step in &run.steps {
        let cost = step.cost_nanousd;
        let place = step.position.to_string();
        rows.push(row(
            &step.step,
            &place,
            step.attempt,
            &step.instance_id,
            step.duration_ms,
            cost,
            step.finished_at,
            now,
        ));
        push_parts(&mut rows, &inside(step.position).collect::<Vec<_>>(), now);
    }
    // Of the step that is under way.
    let next = i32::try_from(run.steps.len()).unwrap_or(i32::MAX);
    push_parts(&mut rows, &inside(next).collect::<Vec<_>>(), now);
    rows
}

fn push_parts(rows: &mut Vec<Vec<String>>, parts: &[&StoredPart], now: DateTime<Utc>) {
    for part in parts.iter().take(PARTS_SHOWN_MAX) {
        let label = format!("  {}", part.step);
        let cost = part.cost_nanousd;
        rows.push(row(
            &label,
            &part.path,
            part.attempt,
            &part.instance_id,
            part.duration_ms,
            cost,
            part.finished_at,
            now,
        ));
    }
    if let Some(more) = parts.len().checked_sub(PARTS_SHOWN_MAX).filter(|more| *more > 0) {
        rows.push(vec![format!("  and {more} more; --json shows all")]);
    }
}

#[expect(clippy::too_many_arguments, reason = "one for each column of two kinds of rows")]
fn row(
    label: &str,
    path: &str,
    attempt: i32,
    instance: &str,
    duration_ms: i64,
    cost_nanousd: Option<i64>,
    stored: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Vec<String> {
    vec![
        label.to_owned(),
        path.to_owned(),
        attempt.to_string(),
        instance.to_owned(),
        output::millis(duration_ms),
        cost_nanousd.map(|cost| output::dollars(Some(cost))).unwrap_or_default(),
        output::relative(stored, now),
    ]
}

fn child(child: &StoredChild) -> Vec<String> {
    vec![
        child.key.clone(),
        child.job_id.to_string(),
        child.worker.clone().unwrap_or_default(),
        child.state.clone().unwrap_or_else(|| "deleted".into()),
        child.cost_nanousd.map(|cost| output::dollars(Some(cost))).unwrap_or_default(),
        child.error.as_deref().map(|error| output::shortened(error, ERROR_CHARS_MAX)).unwrap_or_default(),
    ]
}
