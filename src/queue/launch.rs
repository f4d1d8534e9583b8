//! Begins claimed jobs, and starts the executors of those that last.

use std::sync::Arc;

use super::attempt::{Attempt, Duty};
use super::error::QueueError;
use super::job_runtime::JobCodeError;
use super::outcome::Outcome;
use super::worker::{Execution, Workers};
use crate::error::Coded;
use crate::supervision::{ChildSpec, DynamicHandle, StartChildError, catch_sync};

/// Begins `attempt` by its worker among `workers`. What a worker says about one job must not take the whole queue down:
/// one that panics fails its job.
///
/// A job whose row cannot be read fails, so that it is tried again and given up at last as any other, and is seen.
pub(super) fn begin(workers: &Workers, attempt: Attempt) -> Option<(Execution, Arc<Duty>)> {
    if let Some(error) = QueueError::unreadable(attempt.job()) {
        let error = format!("** (UnreadableRow) {}: {error}", error.code());
        attempt.finish(Outcome::Failed { error, retry_in: None });
        return None;
    }
    let Some(worker) = workers.get(&attempt.job().worker) else {
        // The claim asks for known workers only.
        attempt.finish(Outcome::HandedBack);
        return None;
    };
    let duty = attempt.duty();
    match catch_sync(|| worker.begin(attempt)) {
        Ok(execution) => Some((execution, duty)),
        Err(caught) => {
            duty.decide(JobCodeError::from(caught).into());
            None
        }
    }
}

/// Starts the executor of an attempt below `executors`; without one the job is handed back.
pub(super) async fn start(executors: &DynamicHandle, child: ChildSpec, duty: &Duty) {
    duty.expect_executor();
    if let Err(error) = executors.start_child(child).await {
        if !matches!(error, StartChildError::Start(_)) {
            duty.decide(Outcome::HandedBack);
        }
        tracing::warn!(target: "queue", job = duty.job().id, %error, "no executor was started");
    }
}

/// Begins `attempt` and gives it an executor at once. Whatever goes wrong, the attempt says what it came to.
pub(crate) async fn start_attempt(executors: &DynamicHandle, workers: &Workers, attempt: Attempt) {
    let started = match begin(workers, attempt) {
        Some((Execution::Young(young), _)) => young.executor(),
        Some((Execution::Executor(child), duty)) => Some((child, duty)),
        None => None,
    };
    if let Some((child, duty)) = started {
        start(executors, child, &duty).await;
    }
}
