//! One run of the code of a step: what of it runs, and its end, without which the step is not run again.

use std::future::Future;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::queue::{Attempt, CANCEL_GRACE, JobCodeError, JobContext};

/// One run. Clones are one; it holds up nothing.
#[derive(Debug, Clone)]
pub(super) struct StepCode {
    /// Its token is this run's own: it fires with that of the attempt, and when this run shall end.
    context: JobContext,
    pieces: TaskTracker,
}

impl StepCode {
    pub(super) fn new(attempt: &Attempt) -> Self {
        let mut context = JobContext::of_attempt(attempt);
        context.cancelled = attempt.stop().token().child_token();
        Self { context, pieces: TaskTracker::new() }
    }

    pub(super) fn cancelled(&self) -> &CancellationToken {
        &self.context.cancelled
    }

    /// Runs the code as [`Attempt::run`] does, from its first line.
    pub(super) async fn run<T: Send + 'static, Fut: Future<Output = T> + Send + 'static>(
        &self,
        attempt: &Attempt,
        code: impl FnOnce() -> Fut + Send + 'static,
    ) -> Result<T, JobCodeError> {
        let token = self.pieces.token();
        attempt
            .run(async move {
                let _held = token;
                code().await
            })
            .await
    }

    /// See [`super::StepContext::run_blocking`].
    pub(super) async fn run_blocking<T: Send + 'static>(
        &self,
        code: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobCodeError> {
        // Counted before it looks, so that whoever ends the run either refuses it or waits for it.
        let token = self.pieces.token();
        if self.pieces.is_closed() {
            return Err(JobCodeError::Gone);
        }
        let held = move || {
            let _held = token;
            code()
        };
        self.context.run_blocking(held).await
    }

    /// Tells what still runs to end, and waits for that, at most [`CANCEL_GRACE`]. Returns whether nothing runs.
    pub(super) async fn end(&self) -> bool {
        self.pieces.close();
        self.context.cancelled.cancel();
        timeout(CANCEL_GRACE, self.pieces.wait()).await.is_ok()
    }
}
