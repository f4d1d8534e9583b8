//! `singularity job wait`: until jobs are finished.
//!
//! Looks at the table by itself, because a completion is announced on no channel; a database that is away for a while
//! is waited for too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::sleep;

use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{live, output};
use crate::config::Period;
use crate::node::Storage;
use crate::queue::{Engine, Job, QueueError, State};

/// First pause between two looks, for jobs that take an instant.
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// Longest pause between two looks; a look is one read by primary key.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// What to wait for.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Ids of the jobs
    #[arg(required = true, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
    ids: Vec<i64>,
    /// Longest wait, for example 20s or 5m [default: as long as it takes]
    #[arg(long, value_name = "PERIOD")]
    timeout: Option<Period>,
    /// One JSON document with one object a job
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    timed_out: bool,
    jobs: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    id: i64,
    /// Absent when the job was deleted meanwhile.
    state: Option<State>,
    attempt: Option<i32>,
    max_attempts: Option<i32>,
    last_error: Option<String>,
}

pub(super) async fn run(args: WaitArgs, context: &Context) -> Result<(), Failure> {
    let ids = super::distinct(&args.ids);
    context.with_tables(async |storage| wait(storage, &ids, args.timeout, args.json).await).await
}

async fn wait(storage: &Storage, ids: &[i64], timeout: Option<Period>, json: bool) -> Result<(), Failure> {
    let engine = Engine::new(storage.db().clone());
    let jobs = engine.get_many(ids).await?;
    let unknown: Vec<i64> = ids.iter().copied().filter(|id| jobs.iter().all(|job| job.id != *id)).collect();
    if !unknown.is_empty() {
        return Err(super::not_found(&unknown));
    }
    let open: Vec<&Job> = jobs.iter().filter(|job| !job.state.is_terminal()).collect();
    if !open.is_empty() {
        let instances = live::instances(storage).await?;
        let obstacles: BTreeSet<String> =
            open.iter().filter_map(|job| live::obstacle(&instances, &job.worker, Some(&job.queue))).collect();
        obstacles.iter().for_each(|obstacle| output::note(format!("note: {obstacle}")));
    }
    let all_finished = until_finished(&engine, ids);
    match timeout {
        // What holds when the time is over is read below.
        Some(limit) => drop(tokio::time::timeout(limit.get(), all_finished).await.ok().transpose()?),
        None => all_finished.await?,
    }
    let lines = lines(&engine, ids).await?;
    let finished = lines.iter().all(|line| line.state.is_none_or(State::is_terminal));
    if !json {
        for line in &lines {
            output::line(describe(line));
        }
    }
    let verdict = verdict(&lines, finished, timeout);
    if json {
        output::document("singularity.job_wait.v1", &Report { timed_out: !finished, jobs: lines })?;
    }
    verdict
}

/// Waits for the end of one job, and says whether it completed; the outer error is that of the waiting itself.
pub(in crate::cli) async fn one(
    storage: &Storage,
    id: i64,
    timeout: Option<Period>,
) -> Result<Result<(), Failure>, Failure> {
    let engine = Engine::new(storage.db().clone());
    let ids = [id];
    let finished = until_finished(&engine, &ids);
    match timeout {
        Some(limit) => drop(tokio::time::timeout(limit.get(), finished).await.ok().transpose()?),
        None => finished.await?,
    }
    let lines = lines(&engine, &ids).await?;
    let finished = lines.iter().all(|line| line.state.is_none_or(State::is_terminal));
    Ok(verdict(&lines, finished, timeout))
}

