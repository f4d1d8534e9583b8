//! Starts and stops queues while the node runs.
//!
//! A queue that stops claims no more and lets its jobs finish, as Oban's does, for as long as the node's own stop
//! would; then the rest is handed back unspent, where Oban leaves it executing. It is gone when nothing of it runs. A
//! start that comes before takes the stop back.
//!
//! A queue that starts claims nothing before a heartbeat has told others of its producer: what a producer claims that
//! nobody knows of is taken over.
//!
//! Every step can be repeated: what this actor began before it was restarted is found in the queues and gone on with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

use super::crews::Crews;
use super::engine::Engine;
use super::producer::ProducerMsg;
use super::queues::{AddError, Queues};
use super::slots::QueueState;
use super::stop::StopCause;
use crate::config::Queue;
use crate::error::Coded;
use crate::supervision::{Actor, ActorError, Address, CallError, ChildSpec, Ctx, Flow, Reply, StartChildError, Timer};

/// Mailbox of the keeper: starts and stops that wait.
const KEEPER_MAILBOX_MAX: usize = 1_000;
/// Wait before a step that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a write about a stopped queue may hold up other starts and stops.
const RECOVER_LIMIT: Duration = Duration::from_secs(3);

/// What the keeper works with.
#[derive(Clone)]
pub struct KeeperArgs {
    /// All queues.
    pub queues: Queues,
    /// Their actors.
    pub crews: Crews,
    /// Statements.
    pub engine: Engine,
    /// Instance whose queues they are.
    pub instance_id: Arc<str>,
    /// How long jobs of a queue that stops may run on.
    pub grace: Duration,
    /// Called when a queue has started, begins to stop, or is gone.
    pub changed: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for KeeperArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeeperArgs").field("instance_id", &self.instance_id).finish_non_exhaustive()
    }
}

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Began {
    /// It is new here.
    Now,
    /// It was about to stop, and goes on with what the start says.
    Again,
    /// It runs already; as in Oban, nothing of it is changed.
    Before,
}

/// Why a queue does not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BeginError {
    /// There are too many, or the instance stops.
    #[error("{0}")]
    Refused(#[from] AddError),
    /// Its actors did not start.
    #[error("{0}")]
    Start(#[from] StartChildError),
}

impl Coded for BeginError {
    fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "E0418",
            Self::Start(error) => error.code(),
        }
    }
}

/// What the keeper is told.
#[derive(Debug)]
pub enum KeeperMsg {
    /// Start a queue.
    Start {
        /// Its name.
        queue: String,
        /// What it starts with.
        settings: Queue,
        /// Who wants to know, if anybody.
        reply: Option<Reply<Result<Began, BeginError>>>,
    },
    /// Stop a queue.
    Stop {
        /// Its name.
        queue: String,
        /// Who wants to know whether it was here, if anybody.
        reply: Option<Reply<bool>>,
    },
    /// Nothing of a queue that stops runs any more.
    Drained(Arc<QueueState>),
}

/// The actor.
#[derive(Debug)]
pub struct Keeper {
    args: KeeperArgs,
    /// Waits for the jobs of queues that stop; they end with the actor.
    draining: JoinSet<()>,
    /// Those waits by queue.
    waits: BTreeMap<String, AbortHandle>,
    again: BTreeMap<String, Timer>,
}

impl Keeper {
    /// Where it listens.
    pub fn address() -> Address<KeeperMsg> {
        Address::new("queue_keeper", KEEPER_MAILBOX_MAX)
    }

    /// The child that starts and stops queues.
    pub fn child(args: KeeperArgs, address: &Address<KeeperMsg>) -> ChildSpec {
        ChildSpec::actor::<Self>("queue_keeper", address, move || args.clone())
    }

    async fn start(&mut self, name: &str, settings: Queue) -> Result<Began, BeginError> {
        if self.args.queues.is_closed() {
            return Err(AddError::Closed.into());
        }
        if let Some(queue) = self.args.queues.get(name) {
            let began = if queue.is_leaving() { Began::Again } else { Began::Before };
            if began == Began::Again {
                self.forget(name);
                queue.stay(settings.limit, settings.paused);
            }
            self.args.crews.start(&queue).await?;
            return Ok(began);
        }
        let queue = self.args.queues.add(QueueState::new(name, settings).unannounced())?;
        // A supervisor that was restarted in the wrong moment may have kept those of a former queue of this name.
        self.clear(name).await;
        if let Err(error) = self.args.crews.start(&queue).await {
            self.args.queues.remove(&queue);
            self.clear(name).await;
            return Err(error.into());
        }
        let (limit, paused) = (queue.limit(), queue.is_paused());
        tracing::info!(target: "queue", queue = name, limit, paused, "queue started");
        Ok(Began::Now)
    }

    async fn clear(&self, name: &str) {
        for result in [self.args.crews.stop_producer(name).await, self.args.crews.stop_executors(name).await] {
            if let Err(error) = result {
                tracing::debug!(target: "queue", queue = name, %error, "nothing to clear");
            }
        }
    }

