//! What `run` reports: one row a request, in the order of the file, and totals over distinct jobs.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::input::Input;
use crate::cli::exit::Failure;
use crate::cli::output::{self, dollars, millis, shortened};
use crate::queue::engine::LIST_MAX;
use crate::queue::{Engine, Job, QueueError, State};
use crate::workflow::{EnqueuedBatch, Store, StoredResult};

/// Jobs in one statement.
const CHUNK: usize = LIST_MAX as usize;
/// Characters of an error in the table.
const ERROR_CHARS_MAX: usize = 100;

/// One request and what came of it. Field names are those of `--json`.
#[derive(Debug, Serialize)]
struct Row {
    line: usize,
    id: Option<String>,
    job_id: i64,
    outcome: &'static str,
    model: Option<String>,
    provider: Option<String>,
    simulated: bool,
    tokens_input: Option<i64>,
    tokens_output: Option<i64>,
    cost_nanousd: Option<i64>,
    duration_ms: Option<i64>,
    time_to_first_token_ms: Option<i64>,
    /// Whether the answer was there before this run.
    stored: bool,
    text: Option<String>,
    error: Option<String>,
}

/// All rows.
#[derive(Debug)]
pub(super) struct Report {
    rows: Vec<Row>,
}

/// Those of `jobs` that have an answer.
pub(super) async fn answered(store: &Store, jobs: &BTreeSet<i64>) -> Result<BTreeSet<i64>, Failure> {
    let results = results(store, jobs).await?;
    Ok(results.into_values().filter(|result| result.success).map(|result| result.job_id).collect())
}

async fn results(store: &Store, jobs: &BTreeSet<i64>) -> Result<HashMap<i64, StoredResult>, Failure> {
    let ids: Vec<i64> = jobs.iter().copied().collect();
    let mut all = HashMap::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        all.extend(store.results(chunk).await?.into_iter().map(|result| (result.job_id, result)));
    }
    Ok(all)
}

async fn jobs(engine: &Engine, ids: &[i64]) -> Result<HashMap<i64, Job>, QueueError> {
    let mut all = HashMap::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        all.extend(engine.get_many(chunk).await?.into_iter().map(|job| (job.id, job)));
    }
    Ok(all)
}

impl Report {
    /// Reads what came of every request.
    pub(super) async fn collect(
        input: &Input,
        enqueued: &EnqueuedBatch,
        before: &BTreeSet<i64>,
        engine: &Engine,
        store: &Store,
    ) -> Result<Self, Failure> {
        let distinct: BTreeSet<i64> = enqueued.job_ids.iter().copied().collect();
        let results = results(store, &distinct).await?;
        let unanswered: Vec<i64> =
            distinct.iter().copied().filter(|id| !results.get(id).is_some_and(|result| result.success)).collect();
        let jobs = jobs(engine, &unanswered).await?;
        let rows = input.requests.iter().zip(&enqueued.job_ids).map(|(item, job_id)| {
            let id = item.request.id.clone();
            row(item.line, id, *job_id, results.get(job_id), jobs.get(job_id), before.contains(job_id))
        });
        Ok(Self { rows: rows.collect() })
    }

    /// Whether every request has an answer.
    pub(super) fn all_completed(&self) -> bool {
        self.rows.iter().all(|row| row.outcome == "completed")
    }

    /// Prints the rows, and totals for the person.
    pub(super) fn print(&self, json: bool, elapsed: Duration) -> Result<(), Failure> {
        if json {
            for row in &self.rows {
                output::json(row)?;
            }
            output::note(self.totals(elapsed));
            return Ok(());
        }
        let head = ["job", "id", "model", "tokens in", "tokens out", "cost", "duration", "outcome"];
        output::table(&head, self.rows.iter().map(cells).collect());
        output::line("");
        output::line(self.totals(elapsed));
        Ok(())
    }

