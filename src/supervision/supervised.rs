//! The ractor actor around each of ours: bounded mailbox, panics caught with their place, exit reasons, probe.

use std::sync::{Arc, Mutex, OnceLock};

use ractor::{ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::child::{ActorRun, StartCtx, Started};
use super::core::{CrashInfo, ErrorInfo, ExitReason};
use super::error::StartError;
use super::life::{ActorHandle, Body, Life, release};
use super::lock::lock;
use super::mailbox::{Mailbox, Signal};
use super::panics::{Caught, catch, catch_sync};
use super::probe::millis;
use super::{Actor, Address, Ctx, Flow, System};

/// Everything one incarnation holds.
struct Holding<A: Actor> {
    life: Arc<Life>,
    address: Address<A::Msg>,
    mailbox: Arc<Mailbox<A::Msg>>,
    ctx: OnceLock<Ctx<A::Msg>>,
    /// Out while a callback runs, so a kill in the middle drops it at once.
    actor: Mutex<Option<A>>,
}

/// The ractor handler; its drop, the last thing of an actor's task, releases what the incarnation held even when no
/// supervisor is left to do so.
struct Wrapper<A: Actor> {
    holding: Arc<Holding<A>>,
    system: System,
}

/// Tells ractor that the actor failed; the reason itself is in [`Life`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(ExitReason);

/// Spawns the actor linked to its supervisor and waits for its `init`.
pub(super) async fn start<A: Actor>(
    ctx: StartCtx,
    address: Address<A::Msg>,
    args: A::Args,
) -> Result<Started, StartError> {
    let StartCtx { system, parent, life, .. } = ctx;
    let holding = Arc::new(Holding::<A> {
        mailbox: Arc::new(Mailbox::new(address.limit())),
        address,
        life: life.clone(),
        ctx: OnceLock::new(),
        actor: Mutex::new(None),
    });
    let body: Arc<dyn Body> = holding.clone();
    let spawned = spawn(Wrapper { holding, system }, args, parent);
    match spawned.await {
        // The task is owned by the supervision tree: it ends with its supervisor.
        Ok((actor, _task)) => {
            let handle = ActorHandle { cell: actor.get_cell(), life, body };
            Ok(Started::Actor(ActorRun { handle, info: None }))
        }
        Err(error) => {
            release(&*body);
            Err(start_error(error))
        }
    }
}

/// Spawns under `parent`, or alone for a root. Returns once `pre_start` did.
pub(super) async fn spawn<T: ractor::Actor>(
    handler: T,
    args: T::Arguments,
    parent: Option<ActorCell>,
) -> Result<(ActorRef<T::Msg>, JoinHandle<()>), SpawnErr> {
    match parent {
        Some(parent) => ractor::ActorRuntime::spawn_linked(None, handler, args, parent).await,
        None => ractor::ActorRuntime::spawn(None, handler, args).await,
    }
}

/// What ractor says about a failed start, as ours.
pub(super) fn start_error(error: SpawnErr) -> StartError {
    match error {
        SpawnErr::StartupFailed(error) => match error.downcast::<StartError>() {
            Ok(ours) => *ours,
            // ractor tells its own cases apart by text only.
            Err(other) => match other.to_string() {
                text if text.contains("Supervisor is shutting down") => StartError::ShuttingDown,
                text if text.contains("killed during startup") => StartError::Killed,
                text => StartError::Init(ErrorInfo::text(text)),
            },
        },
        other => StartError::Init(ErrorInfo::text(other.to_string())),
    }
}

/// The last part of a type's name, without its parameters.
pub(super) fn short_name<T>() -> &'static str {
    let full = std::any::type_name::<T>();
    // By bytes: every start asks, and a search for a text costs several times as much.
    let end = full.bytes().position(|byte| byte == b'<').unwrap_or(full.len());
    let begin = full.bytes().take(end).rposition(|byte| byte == b':').map_or(0, |colon| colon + 1);
    full.get(begin..end).unwrap_or(full)
}

impl<A: Actor> ractor::Actor for Wrapper<A> {
    type Msg = Signal;
    type State = ();
    type Arguments = A::Args;

    async fn pre_start(&self, myself: ActorRef<Signal>, args: A::Args) -> Result<(), ActorProcessingErr> {
        let holding = &*self.holding;
        let cell = myself.get_cell();
        holding.life.probe.attach(
            holding.life.attached(cell.clone()),
            short_name::<A>(),
            Some(holding.mailbox.clone()),
        );
        holding.mailbox.open(cell.clone());
        let (address, mailbox, life) = (holding.address.clone(), holding.mailbox.clone(), holding.life.clone());
        let ctx = Ctx::new(address, mailbox, life, cell, Handle::current(), self.system.clone());
        let ctx = holding.ctx.get_or_init(|| ctx);
        holding.life.register(self.system.registry(), holding.address.clone())?;
        holding.address.plug(&holding.mailbox);
        match catch(A::init(ctx, args)).await {
            Ok(Ok(actor)) => {
                *lock(&holding.actor) = Some(actor);
                Ok(())
            }
            Ok(Err(error)) => Err(Box::new(StartError::Init(error.info()))),
            Err(caught) => {
                let crash = Box::new(holding.crash("init", caught));
                holding.report_crash("init", &ExitReason::Panic(crash.clone()));
                Err(Box::new(StartError::Panic(crash)))
            }
        }
    }

