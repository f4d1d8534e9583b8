//! `singularity job enqueue`: stores one job.

use std::io::Read as _;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::unique::UniqueArgs;
use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{known, live, output};
use crate::config::{Config, Period};
use crate::error::Coded;
use crate::node::Storage;
use crate::queue::engine::Inserted;
use crate::queue::{Engine, NewJob, Schedule, State};
use crate::workflow::agents::{AGENT_COORDINATION, AGENT_TASK, AgentTask, CoordinationRequest};
use crate::workflow::{EMBEDDING, EmbeddingRequest, LLM_REQUEST, LlmRequest};

/// Bytes that are read from standard input; no job may have arguments this large.
const ARGS_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// What to do about arguments that cannot be read.
const ARGS_HINT: &str = r#"write them as one JSON object, for example --args '{"prompt": "hello"}', or pass --args - to read it from stdin"#;

/// What to store.
#[derive(Debug, Args)]
pub(crate) struct EnqueueArgs {
    /// Name of the worker that performs the job, for example llm_request
    worker: String,
    /// Arguments, a JSON object; "-" reads it from stdin
    #[arg(long, value_name = "JSON", default_value = "{}")]
    args: String,
    /// Queue [default: "default", or that of the worker's workflow in the configuration]
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Due so long from now, by the database's clock, for example 30s, 5m or 1h
    #[arg(long = "in", value_name = "PERIOD", conflicts_with = "at")]
    delay: Option<Period>,
    /// Due at this moment (RFC 3339), for example 2030-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<DateTime<Utc>>,
    /// 0 is most urgent, 9 least
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=9))]
    priority: i32,
    /// Attempts before the job is discarded [default: 20, or that of the worker's workflow in the configuration]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=32_767))]
    max_attempts: Option<i32>,
    /// A word to find the job by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    #[command(flatten)]
    unique: UniqueArgs,
    /// Data beside the arguments, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    meta: String,
    /// Store it although nobody knows its worker: an instance that does starts later, or is of another runtime
    #[arg(long)]
    later: bool,
    /// Check everything that can be checked without the database, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// The answer of `--json`. A dry run has no id and no state.
#[derive(Serialize)]
struct Answer<'a> {
    id: Option<i64>,
    state: Option<State>,
    conflict: bool,
    replaced: bool,
    dry_run: bool,
    queue: &'a str,
    worker: &'a str,
    args: &'a Value,
    meta: &'a Map<String, Value>,
    tags: &'a [String],
    priority: i32,
    max_attempts: i32,
    scheduled_at: Option<DateTime<Utc>>,
}

pub(super) async fn run(args: EnqueueArgs, context: &Context) -> Result<(), Failure> {
    let (dry_run, json, later) = (args.dry_run, args.json, args.later);
    let job = new_job(args, &context.config)?;
    if dry_run {
        return planned(&job, json);
    }
    context
        .with_new_tables(async |storage| {
            if !later {
                known::worker(storage, context, &live::instances(storage).await?, &job.worker, false).await?;
            }
            stored(storage, job, json).await
        })
        .await
}

/// The job that the arguments describe, checked.
fn new_job(args: EnqueueArgs, config: &Config) -> Result<NewJob, Failure> {
    let value = object_or_stdin("--args", &args.args)?;
    let mut job = of_worker(args.worker, value, config)?;
    if let Some(queue) = args.queue {
        job.queue = queue;
    }
    if let Some(max_attempts) = args.max_attempts {
        job.max_attempts = max_attempts;
    }
    job.schedule = match (args.delay, args.at) {
        (Some(delay), _) => Schedule::In(delay.get()),
        (None, Some(at)) => Schedule::At(at),
        (None, None) => Schedule::Now,
    };
    if let Value::Object(meta) = object("--meta", &args.meta)? {
        job.meta = meta;
    }
    job.priority = args.priority;
    job.tags = args.tags;
    (job.unique, job.replace) = args.unique.options();
    Ok(job.validated()?)
}

/// A job of this worker with what the configuration says about it.
///
/// # Errors
/// Arguments that a built-in workflow would refuse.
pub(in crate::cli) fn of_worker(worker: String, args: Value, config: &Config) -> Result<NewJob, Failure> {
    let mut job = NewJob::new(worker, args);
    let refused = |error: &dyn Coded| Failure::coded(Exit::Usage, error);
    match job.worker.as_str() {
        LLM_REQUEST => LlmRequest::parse(&job.args).map(drop).map_err(|error| refused(&error))?,
        EMBEDDING => EmbeddingRequest::parse(&job.args).map(drop).map_err(|error| refused(&error))?,
        AGENT_COORDINATION => CoordinationRequest::parse(&job.args).map(drop).map_err(|error| refused(&error))?,
        AGENT_TASK => AgentTask::parse(&job.args).map(drop).map_err(|error| refused(&error))?,
        _ => {}
    }
    if let Some((queue, max_attempts)) = config.workflows.jobs_of(&job.worker) {
        job.queue = queue.to_owned();
        job.max_attempts = i32::try_from(max_attempts).unwrap_or(i32::MAX);
    }
    Ok(job)
}

