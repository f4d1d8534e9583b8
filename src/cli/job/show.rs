//! `singularity job show`: everything that is known of one job.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::{live, output};
use crate::instance::InstanceRow;
use crate::queue::{Engine, Job, State};
use crate::workflow::{Store, StoredResult, StoredRun};

/// Which job.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Id of the job
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    id: i64,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// The answer of `--json`: rows as they are stored.
#[derive(Serialize)]
struct Known<'a> {
    job: &'a Job,
    /// What keeps a job that is due or executing from going on, if anything does.
    obstacle: Option<String>,
    run: Option<&'a StoredRun>,
    result: Option<&'a StoredResult>,
}

pub(super) async fn run(args: ShowArgs, context: &Context) -> Result<(), Failure> {
    let id = args.id;
    let (job, run, result, now, obstacle) = context
        .with_tables(async |storage| {
            let job = Engine::new(storage.db().clone()).get(id).await?.ok_or_else(|| super::not_found(&[id]))?;
            let store = Store::new(storage.db().clone());
            let run = store.run(id).await?;
            let result = store.results(&[id]).await?.pop();
            let now = storage.db().server_now().await?;
            // Of what is finished nobody asks why it does not go on.
            let obstacle =
                if job.state.is_terminal() { None } else { obstacle(&job, now, &live::instances(storage).await?) };
            Ok((job, run, result, now, obstacle))
        })
        .await?;
    if args.json {
        return output::document(
            "singularity.job.v1",
            &Known { job: &job, obstacle, run: run.as_ref(), result: result.as_ref() },
        );
    }
    let mut lines = columns(&job, now);
    lines.extend(obstacle.map(|obstacle| pair("note", obstacle)));
    if let Some(run) = &run {
        lines.extend(of_run(run, now));
    }
    if let Some(result) = &result {
        lines.extend(of_result(result));
    }
    output::pairs(&lines);
    Ok(())
}

fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn columns(job: &Job, now: DateTime<Utc>) -> Vec<(String, String)> {
    let mut lines = vec![
        pair("id", job.id.to_string()),
        pair("state", job.state.as_str()),
        pair("queue", &*job.queue),
        pair("worker", &*job.worker),
        pair("attempt", format!("{}/{}", job.attempt, job.max_attempts)),
        pair("priority", job.priority.to_string()),
        pair("tags", job.tags.join(", ")),
        pair("args", pretty(&job.args)),
        pair("meta", pretty(&job.meta)),
        pair("attempted_by", job.attempted_by.join(", ")),
    ];
    if let Some(waiting) = waiting(job) {
        lines.push(pair("waiting", waiting));
    }
    let moments = [
        ("inserted_at", Some(job.inserted_at)),
        ("scheduled_at", Some(job.scheduled_at)),
        ("attempted_at", job.attempted_at),
        ("completed_at", job.completed_at),
        ("discarded_at", job.discarded_at),
        ("cancelled_at", job.cancelled_at),
    ];
    lines.extend(moments.into_iter().filter_map(|(name, at)| Some(pair(name, moment(at?, now)))));
    if let Some(unreadable) = &job.unreadable {
        lines.push(pair("unreadable", &**unreadable));
    }
    for error in &job.errors {
        lines.push(pair("error", describe_error(error)));
    }
    lines
}

/// Why a job waits that is to go on later, where its last attempt said so.
pub(super) fn waiting(job: &Job) -> Option<String> {
    let waits = matches!(job.state, State::Scheduled | State::Available);
    waits.then(|| job.meta.get("waiting")?.get("reason")?.as_str().map(str::to_owned)).flatten()
}

/// What keeps the job from going on: nobody claims it although it is due, or its instance is dead.
fn obstacle(job: &Job, now: DateTime<Utc>, rows: &[InstanceRow]) -> Option<String> {
    match job.state {
        State::Available | State::Scheduled | State::Retryable if job.scheduled_at <= now => {
            live::obstacle(rows, &job.worker, Some(&job.queue))
        }
        State::Executing => {
            let owner = job.attempted_by.first()?;
            let dead = rows.iter().find(|row| row.instance_id == **owner && !live::is_live(row))?;
            let seen = output::relative(dead.last_heartbeat, now);
            Some(format!("{owner} is offline, last heartbeat {seen}; any instance that is online takes its jobs over"))
        }
        _ => None,
    }
}

fn moment(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    format!("{} ({})", at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true), output::relative(at, now))
}

/// `attempt 2 at 2026-…: text`; an element of another form as it is.
fn describe_error(error: &Value) -> String {
    match (error.get("attempt"), error.get("at").and_then(Value::as_str), error.get("error").and_then(Value::as_str)) {
        (Some(attempt), Some(at), Some(text)) => format!("attempt {attempt} at {at}: {text}"),
        _ => error.to_string(),
    }
}

fn of_run(run: &StoredRun, now: DateTime<Utc>) -> Vec<(String, String)> {
    let mut lines =
        vec![pair("workflow", format!("{} {}, begun {}", run.workflow, run.state, moment(run.started_at, now)))];
    for step in &run.steps {
        let text = format!(
            "{} {}, attempt {} on {}, stored {}",
            step.step,
            output::millis(step.duration_ms),
            step.attempt,
            step.instance_id,
            output::relative(step.finished_at, now),
        );
        lines.push(pair(&format!("step {}", step.position + 1), text));
    }
    lines
}

fn of_result(result: &StoredResult) -> Vec<(String, String)> {
    let mark = if result.simulated { " (simulated)" } else { "" };
    let outcome = if result.success { "success" } else { "failure" };
    let count = |tokens: Option<i64>| tokens.map_or_else(|| "?".to_owned(), |tokens| tokens.to_string());
    let mut lines = vec![
        pair(
            "result",
            format!("{outcome} of attempt {}{mark}, {}", result.attempt, output::millis(result.duration_ms)),
        ),
        pair("cost", format!("{}{mark}", output::dollars(result.cost_nanousd))),
    ];
    if let Some(model) = &result.model_used {
        let provider = result.provider.as_deref().unwrap_or("?");
        lines.push(pair("model", format!("{model} of {provider}{mark}")));
        lines.push(pair("tokens", format!("{} in, {} out", count(result.tokens_input), count(result.tokens_output))));
    }
    if let Some(ms) = result.time_to_first_token_ms {
        lines.push(pair("first token", output::millis(ms)));
    }
    if let Some(request_id) = &result.request_id {
        lines.push(pair("request_id", &**request_id));
    }
    if let Some(reason) = &result.error_reason {
        lines.push(pair("error_reason", &**reason));
    }
    match result.result.as_ref().map(|value| (value.get("text").and_then(Value::as_str), value)) {
        Some((Some(text), _)) => lines.push(pair(&format!("answer{mark}"), text)),
        Some((None, value)) => lines.push(pair("answer", pretty(value))),
        None => {}
    }
    lines
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}
