//! Code that has just begun, before anybody can have looked at it.
//!
//! An executor under supervision costs more than a short job does, so the code of a plain worker begins at once, and
//! only when it is not done within [`YOUNG_FOR`] does an executor take it over, which then heeds time limit and stop,
//! and shows the job in the tree. Until then the code belongs to the queue's producer: when that ends without handing
//! it over, the code is dropped and its job handed back.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;

use super::attempt::{Attempt, Duty};
use super::context::{JobContext, Shown};
use super::executor::{Executor, Run, RunContext, ended};
use super::job_runtime::{CodeTask, JobRuntime, caught};
use super::outcome::Outcome;
use crate::supervision::ChildSpec;

/// How long code may run before an executor takes it over.
pub const YOUNG_FOR: Duration = Duration::from_millis(5);

/// An attempt whose code has begun.
#[derive(Debug)]
pub struct Young {
    /// The code holds the attempt: when it is done, the result is on its way at once.
    duty: Weak<Duty>,
    runtime: JobRuntime,
    code: CodeTask<()>,
    timeout: Option<Duration>,
    shown: Shown,
}

/// How an executor runs code that has begun already: it waits for it. Dropping it aborts the code.
struct Watch {
    code: CodeTask<()>,
    shown: Shown,
}

impl Young {
    /// Begins `code`, which says what the attempt came to unless somebody else does before.
    pub(super) fn begin<C>(
        attempt: Attempt,
        timeout: Option<Duration>,
        code: impl FnOnce(JobContext) -> C + Send + 'static,
    ) -> Self
    where
        C: Future<Output = Outcome> + Send + 'static,
    {
        let shown = Shown::default();
        let context = JobContext::on_node(&attempt, attempt.deadline(timeout), shown.clone());
        let (duty, runtime) = attempt.into_parts();
        let (weak, token) = (Arc::downgrade(&duty), duty.code_token());
        let code = runtime.begin(async move {
            let _held = token;
            let outcome = caught(async move { code(context).await }).await.unwrap_or_else(Outcome::from);
            duty.decide(ended(outcome, duty.stop().cause(), &duty.job().worker));
        });
        Self { duty: weak, runtime, code, timeout, shown }
    }

    /// Whether its code has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.code.has_ended()
    }

    /// Whether its code was dropped before anybody could have told it to end: the runtime is gone.
    pub(super) fn is_lost(&mut self) -> bool {
        self.has_ended() && matches!(self.code.ended().now_or_never(), Some(None))
    }

    /// Whether it is time for an executor; true also when it has ended.
    pub(super) fn is_due(&self) -> bool {
        self.duty.upgrade().is_none_or(|duty| duty.elapsed() >= YOUNG_FOR)
    }

    /// The executor that takes over, with the attempt's duty; `None` when the code has ended meanwhile.
    pub(super) fn executor(self) -> Option<(ChildSpec, Arc<Duty>)> {
        let duty = self.duty.upgrade()?;
        let attempt = Attempt::from_parts(Arc::clone(&duty), self.runtime);
        let watch = Watch { code: self.code, shown: self.shown };
        Some((Executor::<Watch>::child(attempt, self.timeout, watch), duty))
    }
}

impl Run for Watch {
    const HAS_BEGUN: bool = true;

    async fn run(mut self, context: RunContext<'_>) -> Outcome {
        self.shown.at(context.probe);
        match self.code.ended().await {
            // What it came to it has said itself, and that counts.
            Some(()) => Outcome::Completed,
            None => {
                context.attempt.lost_runtime();
                Outcome::HandedBack
            }
        }
    }
}
