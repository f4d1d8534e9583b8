//! A node in this process, and a worker that does as its job's arguments say and tells what it did.

use std::collections::HashSet;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use singularity::config::{Config, Period, Queue, SecretRef};
use singularity::node::{Drained, Node, NodeError, NodeOptions, Storage};
use singularity::postgres::migrate;
use singularity::queue::{Job, JobContext, JobError, NewJob, Outcome, QueueState, State, Worker, Workers};
use singularity::supervision::TreeNode;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::db::{DEADLINE, TestDb, indexes};
use super::rows::{Shape, engine_in};

/// Threads that a test node's jobs have.
pub const JOB_THREADS: usize = 2;
/// Name of the fixture worker.
pub const FIXTURE: &str = "fixture";

/// Waits until `ask` has an answer; fails after [`DEADLINE`].
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

/// A job for the fixture worker.
pub fn job(args: Value) -> NewJob {
    NewJob::new(FIXTURE, args)
}

/// What the fixture worker does and did. Clones are one.
#[derive(Clone, Default)]
pub struct Fixture(Arc<Shared>);

#[derive(Default)]
struct Shared {
    seen: watch::Sender<Seen>,
    released: watch::Sender<Released>,
}

/// What happened so far.
#[derive(Default, Clone)]
pub struct Seen {
    /// Job and attempt of every execution that began.
    pub started: Vec<(i64, i32)>,
    /// Those that came to their end.
    pub finished: Vec<(i64, i32)>,
    /// Those that were dropped before it.
    pub dropped: Vec<(i64, i32)>,
    /// Executions under way.
    pub running: usize,
    /// The most at any time.
    pub peak: usize,
    /// Pieces of blocking code under way.
    pub blocking: usize,
    /// The most of them at any time.
    pub blocking_peak: usize,
}

#[derive(Default)]
struct Released {
    all: bool,
    ids: HashSet<i64>,
}

impl Released {
    fn has(&self, id: i64) -> bool {
        self.all || self.ids.contains(&id)
    }
}

/// One execution; tells when it is dropped early.
struct Execution {
    shared: Arc<Shared>,
    key: (i64, i32),
    finished: bool,
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.shared.seen.send_modify(|seen| {
            seen.running -= 1;
            if self.finished { seen.finished.push(self.key) } else { seen.dropped.push(self.key) }
        });
    }
}

impl Fixture {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a job go that holds or spins.
    pub fn release(&self, id: i64) {
        self.0.released.send_modify(|released| released.ids.extend([id]));
    }

    /// Lets all of them go, also later ones.
    pub fn release_all(&self) {
        self.0.released.send_modify(|released| released.all = true);
    }

    pub fn seen(&self) -> Seen {
        self.0.seen.borrow().clone()
    }

    /// How often a job was begun.
    pub fn starts_of(&self, id: i64) -> usize {
        self.0.seen.borrow().started.iter().filter(|(job, _)| *job == id).count()
    }

    /// Waits for something to have happened.
    pub async fn until(&self, what: &str, wanted: impl FnMut(&Seen) -> bool) {
        let mut seen = self.0.seen.subscribe();
        let waited = tokio::time::timeout(DEADLINE, seen.wait_for(wanted)).await;
        waited.unwrap_or_else(|_| panic!("{what} did not happen in time")).unwrap();
    }

    /// Waits until a job has begun.
    pub async fn started(&self, id: i64) {
        self.until(&format!("start of job {id}"), |seen| seen.started.iter().any(|(job, _)| *job == id)).await;
    }

    /// Waits until no code of a job runs any more.
    pub async fn ended(&self, id: i64) {
        let of = |all: &[(i64, i32)]| all.iter().filter(|(job, _)| *job == id).count();
        let wanted = |seen: &Seen| of(&seen.started) == of(&seen.finished) + of(&seen.dropped);
        self.until(&format!("end of job {id}"), wanted).await;
    }
}

impl Worker for Fixture {
    type Args = Value;
    const NAME: &'static str = FIXTURE;

    fn timeout(&self, job: &Job) -> Option<Duration> {
        assert!(job.args["timeout"] != "panic", "this worker cannot tell its time");
        job.args["timeout_ms"].as_u64().map(Duration::from_millis)
    }

    fn backoff(&self, job: &Job, error: &str) -> Option<Duration> {
        assert!(job.args["backoff"] != "panic", "this worker cannot tell its wait");
        let wait = Duration::from_secs(job.args["backoff_secs"].as_u64()?);
        // Twice as long after a time-out, so that tests see that the error was told.
        Some(if error.contains("timed out") { 2 * wait } else { wait })
    }

    async fn perform(&self, _args: Value, context: JobContext) -> Result<Outcome, JobError> {
        let job = &context.job;
        let key = (job.id, job.attempt);
        self.0.seen.send_modify(|seen| {
            seen.started.push(key);
            seen.running += 1;
            seen.peak = seen.peak.max(seen.running);
        });
        let mut execution = Execution { shared: Arc::clone(&self.0), key, finished: false };
        let outcome = act(&self.0, &context).await;
        execution.finished = true;
        Ok(outcome)
    }
}