    async fn handle(&self, myself: ActorRef<Signal>, signal: Signal, (): &mut ()) -> Result<(), ActorProcessingErr> {
        match signal {
            Signal::Wake if self.holding.mailbox.is_suspended() => Ok(()),
            Signal::Wake => self.holding.handle_next(&myself).await,
            Signal::Status(reply) => self.holding.tell_status(reply),
            Signal::Suspend(done) => self.holding.suspend(true, done),
            Signal::Resume(done) => self.holding.suspend(false, done),
        }
    }

    async fn post_stop(&self, _: ActorRef<Signal>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.holding.stopped().await
    }
}

impl<A: Actor> Holding<A> {
    async fn handle_next(&self, myself: &ActorRef<Signal>) -> Result<(), ActorProcessingErr> {
        let Some(ctx) = self.ctx.get() else { return Ok(()) };
        let Some(mut actor) = lock(&self.actor).take() else { return Ok(()) };
        let Some(message) = self.mailbox.pop() else {
            *lock(&self.actor) = Some(actor);
            return Ok(());
        };
        let kind = A::message_kind(&message);
        self.life.probe.set_busy(Some(kind));
        let handled = catch(async move {
            let flow = actor.handle(ctx, message).await;
            (flow, actor)
        })
        .await;
        self.life.probe.set_busy(None);
        match handled {
            Ok((Ok(flow), actor)) => {
                *lock(&self.actor) = Some(actor);
                if let Flow::Stop(reason) = flow {
                    self.life.request_stop(&myself.get_cell(), reason);
                }
                Ok(())
            }
            Ok((Err(error), _)) => Err(self.failed(kind, ExitReason::Error(Box::new(error.info())))),
            Err(caught) => Err(self.failed(kind, ExitReason::Panic(Box::new(self.crash(kind, caught))))),
        }
    }

    async fn stopped(&self) -> Result<(), ActorProcessingErr> {
        let depth = self.mailbox.depth();
        self.mailbox.close();
        let reason = self.life.requested();
        let (Some(mut actor), Some(ctx)) = (lock(&self.actor).take(), self.ctx.get()) else { return Ok(()) };
        self.life.probe.set_busy(Some("stopped"));
        let cleaned = catch(async { actor.stopped(ctx, &reason).await }).await;
        self.life.probe.set_busy(None);
        match cleaned {
            Ok(()) => {
                self.life.set_exit(reason);
                Ok(())
            }
            Err(caught) => {
                let crash = CrashInfo { mailbox_depth: depth, ..self.crash("stopped", caught) };
                Err(self.failed("stopped", ExitReason::Panic(Box::new(crash))))
            }
        }
    }

    fn tell_status(&self, reply: oneshot::Sender<serde_json::Value>) -> Result<(), ActorProcessingErr> {
        self.mailbox.answered();
        let status = catch_sync(|| lock(&self.actor).as_ref().map(A::status));
        match status {
            Ok(status) => {
                // Whoever asked may have given up.
                reply.send(status.unwrap_or_default()).ok();
                Ok(())
            }
            Err(caught) => Err(self.failed("status", ExitReason::Panic(Box::new(self.crash("status", caught))))),
        }
    }

    fn suspend(&self, suspend: bool, done: oneshot::Sender<()>) -> Result<(), ActorProcessingErr> {
        self.mailbox.answered();
        self.mailbox.suspend(suspend);
        // Whoever ordered it may have given up.
        done.send(()).ok();
        Ok(())
    }

    /// Notes how this life ended and writes the crash report.
    fn failed(&self, doing: &'static str, reason: ExitReason) -> ActorProcessingErr {
        self.report_crash(doing, &reason);
        self.life.set_exit(reason.clone());
        Box::new(Failed(reason))
    }

    fn report_crash(&self, doing: &'static str, reason: &ExitReason) {
        let probe = &self.life.probe;
        let depth = match reason {
            ExitReason::Panic(crash) => crash.mailbox_depth,
            _ => self.mailbox.depth(),
        };
        tracing::error!(
            target: "sup.crash",
            initial_call = short_name::<A>(),
            pid = %probe.path,
            incarnation = self.life.incarnation.0,
            current_message = doing,
            reason = %reason,
            location = reason.location(),
            backtrace = reason.backtrace(),
            ancestors = ?probe.path.ancestors(),
            message_queue_len = depth,
            "actor crashed"
        );
    }

    fn crash(&self, doing: &'static str, caught: Caught) -> CrashInfo {
        let probe = &self.life.probe;
        CrashInfo {
            path: probe.path.to_string(),
            incarnation: self.life.incarnation.0,
            actor: short_name::<A>().to_owned(),
            doing: doing.to_owned(),
            text: caught.text,
            location: caught.location,
            backtrace: caught.backtrace,
            mailbox_depth: self.mailbox.depth(),
            ancestors: probe.path.ancestors(),
            lived_ms: millis(probe.lived()),
        }
    }
}

impl<A: Actor> Body for Holding<A> {
    fn release(&self) {
        // Also when a destructor panics: nobody else may be left to say that this life is over.
        let _down = Down(&self.life);
        self.address.unplug(&self.mailbox);
        // Messages and state are foreign: a panic while one is dropped must not keep the other.
        let closed = catch_sync(|| self.mailbox.close());
        // Dropped under the lock: whoever comes second must not start the next incarnation before that is done.
        let mut actor = lock(&self.actor);
        drop(actor.take());
        drop(actor);
        if let Err(caught) = closed {
            caught.resume();
        }
    }
}

/// Says at its own end that the life is over.
struct Down<'a>(&'a Life);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<A: Actor> Drop for Wrapper<A> {
    fn drop(&mut self) {
        release(&*self.holding);
    }
}
