//! What the steps of the built-in workflows share: results of earlier steps, and texts for people.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::definition::{StepContext, StepError, StepOutput};
use super::result::{Attempted, JobResult};
use crate::error::Coded;
use crate::llm::Advice;
use crate::postgres::DbError;
use crate::queue::Outcome;

/// Characters of a text that summaries keep.
pub(super) const SUMMARY_CHARS_MAX: usize = 200;

/// Reads the result of an earlier step. One that cannot be read was written by another program version.
pub(super) fn output<T: DeserializeOwned>(
    workflow: &str,
    context: &StepContext,
    position: usize,
) -> Result<T, StepError> {
    let value = context.outputs.get(position).cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|error| unreadable(workflow, position, &error))
}

/// A step's result.
pub(super) fn to_output(workflow: &str, value: &impl Serialize) -> Result<StepOutput, StepError> {
    serde_json::to_value(value).map(StepOutput::value).map_err(|error| unreadable(workflow, usize::MAX, &error))
}

/// A stored result that is not what this program writes.
pub(super) fn unreadable(workflow: &str, position: usize, error: &impl std::fmt::Display) -> StepError {
    let text = format!("** (E0604) the stored result of step {position} of {workflow} cannot be used: {error}");
    StepError { outcome: Outcome::Discarded(text), result: None }
}

/// A request that no attempt can serve: cancelled, with a result that says why.
pub(super) fn refuse(error: &impl Coded, request_id: Option<&str>, input_summary: Value) -> StepError {
    let text = banner(error);
    let result = JobResult {
        request_id: request_id.map(str::to_owned),
        error_reason: Some(text.clone()),
        cost_nanousd: Some(0),
        input_summary,
        result_summary: serde_json::json!({}),
        outcome: Some(Attempted::Invalid),
        ..JobResult::default()
    };
    StepError { outcome: Outcome::Cancelled(text), result: Some(Box::new(result)) }
}

/// A database that refused, or a job that shall stop.
pub(super) fn database(error: DbError) -> StepError {
    match error {
        DbError::Stopped { .. } => StepError::new(Outcome::HandedBack),
        error => StepError::new(Outcome::Failed { error: format!("** (Database) {error}"), retry_in: None }),
    }
}

/// What failed calls do to the job: trouble that may pass is retried with the queue's backoff, everything else is given
/// up with its reason. (What waiting cures is a wait already.)
pub(super) fn of_advice(advice: Advice, text: String) -> Outcome {
    match advice {
        Advice::Retry => Outcome::Failed { error: text, retry_in: None },
        Advice::Snooze(delay) => Outcome::Snoozed(delay),
        Advice::Cancel => Outcome::Cancelled(text),
    }
}

/// The sum of costs; unknown where one of them is.
pub(super) fn sum(mut costs: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    costs.try_fold(0_i64, |sum, cost| Some(sum.saturating_add(cost?)))
}

/// One line with code and hint, as it is stored in `errors` and `error_reason`.
pub(super) fn banner(error: &impl Coded) -> String {
    match error.hint() {
        Some(hint) => format!("** ({}) {error}; try: {hint}", error.code()),
        None => format!("** ({}) {error}", error.code()),
    }
}

/// The beginning of a text, for summaries.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(SUMMARY_CHARS_MAX).collect()
}

/// A count as its column has it.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