    fn stop(&mut self, ctx: &Ctx<KeeperMsg>, name: &str) -> bool {
        let Some(queue) = self.args.queues.get(name) else { return false };
        if queue.leave() {
            tracing::info!(target: "queue", queue = name, running = queue.running(), "queue stops");
            self.drain(ctx, queue);
        }
        true
    }

    /// Gives up waiting for the end of a queue.
    fn forget(&mut self, name: &str) {
        self.again.remove(name);
        if let Some(wait) = self.waits.remove(name) {
            wait.abort();
        }
    }

    /// Waits for the jobs of a queue that stops, beside the actor.
    fn drain(&mut self, ctx: &Ctx<KeeperMsg>, queue: Arc<QueueState>) {
        while self.draining.try_join_next().is_some() {}
        let (name, address, grace) = (queue.name().to_owned(), ctx.address().clone(), self.args.grace);
        let wait = self.draining.spawn(async move {
            if tokio::time::timeout(grace, queue.idle()).await.is_err() {
                let jobs = queue.running();
                tracing::info!(target: "queue", queue = queue.name(), jobs, "handing back jobs of a stopped queue");
                queue.stop_jobs(StopCause::HandBack);
                queue.idle().await;
            }
            // A full mailbox empties; one that is gone takes this task with it.
            while address.cast(KeeperMsg::Drained(Arc::clone(&queue))).is_err() {
                tokio::time::sleep(AGAIN).await;
            }
        });
        if let Some(former) = self.waits.insert(name, wait) {
            former.abort();
        }
    }

    /// Takes a queue away of which nothing runs. Each step fails only for a while, and then all are done again.
    async fn finish(&mut self, ctx: &Ctx<KeeperMsg>, queue: Arc<QueueState>) {
        let name = queue.name().to_owned();
        // The message of a wait that was given up may come when another queue has the name.
        if !self.args.queues.get(&name).is_some_and(|present| Arc::ptr_eq(&present, &queue)) {
            return;
        }
        self.forget(&name);
        if !queue.is_leaving() {
            return;
        }
        if let Err(error) = self.take_away(&queue).await {
            tracing::debug!(target: "queue", queue = name, error, "the queue is not gone yet");
            self.again.insert(name, ctx.send_after(AGAIN, KeeperMsg::Drained(queue)));
            return;
        }
        if queue.running() > 0 {
            // The last claim came late; its jobs are being handed back.
            self.drain(ctx, queue);
            return;
        }
        self.args.queues.remove(&queue);
        if let Err(error) = self.args.crews.stop_executors(&name).await {
            tracing::debug!(target: "queue", queue = name, %error, "its executors end with their supervisor");
        }
        tracing::info!(target: "queue", queue = name, "queue stopped");
    }

    async fn take_away(&self, queue: &Arc<QueueState>) -> Result<(), String> {
        // A claim that is under way must end first: cut off here, the server might still carry it out after the look
        // for lost ones.
        match queue.address().call(ProducerMsg::Settle, RECOVER_LIMIT).await {
            Ok(()) | Err(CallError::Down) => {}
            Err(error) => return Err(error.to_string()),
        }
        self.args.crews.stop_producer(queue.name()).await.map_err(|error| error.to_string())?;
        // Nobody else looks for claims of this producer whose reply was lost, as long as the instance lives.
        let (name, running) = (queue.name(), queue.running_ids());
        let lost = self.args.engine.recover(name, &self.args.instance_id, queue.producer(), &running);
        match tokio::time::timeout(RECOVER_LIMIT, lost).await {
            Ok(lost) => lost.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err("the database did not answer in time".into()),
        }
    }
}

impl Actor for Keeper {
    type Msg = KeeperMsg;
    type Args = KeeperArgs;

    async fn init(ctx: &Ctx<KeeperMsg>, args: KeeperArgs) -> Result<Self, ActorError> {
        let mut keeper = Self { args, draining: JoinSet::new(), waits: BTreeMap::new(), again: BTreeMap::new() };
        let leaving: Vec<_> = keeper.args.queues.iter().filter(|queue| queue.is_leaving()).collect();
        leaving.into_iter().for_each(|queue| keeper.drain(ctx, queue));
        Ok(keeper)
    }

    async fn handle(&mut self, ctx: &Ctx<KeeperMsg>, msg: KeeperMsg) -> Result<Flow, ActorError> {
        match msg {
            KeeperMsg::Start { queue, settings, reply } => {
                let began = self.start(&queue, settings).await;
                if let Err(error) = &began {
                    tracing::warn!(target: "queue", queue, %error, "queue was not started");
                }
                if let Some(reply) = reply {
                    reply.send(began);
                }
            }
            KeeperMsg::Stop { queue, reply } => {
                let was_here = self.stop(ctx, &queue);
                if let Some(reply) = reply {
                    reply.send(was_here);
                }
            }
            KeeperMsg::Drained(queue) => self.finish(ctx, queue).await,
        }
        (self.args.changed)();
        Ok(Flow::Continue)
    }

    fn message_kind(msg: &KeeperMsg) -> &'static str {
        match msg {
            KeeperMsg::Start { .. } => "start",
            KeeperMsg::Stop { .. } => "stop",
            KeeperMsg::Drained(_) => "drained",
        }
    }
}
