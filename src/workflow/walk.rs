//! Does what one step says: code with its limit and its tries, lists element by element, steps of sub-workflows,
//! children. What is done inside of a step is stored as a part of its own.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::code::StepCode;
use super::definition::{
    Effect, FAN_OUT_ITEMS_MAX, STEP_OUTPUT_BYTES_MAX, Step, StepContext, StepError, StepFn, StepOutput, Work,
};
use super::error::{OUTPUT, STEP_TIMEOUT, discarded, failed, no_list};
use super::retry::StepRetry;
use super::store::{KeptPart, Owner, Part, Store, cost_sum};
use crate::postgres::{DbError, retry_unavailable};
use crate::queue::{Attempt, JobCodeError, Outcome};
use crate::supervision::Probe;

/// Why an attempt ends before its last step.
pub(super) enum Stop {
    /// A step decided so.
    Step(Box<StepError>),
    /// The database refused a statement.
    Db(DbError),
    /// It waits for children.
    Parked,
    /// The attempt no longer owns its job; whatever is reported will not count.
    Superseded,
    /// Nothing more to do, or nothing that can be done.
    Outcome(Outcome),
}

impl From<DbError> for Stop {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl From<StepError> for Stop {
    fn from(error: StepError) -> Self {
        Self::Step(Box::new(error))
    }
}

/// One attempt on its way through the steps.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) probe: &'a Probe,
    pub(super) store: &'a Store,
    pub(super) owner: &'a Owner,
    pub(super) run_id: Uuid,
    /// Whether there may be stored parts.
    pub(super) resumed: bool,
    pub(super) cancel: &'a CancellationToken,
    /// When the attempt's time is over.
    pub(super) deadline: Option<Instant>,
}

/// Where in the workflow something is done.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `2.17.0`
    pub(super) path: String,
    /// `answer[17]/ask`
    pub(super) label: String,
    item: Option<usize>,
}

impl Place {
    pub(super) fn of_step(position: usize, name: &str) -> Self {
        Self { path: position.to_string(), label: name.to_owned(), item: None }
    }

    fn element(&self, index: usize) -> Self {
        Self { path: format!("{}.{index}", self.path), label: format!("{}[{index}]", self.label), item: Some(index) }
    }

    fn inner(&self, position: usize, name: &str) -> Self {
        Self { path: format!("{}.{position}", self.path), label: format!("{}/{name}", self.label), item: self.item }
    }
}

/// Limit and tries of the code of a step.
#[derive(Clone, Copy)]
struct Rules {
    timeout: Option<Duration>,
    retry: StepRetry,
}

/// What earlier attempts stored inside of the present step.
type Parts = HashMap<String, KeptPart>;

