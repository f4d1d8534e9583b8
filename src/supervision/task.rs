//! Tasks: children that run one piece of code to its end, Elixir's `Task` under a `Task.Supervisor`.
//!
//! The code runs inside its actor, as the only message the actor ever handles. So a kill drops it, it cannot outlive
//! the child, a panic is reported as that of any actor, and code that never awaits is a zombie like any other. Code on
//! the blocking pool cannot be dropped; it stands in the tree below its task for as long as it runs, and the task
//! counts as gone only when it is.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::ActorCell;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::core::{ChildId, ErrorInfo, ExitReason, Incarnation, Path, Restart, Shutdown};
use super::error::StartError;
use super::life::Life;
use super::lock::lock;
use super::panics::{Caught, catch_sync};
use super::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, NodeState, Probe, Started};

/// Mailbox of a task's actor; only it writes to it, once.
const TASK_MAILBOX_MAX: usize = 1;

/// Id in the tree of code that runs on the blocking pool, below its task.
const BLOCKING_ID: &str = "blocking";

/// What a task's code is given; belongs to one incarnation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskCtx {
    cancel: CancellationToken,
    probe: Arc<Probe>,
    incarnation: Incarnation,
}

/// The code of a task as its actor runs it.
type Code = Box<dyn FnOnce(&Ctx<Run>, TaskCtx) -> BoxFuture<'static, Result<(), ActorError>> + Send>;

/// The actor of a task.
struct Task(Option<Code>);

/// What a task's actor tells itself when it has started.
struct Run;

impl ChildSpec {
    /// A child that runs `code` to its end: `Ok` is the exit `Normal`, `Err` is `Error`, a panic is `Panic`. Its start
    /// returns before the code runs. Default restart temporary, as for Elixir's tasks; the code is called anew for each
    /// incarnation.
    ///
    /// An ordered stop cancels [`TaskCtx::cancellation`]; code that does not end within the child's shutdown time is
    /// dropped. A kill drops it at its next await point.
    pub fn task<F, T>(id: impl Into<ChildId>, code: F) -> Self
    where
        F: Fn(TaskCtx) -> T + Send + Sync + 'static,
        T: Future<Output = Result<(), ActorError>> + Send + 'static,
    {
        let code = Arc::new(code);
        task(id.into(), move || {
            let code = code.clone();
            Some(Box::new(move |_, ctx| Box::pin(async move { code(ctx).await })))
        })
    }

    /// As [`task`](Self::task), for code that uses up what it owns, such as a connection. It can be started once: with
    /// another restart type than temporary each further start fails.
    pub fn task_once<F, T>(id: impl Into<ChildId>, code: F) -> Self
    where
        F: FnOnce(TaskCtx) -> T + Send + 'static,
        T: Future<Output = Result<(), ActorError>> + Send + 'static,
    {
        let code = Mutex::new(Some(code));
        task(id.into(), move || {
            let code = lock(&code).take()?;
            Some(Box::new(move |_, ctx| Box::pin(async move { code(ctx).await })))
        })
    }

    /// As [`task`](Self::task), for code that blocks: it runs on tokio's blocking pool once it has one of `permits`,
    /// and keeps the permit until it really ends.
    ///
    /// Such code cannot be dropped, it can only heed the token. One that still runs two seconds after a kill, see
    /// [`KILL_WAIT_MAX`](super::KILL_WAIT_MAX), or so long after its time limit made the task end, makes its task a
    /// zombie, to which [`OnZombie`](super::OnZombie) applies. A runtime that is dropped waits for it.
    pub fn blocking_task<F>(id: impl Into<ChildId>, permits: &Arc<Semaphore>, code: F) -> Self
    where
        F: Fn(TaskCtx) -> Result<(), ActorError> + Send + Sync + 'static,
    {
        let (permits, code) = (permits.clone(), Arc::new(code));
        task(id.into(), move || {
            let (permits, code) = (permits.clone(), code.clone());
            Some(Box::new(move |actor, ctx| {
                let actor = actor.clone();
                Box::pin(async move { run_blocking(&actor, ctx, permits, code).await })
            }))
        })
    }

    /// How long the code of a task may take; other children know no such limit. When it is over, the token is
    /// cancelled; code that does not end within the child's shutdown time is dropped. Either way the exit is an error,
    /// "timed out after ... ms". Default: no limit.
    #[must_use]
    pub fn task_time_limit(mut self, limit: Duration) -> Self {
        self.given_mut().time_limit = Some(limit);
        self
    }
}

