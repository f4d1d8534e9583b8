//! The actor that executes one attempt: runs it, watches its time, stops it when asked, says what it came to.
//!
//! A temporary child of its queue's dynamic supervisor, on the control runtime; job code runs on the job runtime. The
//! attempt runs in a task that the actor owns, so the actor answers and can be stopped while the code works.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::outcome::Outcome;
use super::stop::{StopCause, StopSignal};
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, ExitReason, Flow, Probe, Restart, Shutdown};

/// How long job code that was asked to stop may take to end by itself before it is dropped.
pub const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// Wait of a job that its own code hands back.
pub const HANDED_BACK_WAIT: Duration = Duration::from_secs(5);
/// How long a supervisor waits for an executor before it kills it: the grace, and time to say so.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// Mailbox of an executor; only its own task writes to it.
const EXECUTOR_MAILBOX_MAX: usize = 4;

/// What a run works with.
#[derive(Debug, Clone, Copy)]
pub struct RunContext<'a> {
    /// The attempt.
    pub attempt: &'a Attempt,
    /// Where the live tree reads what is going on, for example the present step.
    pub probe: &'a Arc<Probe>,
    /// When its time is over, by tokio's clock.
    pub deadline: Option<Instant>,
}

/// How an attempt is run.
pub trait Run: Send + 'static {
    /// Whether the code runs already when the executor begins, so that a stop must let it end.
    const HAS_BEGUN: bool = false;

    /// Runs the attempt to its outcome.
    ///
    /// Cancel safety: the future is dropped when the time is over or a stop was asked for and not heeded; what it
    /// started must stop with it.
    fn run(self, context: RunContext<'_>) -> impl Future<Output = Outcome> + Send;
}

/// Executes one attempt by `R`.
#[derive(Debug)]
pub struct Executor<R> {
    task: JoinHandle<()>,
    stop: StopSignal,
    run: PhantomData<fn() -> R>,
}

/// What an executor is told.
#[derive(Debug)]
pub enum ExecutorMsg {
    /// Its task has said what the attempt came to.
    Done,
}

/// Attempt, limit of its time and how to run it; taken once, because a temporary child starts once.
#[derive(Debug)]
pub struct ExecutorArgs<R>(Option<(Attempt, Option<Duration>, R)>);

impl<R: Run> Executor<R> {
    /// The child that executes `attempt`.
    pub fn child(attempt: Attempt, timeout: Option<Duration>, run: R) -> ChildSpec {
        let address = Address::new("executor", EXECUTOR_MAILBOX_MAX);
        let (id, worker) = (attempt.job().id.to_string(), attempt.job().worker.clone());
        let number = format!("{}/{}", attempt.job().attempt, attempt.job().max_attempts);
        let args = Mutex::new(Some((attempt, timeout, run)));
        ChildSpec::actor::<Self>(id, &address, move || ExecutorArgs(args.lock().map_or(None, |mut args| args.take())))
            .restart(Restart::Temporary)
            .shutdown(Shutdown::Timeout(SHUTDOWN))
            .label("worker", worker)
            .label("attempt", number)
    }
}

impl<R: Run> Actor for Executor<R> {
    type Msg = ExecutorMsg;
    type Args = ExecutorArgs<R>;

    async fn init(ctx: &Ctx<ExecutorMsg>, args: ExecutorArgs<R>) -> Result<Self, ActorError> {
        let (attempt, timeout, run) = args.0.ok_or_else(|| ActorError::msg("an executor starts once"))?;
        let stop = attempt.stop().clone();
        let (address, probe) = (ctx.address().clone(), Arc::clone(ctx.probe()));
        #[expect(
            clippy::disallowed_methods,
            reason = "the executor awaits it when it stops and aborts it when it is dropped"
        )]
        let task = tokio::spawn(async move {
            let outcome = drive(&attempt, &probe, timeout, run).await;
            attempt.duty().decide(outcome);
            // When its time is over nobody has asked it to stop yet, and what goes on beside its dropped code, as
            // blocking code does, has but this token to look at. What the attempt came to is decided by then.
            attempt.stop().token().cancel();
            code_ended(&attempt, &probe).await;
            drop(attempt);
            // Refused only when the actor is gone, and then there is nobody to tell.
            drop(address.cast(ExecutorMsg::Done));
        });
        Ok(Self { task, stop, run: PhantomData })
    }

    async fn handle(&mut self, _ctx: &Ctx<ExecutorMsg>, msg: ExecutorMsg) -> Result<Flow, ActorError> {
        match msg {
            ExecutorMsg::Done => Ok(Flow::Stop(ExitReason::Normal)),
        }
    }

    async fn stopped(&mut self, _ctx: &Ctx<ExecutorMsg>, _reason: &ExitReason) {
        self.stop.stop(StopCause::HandBack);
        // Ends within the grace, because the task watches the signal that was just given; unless the code is stuck, and
        // then the supervisor kills this actor.
        drop((&mut self.task).await);
    }

    fn message_kind(_msg: &ExecutorMsg) -> &'static str {
        "done"
    }
}

