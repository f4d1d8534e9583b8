//! Starts the executor of a claimed job.

use super::attempt::Attempt;
use super::job_runtime::JobCodeError;
use super::outcome::Outcome;
use super::worker::Workers;
use crate::supervision::{DynamicHandle, StartChildError, catch};

/// Starts `attempt` below `executors` by its worker among `workers`. Whatever goes wrong, the attempt says what it came
/// to: a worker that panics fails its job, and without an executor the job is handed back.
pub(crate) async fn start_attempt(executors: &DynamicHandle, workers: &Workers, attempt: Attempt) {
    let id = attempt.job().id;
    let Some(worker) = workers.get(&attempt.job().worker).cloned() else {
        // The claim asks for known workers only.
        attempt.finish(Outcome::HandedBack);
        return;
    };
    let duty = attempt.duty();
    duty.expect_executor();
    // What a worker says about one job must not take the whole queue down.
    let child = match catch(async move { worker.child(attempt) }).await {
        Ok(child) => child,
        Err(caught) => return duty.decide(JobCodeError::from(caught).into()),
    };
    if let Err(error) = executors.start_child(child).await {
        if !matches!(error, StartChildError::Start(_)) {
            duty.decide(Outcome::HandedBack);
        }
        tracing::warn!(target: "queue", job = id, %error, "no executor was started");
    }
}