async fn act(shared: &Arc<Shared>, context: &JobContext) -> Outcome {
    let (id, args) = (context.job.id, &context.job.args);
    let millis = |key: &str| args[key].as_u64().map(Duration::from_millis);
    match args["do"].as_str().unwrap_or("ok") {
        "ok" => Outcome::Completed,
        "record" => Outcome::Recorded(args["value"].clone()),
        "error" => Outcome::Failed { error: "** (Fixture) no luck".into(), retry_in: millis("retry_ms") },
        // The first attempt fails, the second succeeds.
        "error_once" if context.job.attempt > 1 => Outcome::Completed,
        "error_once" => Outcome::Failed { error: "** (Fixture) first".into(), retry_in: Some(Duration::ZERO) },
        "cancel" => Outcome::Cancelled("** (Fixture) not wanted".into()),
        "discard" => Outcome::Discarded("** (Fixture) hopeless".into()),
        // Once, or as often as it is told, then it succeeds.
        "snooze" if context.job.meta["snoozed"].as_u64().unwrap_or(0) >= args["times"].as_u64().unwrap_or(1) => {
            Outcome::Completed
        }
        "snooze" => Outcome::Snoozed(millis("for_ms").unwrap_or_default()),
        // The first attempt fails, the second snoozes.
        "error_then_snooze" if context.job.attempt > 1 => Outcome::Snoozed(millis("for_ms").unwrap_or_default()),
        "error_then_snooze" => Outcome::Failed { error: "** (Fixture) first".into(), retry_in: Some(Duration::ZERO) },
        "panic" => panic!("fixture job {id} panics"),
        "hang" => std::future::pending().await,
        "hold" => {
            let mut released = shared.released.subscribe();
            drop(released.wait_for(|released| released.has(id)).await);
            Outcome::Completed
        }
        // Notices that it shall stop, and ends by itself.
        "heed" => {
            context.cancelled.cancelled().await;
            Outcome::Failed { error: "** (Fixture) stopped".into(), retry_in: None }
        }
        // Never reaches an await until it is released.
        "spin" => {
            while !shared.released.borrow().has(id) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Outcome::Completed
        }
        // Blocks a thread of its own until it is released.
        "block" | "block_panic" => {
            let (shared, panics) = (Arc::clone(shared), args["do"] == "block_panic");
            let blocked = context.run_blocking(move || {
                assert!(!panics, "fixture job {id} panics while it blocks");
                shared.seen.send_modify(|seen| {
                    seen.blocking += 1;
                    seen.blocking_peak = seen.blocking_peak.max(seen.blocking);
                });
                while !shared.released.borrow().has(id) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                shared.seen.send_modify(|seen| seen.blocking -= 1);
            });
            blocked.await.map_or_else(Outcome::from, |()| Outcome::Completed)
        }
        // Blocks a thread of its own until it shall stop.
        "block_heed" => {
            let cancelled = context.cancelled.clone();
            let blocked = context.run_blocking(move || {
                while !cancelled.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            blocked.await.map_or_else(Outcome::from, |()| Outcome::Completed)
        }
        "hand_back" => Outcome::HandedBack,
        other => panic!("the fixture cannot {other:?}"),
    }
}

/// A running node with a job runtime of its own.
pub struct TestNode {
    node: Option<Node>,
    jobs: Option<Runtime>,
    _dir: TempDir,
}

/// What tests change most, at a pace that tests can wait for.
pub fn fast(config: &mut Config) {
    config.queues.insert(
        "default".into(),
        Queue { limit: 10, paused: false, poll_interval: Period::from_millis(500), ..Queue::default() },
    );
    config.services.stager.interval = Period::from_millis(30);
    config.services.lifeline.interval = Period::from_millis(50);
    config.instance.heartbeat = Period::from_millis(200);
    config.instance.stale_after = Period::from_secs(10);
    config.runtime.shutdown_grace = Period::from_secs(10);
}

impl TestNode {
    /// Starts `id` on the database at `url`, with [`fast`] settings, then `change`d; ready when it hears signals.
    pub async fn try_start(
        url: &SecretString,
        id: &str,
        workers: Workers,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, NodeError> {
        Self::try_start_as(true, url, id, workers, change).await
    }

    /// As [`TestNode::start`] as programs do that use the library, without the built-in workflows.
    pub async fn library(url: &SecretString, id: &str, fixture: &Fixture, change: impl FnOnce(&mut Config)) -> Self {
        Self::try_start_as(false, url, id, workers(fixture), change).await.unwrap()
    }

    async fn try_start_as(
        built_in: bool,
        url: &SecretString,
        id: &str,
        workers: Workers,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, NodeError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("url");
        std::fs::write(&path, url.expose_secret()).unwrap();
        let mut config = Config::default();
        fast(&mut config);
        config.database.indexes = indexes();
        config.database.url = SecretRef::File(path);
        change(&mut config);
        let jobs =
            Builder::new_multi_thread().worker_threads(JOB_THREADS).thread_name("jobs").enable_all().build().unwrap();
        let options = NodeOptions {
            config: Arc::new(config),
            base_dir: dir.path().into(),
            instance_id: id.into(),
            built_in,
            workers,
            workflows: singularity::workflow::Workflows::default(),
            job_runtime: Some(jobs.handle().clone()),
            guardian: singularity::node::Guardian::Nobody,
        };
        // Not by `Node::start`, which refuses what a file may not say: some tests take times that are too short for
        // work.
        let started = async {
            let storage = Storage::open(&options.config, &options.base_dir, id, options.guardian).await?;
            let started = match migrate::up(storage.db()).await {
                Ok(_) => Box::pin(Node::start_prepared(options, storage.clone())).await,
                Err(error) => Err(error.into()),
            };
            if started.is_err() {
                storage.close().await;
            }
            started
        };
        match started.await {
            Ok(node) => {
                // A signal that is sent before is lost, as every notice that nobody hears.
                until("listening", || async {
                    let tree = node.system().snapshot();
                    (tree.find("/infra/notifier")?.labels.get("listens")? == "yes").then_some(())
                })
                .await;
                Ok(Self { node: Some(node), jobs: Some(jobs), _dir: dir })
            }
            Err(error) => {
                jobs.shutdown_background();
                Err(error)
            }
        }
    }

    /// As [`TestNode::try_start`] with the fixture as its worker.
    pub async fn start(url: &SecretString, id: &str, fixture: &Fixture, change: impl FnOnce(&mut Config)) -> Self {
        Self::try_start(url, id, workers(fixture), change).await.unwrap()
    }

    /// A node `a` on a table of this shape, which stages when `stages`.
    pub async fn in_shape(shape: Shape, stages: bool) -> (TestDb, Fixture, Self) {
        let ((db, _engine), fixture) = (engine_in(shape).await, Fixture::new());
        let node = Self::start(db.url(), "a", &fixture, |config| {
            if !stages {
                config.services.stager.interval = Period::from_secs(3_600);
            }
        })
        .await;
        (db, fixture, node)
    }

    /// Stops it in order.
    pub async fn shutdown(mut self) -> Drained {
        let node = self.node.take().unwrap();
        tokio::time::timeout(3 * DEADLINE, Box::pin(node.shutdown(std::future::pending()))).await.expect("an end")
    }

    /// Stops it in order, in a hurry.
    pub async fn shutdown_forced(mut self) -> Drained {
        let node = self.node.take().unwrap();
        tokio::time::timeout(3 * DEADLINE, Box::pin(node.shutdown(std::future::ready(())))).await.expect("an end")
    }

    /// Ends the runtime of its jobs under it.
    pub fn end_job_runtime(&mut self) {
        self.jobs.take().unwrap().shutdown_background();
    }

    /// Pauses queue `default` and returns when no claim of it is under way.
    pub async fn pause(&self) -> Arc<QueueState> {
        let queue = self.queues().get("default").unwrap();
        queue.set_paused(true);
        // Whatever waited was handled when these are.
        queue.address().suspend(DEADLINE).await.unwrap();
        queue.address().resume(DEADLINE).await.unwrap();
        queue
    }

    /// The state of a job.
    pub async fn state(&self, id: i64) -> State {
        self.engine().get(id).await.unwrap().unwrap().state
    }

    /// Inserts a job for the fixture.
    pub async fn insert(&self, args: Value) -> i64 {
        self.engine().insert(job(args)).await.unwrap().id
    }

    /// Waits until a job is in this state, and returns it.
    pub async fn reaches(&self, id: i64, state: State) -> Job {
        reaches(self.engine(), id, state).await
    }
}

/// Waits until a job is in this state, and returns it. A database that is away is waited for.
pub async fn reaches(engine: &singularity::queue::Engine, id: i64, state: State) -> Job {
    until(&format!("job {id} {state}"), || async {
        engine.get(id).await.ok().flatten().filter(|job| job.state == state)
    })
    .await
}

impl Deref for TestNode {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.node.as_ref().unwrap()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        drop(self.node.take());
        if let Some(jobs) = self.jobs.take() {
            jobs.shutdown_background();
        }
    }
}

/// A registry with the fixture alone.
pub fn workers(fixture: &Fixture) -> Workers {
    let mut workers = Workers::default();
    workers.register(fixture.clone());
    workers
}

/// Restarts of all children together.
pub fn restarts(tree: &TreeNode) -> u64 {
    tree.restarts_total + tree.children.iter().map(restarts).sum::<u64>()
}

/// Sends a payload on a channel as any other program would.
pub async fn notify(database: &singularity::postgres::Database, channel: &str, payload: Value) {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(database.channel(channel))
        .bind(payload.to_string())
        .execute(database.pool())
        .await
        .unwrap();
}

/// A signal for every instance.
pub async fn signal(database: &singularity::postgres::Database, mut payload: Value) {
    payload["ident"] = json!("any");
    notify(database, "signal", payload).await;
}