fn planned(job: &NewJob, json: bool) -> Result<(), Failure> {
    if json {
        return output::document("singularity.job_enqueue.v1", &answer(job, None, None, None));
    }
    output::line(format!(
        "would enqueue {} in queue {}, {}, priority {}, at most {} attempts; nothing was stored",
        job.worker,
        job.queue,
        due(job.schedule),
        job.priority,
        job.max_attempts
    ));
    Ok(())
}

fn due(schedule: Schedule) -> String {
    match schedule {
        Schedule::Now => "due now".to_owned(),
        Schedule::In(delay) => {
            format!("due in {}", output::millis(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)))
        }
        Schedule::At(at) => format!("due at {}", at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
    }
}

async fn stored(storage: &Storage, job: NewJob, json: bool) -> Result<(), Failure> {
    let engine = Engine::new(storage.db().clone());
    let inserted = engine.insert(job.clone()).await?;
    // A fast node may have claimed it already; what is told of a new job is what was stored.
    let fresh = if job.schedule == Schedule::Now { State::Available } else { State::Scheduled };
    let row = engine.get(inserted.id).await?;
    let state = if inserted.conflict { row.as_ref().map_or(fresh, |row| row.state) } else { fresh };
    let scheduled_at = row.map(|row| row.scheduled_at);
    if json {
        output::document("singularity.job_enqueue.v1", &answer(&job, Some(inserted), Some(state), scheduled_at))?;
    } else if inserted.conflict {
        output::line(format!(
            "job {} was there already, {state}; {}",
            inserted.id,
            if inserted.replaced { "it was changed" } else { "nothing was stored" }
        ));
    } else {
        let due = if job.schedule == Schedule::Now { String::new() } else { format!(", {}", due(job.schedule)) };
        output::line(format!("job {} {state} in queue {}{due}", inserted.id, job.queue));
    }
    if !state.is_terminal()
        && let Some(obstacle) = live::obstacle(&live::instances(storage).await?, &job.worker, Some(&job.queue))
    {
        output::note(format!("note: {obstacle}"));
    }
    Ok(())
}

fn answer(
    job: &NewJob,
    inserted: Option<Inserted>,
    state: Option<State>,
    scheduled_at: Option<DateTime<Utc>>,
) -> Answer<'_> {
    Answer {
        id: inserted.map(|inserted| inserted.id),
        state,
        conflict: inserted.is_some_and(|inserted| inserted.conflict),
        replaced: inserted.is_some_and(|inserted| inserted.replaced),
        dry_run: inserted.is_none(),
        queue: &job.queue,
        worker: &job.worker,
        args: &job.args,
        meta: &job.meta,
        tags: &job.tags,
        priority: job.priority,
        max_attempts: job.max_attempts,
        scheduled_at,
    }
}

/// As [`object`]; of "-" what stdin has.
pub(in crate::cli) fn object_or_stdin(option: &str, text: &str) -> Result<Value, Failure> {
    if text == "-" { object(option, &stdin(option)?) } else { object(option, text) }
}

pub(in crate::cli) fn object(option: &str, text: &str) -> Result<Value, Failure> {
    let problem =
        |reason: String| Failure::new(Exit::Usage, codes::NOT_AN_OBJECT, format!("{option} {reason}")).hint(ARGS_HINT);
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(other) => {
            Err(problem(format!("is {}; it must be a JSON object", output::shortened(&other.to_string(), 80))))
        }
        Err(error) => Err(problem(format!("is no JSON: {error}, in {:?}", output::shortened(text, 80)))),
    }
}

fn stdin(option: &str) -> Result<String, Failure> {
    let problem = |reason: String| {
        Failure::new(Exit::Usage, codes::NOT_AN_OBJECT, format!("{option} -: {reason}")).hint(ARGS_HINT)
    };
    let mut text = String::new();
    let read = std::io::stdin().lock().take(ARGS_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| problem(format!("stdin cannot be read: {error}")))?;
    if text.len() as u64 > ARGS_BYTES_MAX {
        return Err(problem(format!("stdin has more than {ARGS_BYTES_MAX} bytes")));
    }
    Ok(text)
}

pub(super) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .map_err(|error| format!("{error}; write it as RFC 3339, for example 2030-01-31T08:00:00Z"))
}