impl<R> Drop for Executor<R> {
    fn drop(&mut self) {
        // After a kill nothing else would stop the task; its attempt reports itself when it is dropped.
        self.task.abort();
    }
}

/// Waits for code that was dropped. Some never awaits and cannot be stopped: its job is shown as stuck.
async fn code_ended(attempt: &Attempt, probe: &Probe) {
    if tokio::time::timeout(CANCEL_GRACE, attempt.code_ended()).await.is_ok() {
        return;
    }
    let slot = if attempt.stuck() { "given to others" } else { "kept until it returns" };
    probe.set_label("stuck", format!("its slot is {slot}"));
    tracing::error!(
        target: "job", id = attempt.job().id, worker = %attempt.job().worker, slot,
        "job is stuck: its code was told to end and does not; nobody else is given the job until it returns or this node ends"
    );
    attempt.code_ended().await;
}

/// Runs the attempt until it ends, its time is over, or it is stopped.
async fn drive<R: Run>(attempt: &Attempt, probe: &Arc<Probe>, timeout: Option<Duration>, run: R) -> Outcome {
    let worker = attempt.job().worker.as_str();
    if let Some(cause) = attempt.stop().cause().filter(|_| !R::HAS_BEGUN) {
        return stopped(cause, worker);
    }
    let deadline = attempt.deadline(timeout);
    let mut run = std::pin::pin!(run.run(RunContext { attempt, probe, deadline }));
    let limit = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let ended = |outcome| ended(outcome, attempt.stop().cause(), worker);
    let cause = tokio::select! {
        biased;
        outcome = &mut run => return ended(outcome),
        cause = attempt.stop().requested() => cause,
        () = limit => {
            return timed_out(worker, timeout.unwrap_or_default());
        }
    };
    tokio::select! {
        biased;
        () = attempt.stop().fenced() => stopped(cause, worker),
        outcome = &mut run => ended(outcome),
        () = tokio::time::sleep(CANCEL_GRACE) => stopped(cause, worker),
    }
}

/// What code came to that ended by itself. What ended well in spite of a stop counts; anything else after one most
/// likely is the stop. A job that is handed back though nothing stops would be claimed again at once, and again, ahead
/// of younger ones; so it waits.
pub(super) fn ended(outcome: Outcome, cause: Option<StopCause>, worker: &str) -> Outcome {
    match (outcome, cause) {
        (outcome @ (Outcome::Completed | Outcome::Recorded(_)), _) => outcome,
        (_, Some(cause)) => stopped(cause, worker),
        (Outcome::HandedBack, None) => {
            tracing::warn!(
                target: "job", worker, wait_s = HANDED_BACK_WAIT.as_secs(),
                "a job was handed back and neither it nor its instance stops: it waits. Snooze a job that cannot be done now"
            );
            Outcome::Snoozed(HANDED_BACK_WAIT)
        }
        (outcome, None) => outcome,
    }
}

/// What a job comes to that ran over its time.
pub(crate) fn timed_out(worker: &str, timeout: Duration) -> Outcome {
    let error = format!("** (Oban.TimeoutError) {worker} timed out after {}ms", timeout.as_millis());
    Outcome::Failed { error, retry_in: None }
}

/// What a job comes to that was stopped.
fn stopped(cause: StopCause, worker: &str) -> Outcome {
    match cause {
        StopCause::HandBack | StopCause::Fenced => Outcome::HandedBack,
        StopCause::Cancelled => {
            Outcome::Cancelled(format!("** (Oban.PerformError) {worker} failed with {{:cancel, :shutdown}}"))
        }
    }
}