impl Walk<'_> {
    /// Does a step of the workflow itself. Storing what it comes to is the caller's.
    pub(super) async fn step(
        &self,
        step: &Step,
        place: &Place,
        input: Value,
        outputs: Vec<Value>,
    ) -> Result<StepOutput, Stop> {
        let parts = if self.resumed && step.work.has_parts() {
            persist(self.cancel, || self.store.parts(self.run_id, &place.path)).await?
        } else {
            Parts::new()
        };
        let rules = Rules { timeout: step.timeout, retry: step.retry };
        self.work(&step.work, rules, place, input, outputs, &parts).await
    }

    /// Boxed, because works stand in works.
    fn work<'w>(
        &'w self,
        work: &'w Work,
        rules: Rules,
        place: &'w Place,
        input: Value,
        outputs: Vec<Value>,
        parts: &'w Parts,
    ) -> BoxFuture<'w, Result<StepOutput, Stop>> {
        Box::pin(async move {
            match work {
                Work::Code(code) => self.code(code, rules, place, input, outputs).await,
                Work::Each { work, parallel } => self.each(work, *parallel, rules, place, input, outputs, parts).await,
                Work::Steps(steps) => self.steps(steps, place, input, parts).await,
                Work::Children(plan) => {
                    let code = StepCode::new(self.attempt);
                    self.children(plan, place, self.given(place, input, outputs, 1, code)).await
                }
            }
        })
    }

    fn given(&self, place: &Place, input: Value, outputs: Vec<Value>, tries: u32, code: StepCode) -> StepContext {
        StepContext {
            job: Arc::clone(self.attempt.job()),
            run_id: self.run_id,
            input,
            outputs,
            item: place.item,
            tries,
            idempotency_key: format!("{}-{}", self.run_id, place.path),
            cancelled: code.cancelled().clone(),
            deadline: self.deadline.map(Instant::into_std),
            code,
        }
    }

    async fn code(
        &self,
        code: &StepFn,
        rules: Rules,
        place: &Place,
        input: Value,
        outputs: Vec<Value>,
    ) -> Result<StepOutput, Stop> {
        let mut tries = 1;
        loop {
            let run = StepCode::new(self.attempt);
            let mut given = self.given(place, input.clone(), outputs.clone(), tries, run.clone());
            let own = rules.timeout.and_then(|limit| Instant::now().into_std().checked_add(limit));
            given.deadline = given.deadline.into_iter().chain(own).min();
            let step = Arc::clone(code);
            let running = run.run(self.attempt, move || step(given));
            let ended = match rules.timeout {
                Some(limit) => timeout(limit, running).await.unwrap_or_else(|_| {
                    let text = format!("step {} ran for longer than {} ms", place.label, limit.as_millis());
                    Ok(Err(failed(STEP_TIMEOUT, text)))
                }),
                None => running.await,
            };
            let mut error = match ended {
                Ok(Ok(output)) => return checked(output, place),
                Ok(Err(error)) => error,
                Err(error @ JobCodeError::Gone) => return Err(Stop::Outcome(error.into())),
                Err(error) => StepError::new(error.into()),
            };
            let wait = rules.retry.next_try(tries, &error.outcome);
            let again = match wait {
                // What does not end is for the executor to show; a second run beside it would do the same at once.
                Some(_) if !run.end().await => {
                    goes_on(&mut error.outcome);
                    false
                }
                // A job that shall stop is not tried again here.
                Some(wait) => self.cancel.run_until_cancelled(sleep(wait)).await.is_some(),
                None => false,
            };
            if !again {
                let outcome = rules.retry.of_job(self.attempt.job().attempt, error.outcome);
                return Err(StepError { outcome, result: error.result }.into());
            }
            tracing::info!(
                target: "job", id = self.owner.job_id, step = %place.label, tries, "step failed and is tried again"
            );
            tries += 1;
        }
    }

    /// When one element fails, those that are under way are finished and stored, and no other is begun.
    #[expect(clippy::too_many_arguments, reason = "it is one branch of `work`, which hands on what it has")]
    async fn each(
        &self,
        work: &Work,
        parallel: usize,
        rules: Rules,
        place: &Place,
        input: Value,
        outputs: Vec<Value>,
        parts: &Parts,
    ) -> Result<StepOutput, Stop> {
        let items = match input {
            Value::Array(items) if items.len() <= FAN_OUT_ITEMS_MAX => items,
            other => return Err(no_list(&place.label, &other).into()),
        };
        let count = items.len();
        let (halted, done, size) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(1));
        let (halted, done, size, outputs) = (&halted, &done, &size, &outputs);
        let elements = items.into_iter().enumerate().map(|(index, item)| async move {
            if halted.load(Ordering::Relaxed) {
                return (index, None);
            }
            let mut ended = self.element(work, rules, &place.element(index), item, outputs, parts).await;
            if let Ok((value, _)) = &ended {
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                self.probe.set_label("step", format!("{} {done}/{count}", place.label));
                // Of the list: with a comma or a bracket. One that cannot be stored in the end shall cost no more.
                let bytes = bytes_of(value).saturating_add(1);
                if size.fetch_add(bytes, Ordering::Relaxed) + bytes > STEP_OUTPUT_BYTES_MAX {
                    let error =
                        too_large(place, size.load(Ordering::Relaxed), &format!(" after {done} of {count} elements"));
                    ended = Err(error.into());
                }
            }
            match &ended {
                Ok(_) => {}
                // Others may have children to enqueue, which then run at the same time.
                Err(Stop::Parked) => {}
                Err(_) => halted.store(true, Ordering::Relaxed),
            }
            (index, Some(ended))
        });
        let mut ended = stream::iter(elements).buffer_unordered(parallel.max(1));
        let mut values = vec![Value::Null; count];
        let (mut cost_nanousd, mut first) = (None, None);
        while let Some((index, element)) = ended.next().await {
            match element {
                None => {}
                Some(Ok((value, cost))) => {
                    values[index] = value;
                    cost_nanousd = cost_sum(cost_nanousd, cost);
                }
                // What failed counts, not what only waits.
                Some(Err(stop)) if first.as_ref().is_none_or(|first| matches!(first, Stop::Parked)) => {
                    first = Some(stop);
                }
                Some(Err(_)) => {}
            }
        }
        match first {
            Some(stop) => Err(stop),
            None => checked(StepOutput { value: Value::Array(values), cost_nanousd, result: None }, place),
        }
    }

    async fn element(
        &self,
        work: &Work,
        rules: Rules,
        place: &Place,
        item: Value,
        outputs: &[Value],
        parts: &Parts,
    ) -> Result<KeptPart, Stop> {
        if let Some(stored) = parts.get(&place.path) {
            return Ok(stored.clone());
        }
        let started = Instant::now();
        let StepOutput { value, cost_nanousd, .. } =
            self.work(work, rules, place, item, outputs.to_vec(), parts).await?;
        self.save(&[part(place, value.clone(), cost_nanousd, started)]).await?;
        Ok((value, cost_nanousd))
    }

    /// The steps of a sub-workflow, by the rules of the workflow itself.
    async fn steps(&self, steps: &[Step], place: &Place, input: Value, parts: &Parts) -> Result<StepOutput, Stop> {
        let mut outputs: Vec<Value> = Vec::with_capacity(steps.len());
        let (mut cost_nanousd, mut result, mut unsaved) = (None, None, Vec::new());
        for (position, step) in steps.iter().enumerate() {
            let place = place.inner(position, step.name);
            if let Some((value, cost)) = parts.get(&place.path) {
                outputs.push(value.clone());
                cost_nanousd = cost_sum(cost_nanousd, *cost);
                continue;
            }
            let stores = step.effect == Effect::External || step.work.has_parts();
            if stores {
                self.save(&std::mem::take(&mut unsaved)).await?;
            }
            let started = Instant::now();
            let given = outputs.last().unwrap_or(&input).clone();
            let rules = Rules { timeout: step.timeout, retry: step.retry };
            let output = self.work(&step.work, rules, &place, given, outputs.clone(), parts).await?;
            cost_nanousd = cost_sum(cost_nanousd, output.cost_nanousd);
            result = output.result;
            unsaved.push(part(&place, output.value.clone(), output.cost_nanousd, started));
            outputs.push(output.value);
            if stores {
                self.save(&std::mem::take(&mut unsaved)).await?;
            }
        }
        self.save(&unsaved).await?;
        Ok(StepOutput { value: outputs.pop().unwrap_or(input), cost_nanousd, result })
    }

    /// Stores parts, however long the database is away.
    async fn save(&self, parts: &[Part]) -> Result<(), Stop> {
        if parts.is_empty() {
            return Ok(());
        }
        let owned = persist(self.cancel, || self.store.save_parts(self.owner, self.run_id, parts)).await?;
        if owned { Ok(()) } else { Err(Stop::Superseded) }
    }
}