/// Resolves when every job is finished or gone; says of one that is put off with a reason, once, what it waits for.
/// Cancel safe: it only reads.
async fn until_finished(engine: &Engine, ids: &[i64]) -> Result<(), Failure> {
    let mut open = ids.to_vec();
    let mut pause = PAUSE_MIN;
    let mut is_away = false;
    let mut told = BTreeSet::new();
    loop {
        match look(engine, &open, &mut told).await {
            Ok(states) => {
                is_away = false;
                open = states.into_iter().filter(|(_, state)| !state.is_terminal()).map(|(id, _)| id).collect();
                if open.is_empty() {
                    return Ok(());
                }
            }
            Err(error) if error.is_unavailable() => {
                if !std::mem::replace(&mut is_away, true) {
                    output::note(format!("note: {error}; waiting for it"));
                }
            }
            Err(error) => return Err(error.into()),
        }
        sleep(pause).await;
        pause = pause.mul_f64(1.5).min(PAUSE_MAX);
    }
}

async fn look(engine: &Engine, ids: &[i64], told: &mut BTreeSet<i64>) -> Result<Vec<(i64, State)>, QueueError> {
    let states = engine.states(ids).await?;
    let put_off = states.iter().filter(|(id, state)| *state == State::Scheduled && !told.contains(id));
    let put_off: Vec<i64> = put_off.map(|(id, _)| *id).collect();
    if !put_off.is_empty() {
        for job in engine.get_many(&put_off).await? {
            if let Some(reason) = super::show::waiting(&job) {
                output::note(format!("note: job {} waits: {reason}", job.id));
                told.insert(job.id);
            }
        }
    }
    Ok(states)
}

async fn lines(engine: &Engine, ids: &[i64]) -> Result<Vec<Line>, Failure> {
    let jobs: BTreeMap<i64, Job> = engine.get_many(ids).await?.into_iter().map(|job| (job.id, job)).collect();
    let line = |id: &i64| {
        let job = jobs.get(id);
        Line {
            id: *id,
            state: job.map(|job| job.state),
            attempt: job.map(|job| job.attempt),
            max_attempts: job.map(|job| job.max_attempts),
            last_error: job.and_then(|job| super::last_error(&job.errors)),
        }
    };
    Ok(ids.iter().map(line).collect())
}

fn describe(line: &Line) -> String {
    match (line.state, line.attempt, line.max_attempts) {
        (Some(state), Some(attempt), Some(max_attempts)) => {
            format!("job {} {state}, attempt {attempt}/{max_attempts}", line.id)
        }
        _ => format!("job {} was deleted", line.id),
    }
}

fn verdict(lines: &[Line], finished: bool, timeout: Option<Period>) -> Result<(), Failure> {
    let of = |wanted: fn(State) -> bool| -> Vec<&Line> {
        lines.iter().filter(|line| line.state.is_some_and(wanted)).collect()
    };
    let gone: Vec<i64> = lines.iter().filter(|line| line.state.is_none()).map(|line| line.id).collect();
    let failed = of(|state| matches!(state, State::Discarded | State::Cancelled));
    if !finished {
        let open: Vec<String> = of(|state| !state.is_terminal())
            .iter()
            .map(|line| format!("job {} is {}", line.id, line.state.map_or("gone", State::as_str)))
            .collect();
        let limit = timeout.map(|limit| limit.to_string()).unwrap_or_default();
        return Err(Failure::new(
            Exit::TimedOut,
            codes::JOB_OPEN,
            format!("not finished after {limit}: {}", open.join(", ")),
        )
        .hint("wait longer with --timeout, or see `singularity job show` and `singularity instance list`"));
    }
    if !gone.is_empty() {
        return Err(super::not_found(&gone));
    }
    let Some(first) = failed.first() else { return Ok(()) };
    let reasons: Vec<String> = failed
        .iter()
        .map(|line| {
            let state = line.state.map_or("gone", State::as_str);
            format!("job {} was {state}: {}", line.id, line.last_error.as_deref().unwrap_or("no error was stored"))
        })
        .collect();
    Err(Failure::new(Exit::Failed, codes::JOB_FAILED, reasons.join("\n")).hint(format!(
        "see `singularity job show {id}`, or run it again with `singularity job retry {id}`",
        id = first.id
    )))
}