impl TaskCtx {
    /// Cancelled when the task is to end: its supervisor stops it, its time is over, or it is gone.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancel
    }

    /// The task's probe, for labels.
    pub fn probe(&self) -> &Arc<Probe> {
        &self.probe
    }

    /// Its place in the tree.
    pub fn path(&self) -> &Path {
        self.probe.path()
    }

    /// Which life this is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }
}

/// The child that runs what `code` makes for each incarnation.
fn task(id: ChildId, code: impl Fn() -> Option<Code> + Send + Sync + 'static) -> ChildSpec {
    let child = ChildSpec::new(id, move |ctx| {
        let code = code();
        Box::pin(async move {
            let Some(code) = code else { return Err(StartError::Init(ErrorInfo::text("this task can run only once"))) };
            // An address of its own for each start: one spec may be started many times at once.
            ctx.actor::<Task>(&Address::new("task", TASK_MAILBOX_MAX), code).await
        })
    });
    child.restart(Restart::Temporary)
}

impl Actor for Task {
    type Msg = Run;
    type Args = Code;

    async fn init(ctx: &Ctx<Run>, code: Code) -> Result<Self, ActorError> {
        ctx.address().cast(Run).map_err(|_| ActorError::msg("the task's own mailbox refused its first message"))?;
        Ok(Self(Some(code)))
    }

    async fn handle(&mut self, ctx: &Ctx<Run>, _: Run) -> Result<Flow, ActorError> {
        let Some(code) = self.0.take() else { return Ok(Flow::Stop(ExitReason::Normal)) };
        let cancel = ctx.stopping().child_token();
        // However this ends, what the code started by the token learns of it.
        let _gone = cancel.clone().drop_guard();
        let given = ctx.probe().given();
        let task = TaskCtx { cancel: cancel.clone(), probe: ctx.probe().clone(), incarnation: ctx.incarnation() };
        let mut code = code(ctx, task);
        let Some(limit) = given.time_limit else {
            code.await?;
            return Ok(Flow::Stop(ExitReason::Normal));
        };
        if let Ok(ended) = tokio::time::timeout(limit, &mut code).await {
            ended?;
            return Ok(Flow::Stop(ExitReason::Normal));
        }
        cancel.cancel();
        match given.rules.shutdown {
            Shutdown::BrutalKill => {}
            Shutdown::Timeout(grace) => drop(tokio::time::timeout(grace, &mut code).await),
            Shutdown::Infinity => drop(code.await),
        }
        Err(ActorError::msg(format!("timed out after {} ms", limit.as_millis())))
    }

    fn message_kind(_: &Run) -> &'static str {
        "run"
    }
}

/// Waits for a permit and runs `code` on the blocking pool.
///
/// Cancel safety: dropped before the code runs it leaves nothing; later the code goes on, shown in the tree.
async fn run_blocking<F>(
    actor: &Ctx<Run>,
    ctx: TaskCtx,
    permits: Arc<Semaphore>,
    code: Arc<F>,
) -> Result<(), ActorError>
where
    F: Fn(TaskCtx) -> Result<(), ActorError> + Send + Sync + 'static,
{
    let permit = tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => return Ok(()),
        permit = permits.acquire_owned() => permit?,
    };
    let held = Held::new(actor.cell().clone(), &ctx, permit);
    let run = tokio::task::spawn_blocking(move || {
        let _held = held;
        catch_sync(move || code(ctx))
    });
    run.await?.unwrap_or_else(|caught: Caught| caught.resume())
}

/// What running blocking code occupies: its permit, and a place in the tree below its task, which keeps the task from
/// counting as gone.
struct Held {
    permit: Option<OwnedSemaphorePermit>,
    task: Arc<Probe>,
    order: u64,
    life: Arc<Life>,
}

impl Held {
    fn new(cell: ActorCell, ctx: &TaskCtx, permit: OwnedSemaphorePermit) -> Self {
        let spec = ChildSpec::new(BLOCKING_ID, |_| Box::pin(async { Ok(Started::Ignore) }));
        let probe = spec.restart(Restart::Temporary).probe(ctx.path());
        let (order, life) = (ctx.incarnation.0, Life::new(probe.clone(), ctx.incarnation));
        probe.begin(ctx.incarnation, false);
        probe.attach(life.attached(cell), "blocking code", None);
        probe.set_state(NodeState::Running);
        ctx.probe.add_child(order, probe);
        Self { permit: Some(permit), task: ctx.probe.clone(), order, life }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The next incarnation starts once this is down, and should find the permit.
        drop(self.permit.take());
        self.task.remove_child(self.order);
        self.life.release();
    }
}