fn part(place: &Place, output: Value, cost_nanousd: Option<i64>, started: Instant) -> Part {
    Part {
        path: place.path.clone(),
        step: place.label.clone(),
        output,
        cost_nanousd,
        duration_ms: millis(started.elapsed()),
    }
}

/// Says of a failure why the step was not tried again.
fn goes_on(outcome: &mut Outcome) {
    if let Outcome::Failed { error, .. } = outcome {
        error.push_str("\nits code was told to end and goes on, so it was not tried again beside it");
    }
}

/// A result that can be stored: of bounded size, and without the character that PostgreSQL refuses in JSON.
fn checked(mut output: StepOutput, place: &Place) -> Result<StepOutput, Stop> {
    let bytes = bytes_of(&output.value);
    if bytes > STEP_OUTPUT_BYTES_MAX {
        return Err(too_large(place, bytes, "").into());
    }
    without_nul(&mut output.value);
    Ok(output)
}

fn bytes_of(value: &Value) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |text| text.len())
}

fn too_large(place: &Place, bytes: usize, when: &str) -> StepError {
    let text = format!(
        "the result of step {} has {bytes} bytes{when}; at most {STEP_OUTPUT_BYTES_MAX} are kept. Keep large things \
         elsewhere and hand on where they are",
        place.label
    );
    discarded(OUTPUT, text)
}

fn without_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(items) => items.iter_mut().for_each(without_nul),
        Value::Object(fields) => {
            if fields.keys().any(|key| key.contains('\0')) {
                let all = std::mem::take(fields);
                fields.extend(all.into_iter().map(|(key, value)| (key.replace('\0', "\u{fffd}"), value)));
            }
            fields.values_mut().for_each(without_nul);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Repeats `operation` until the database answers; ends early only when the job shall stop.
pub(super) async fn persist<T, F, Fut>(cancel: &CancellationToken, operation: F) -> Result<T, DbError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, DbError>>,
{
    let mut rng = StdRng::from_rng(&mut rand::rng());
    retry_unavailable(cancel, &mut rng, operation).await
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_place_tells_where_it_is_to_programs_and_to_people() {
        let place = Place::of_step(2, "answer").element(17).inner(0, "ask");
        assert_eq!((place.path.as_str(), place.label.as_str(), place.item), ("2.17.0", "answer[17]/ask", Some(17)));
    }

    #[test]
    fn a_result_is_bounded_and_can_be_stored() {
        let place = Place::of_step(0, "read");
        let output = |value| StepOutput::value(value);
        let Ok(kept) = checked(output(json!({"a\0": ["b\0", 1]})), &place) else { panic!("refused") };
        assert_eq!(kept.value, json!({"a\u{fffd}": ["b\u{fffd}", 1]}));
        let Err(Stop::Step(error)) = checked(output(json!("x".repeat(STEP_OUTPUT_BYTES_MAX))), &place) else {
            panic!("kept")
        };
        assert!(
            matches!(error.outcome, Outcome::Discarded(text) if text.starts_with("** (E0623) the result of step read"))
        );
    }
}