    /// Sums over distinct jobs; an unknown cost is counted and never taken for zero.
    fn totals(&self, elapsed: Duration) -> String {
        let mut seen = BTreeSet::new();
        let (mut completed, mut failed, mut stored, mut simulated, mut unpriced) = (0, 0, 0, 0, 0);
        let (mut tokens_input, mut tokens_output, mut cost, mut cost_before) = (0_i64, 0_i64, 0_i64, 0_i64);
        for row in self.rows.iter().filter(|row| seen.insert(row.job_id)) {
            if row.outcome == "completed" {
                completed += 1
            } else {
                failed += 1
            }
            stored += i32::from(row.stored);
            simulated += i32::from(row.simulated);
            unpriced += i32::from(row.outcome == "completed" && row.cost_nanousd.is_none());
            tokens_input += row.tokens_input.unwrap_or(0);
            tokens_output += row.tokens_output.unwrap_or(0);
            let sum = if row.stored { &mut cost_before } else { &mut cost };
            *sum = sum.saturating_add(row.cost_nanousd.unwrap_or(0));
        }
        let mut text =
            format!("{} {}: {completed} completed", seen.len(), if seen.len() == 1 { "request" } else { "requests" });
        for (count, what) in [(stored, "answered before"), (failed, "not completed")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text.push_str(&format!("; {tokens_input} tokens in, {tokens_output} out; {} spent", dollars(Some(cost))));
        if stored > 0 {
            text.push_str(&format!(" and {} before", dollars(Some(cost_before))));
        }
        if unpriced > 0 {
            text.push_str(&format!(", not counting {unpriced} of unknown price"));
        }
        if simulated > 0 {
            text.push_str(&format!(", {simulated} simulated"));
        }
        text.push_str(&format!("; {}", millis(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))));
        text
    }
}

fn row(
    line: usize,
    id: Option<String>,
    job_id: i64,
    result: Option<&StoredResult>,
    job: Option<&Job>,
    stored: bool,
) -> Row {
    let success = result.is_some_and(|result| result.success);
    let outcome = match (success, job) {
        (true, _) => "completed",
        // Completed without a result is not an answer; it cannot come from this workflow.
        (false, Some(job)) if job.state == State::Completed => "unanswered",
        (false, Some(job)) => job.state.as_str(),
        (false, None) => "deleted",
    };
    let last_error = || job?.errors.last()?.get("error")?.as_str().map(str::to_owned);
    let error =
        if success { None } else { last_error().or_else(|| result.and_then(|result| result.error_reason.clone())) };
    Row {
        line,
        id,
        job_id,
        outcome,
        model: result.and_then(|result| result.model_used.clone()),
        provider: result.and_then(|result| result.provider.clone()),
        simulated: result.is_some_and(|result| result.simulated),
        tokens_input: result.and_then(|result| result.tokens_input),
        tokens_output: result.and_then(|result| result.tokens_output),
        cost_nanousd: result.and_then(|result| result.cost_nanousd),
        duration_ms: result.map(|result| result.duration_ms),
        time_to_first_token_ms: result.and_then(|result| result.time_to_first_token_ms),
        stored: stored && success,
        text: result.and_then(|result| result.result.as_ref()?.get("text").and_then(Value::as_str).map(str::to_owned)),
        error,
    }
}

fn cells(row: &Row) -> Vec<String> {
    let number = |number: Option<i64>| number.map_or_else(|| "-".into(), |number| number.to_string());
    let model = match (&row.model, row.simulated) {
        (Some(model), true) => format!("{model} (simulated)"),
        (Some(model), false) => model.clone(),
        (None, _) => "-".into(),
    };
    let mut outcome = row.outcome.to_owned();
    if row.stored {
        outcome.push_str(" (answered before)");
    }
    if let Some(error) = &row.error {
        outcome.push_str(&format!(": {}", shortened(error.lines().next().unwrap_or_default(), ERROR_CHARS_MAX)));
    }
    let cost = if row.outcome == "completed" {
        dollars(row.cost_nanousd)
    } else {
        row.cost_nanousd.map_or("-".into(), |cost| dollars(Some(cost)))
    };
    vec![
        row.job_id.to_string(),
        row.id.as_deref().map_or_else(|| "-".into(), |id| shortened(id, 24)),
        model,
        number(row.tokens_input),
        number(row.tokens_output),
        cost,
        row.duration_ms.map_or_else(|| "-".into(), millis),
        outcome,
    ]
}
