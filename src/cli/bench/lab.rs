//! Where a measurement takes place: a schema of its own, a node on it, and bare connections beside it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::worker::{BenchWorker, Meter, WORKER, Work};
use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::config::{Config, Queue};
use crate::node::{Guardian, Node, NodeError, NodeOptions, Storage};
use crate::postgres::{Database, Scratch, migrate};
use crate::queue::engine::Bare;
use crate::queue::{Engine, NewJob, QueueState, Workers};

/// The queue of all jobs here.
const QUEUE: &str = "bench";
/// History is put in by statements of so many rows.
const HISTORY_BATCH: u64 = 100_000;
/// Time between two looks at whether all jobs are performed.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// One measurement's place. Closed with [`Lab::close`].
pub(super) struct Lab {
    config: Arc<Config>,
    base_dir: PathBuf,
    job_runtime: Handle,
    work: Work,
    storage: Storage,
    scratch: Scratch,
    node: Option<Node>,
    keeps_rows: bool,
    /// Statements on connections apart from the node's, as another program's.
    pub(super) engine: Engine,
    pub(super) meter: Meter,
    pub(super) limit: u32,
}

impl Lab {
    /// Makes the schema. `queues` is how many the node will have, all with this limit; the first is for jobs.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn open(
        context: &Context,
        queues: usize,
        limit: u32,
        work: Work,
        job_runtime: Handle,
    ) -> Result<Self, Failure> {
        let mut config = Config::clone(&context.config);
        config.database.schema = Scratch::new_name()?.to_string();
        let name = |number| if number == 0 { QUEUE.to_owned() } else { format!("{QUEUE}_{number}") };
        let queue = Queue { limit, paused: true, ..Queue::default() };
        config.queues = (0..queues).map(|number| (name(number), queue.clone())).collect();
        config.workflows.llm_request.queue = QUEUE.into();
        let base_dir = context.base_dir();
        let storage = Storage::open(&config, &base_dir, "singularity-bench", Guardian::ThisProgram).await?;
        let scratch = match Scratch::create(storage.db()).await {
            Ok(scratch) => scratch,
            Err(error) => {
                storage.close().await;
                return Err(error.into());
            }
        };
        let engine = Engine::new(storage.db().clone());
        Ok(Self {
            config: Arc::new(config),
            base_dir,
            job_runtime,
            work,
            storage,
            scratch,
            node: None,
            keeps_rows: false,
            engine,
            meter: Meter::default(),
            limit,
        })
    }

    /// Makes the tables and puts `history` finished jobs in.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn prepare(&mut self, history: u64) -> Result<(), Failure> {
        migrate::tables(self.storage.db()).await.map_err(NodeError::from)?;
        let mut left = history;
        while left > 0 {
            let batch = left.min(HISTORY_BATCH);
            self.scratch.add_history(i64::try_from(batch).unwrap_or(i64::MAX)).await?;
            left -= batch;
            output::note(format!("history: {} of {history} rows", history - left));
        }
        self.keeps_rows = history > 0;
        self.scratch.settle(true).await?;
        if self.keeps_rows {
            self.scratch.write_back().await?;
        }
        Ok(())
    }

    /// Starts the node, with its queue paused.
    ///
    /// # Errors
    /// Those of a node's start.
    pub(super) async fn start_node(&mut self) -> Result<(), Failure> {
        let mut workers = Workers::default();
        workers.register(BenchWorker { work: self.work, meter: self.meter.clone() });
        let options = NodeOptions {
            config: Arc::clone(&self.config),
            base_dir: self.base_dir.clone(),
            instance_id: "auto".into(),
            built_in: false,
            workers,
            workflows: crate::workflow::Workflows::default(),
            job_runtime: Some(self.job_runtime.clone()),
            guardian: Guardian::ThisProgram,
        };
        // Its storage is its own: it closes it when it stops.
        let storage = Storage::open(&self.config, &self.base_dir, "singularity-bench-node", options.guardian).await?;
        match Box::pin(Node::start_prepared(options, storage.clone())).await {
            Ok(node) => {
                self.node = Some(node);
                Ok(())
            }
            Err(error) => {
                storage.close().await;
                Err(error.into())
            }
        }
    }

    /// The database that jobs are inserted through, apart from the node's connections.
    pub(super) fn db(&self) -> &Database {
        self.storage.db()
    }

    /// The node's queue, once it is started.
    pub(super) fn queue(&self) -> Option<Arc<QueueState>> {
        self.node.as_ref()?.queues().get(QUEUE)
    }

    /// Statements through the node itself, once it is started.
    pub(super) fn node_engine(&self) -> Option<Engine> {
        Some(self.node.as_ref()?.engine().clone())
    }

    /// Lets all queues go.
    pub(super) fn resume(&self) {
        if let Some(node) = &self.node {
            node.queues().iter().for_each(|queue| queue.set_paused(false));
        }
    }

    /// Transactions of the whole database so far.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn transactions(&mut self) -> Result<u64, Failure> {
        Ok(self.scratch.transactions().await?)
    }

    /// Bare connections.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn bare(&self) -> Result<Bare, Failure> {
        Ok(Bare::open(self.db(), QUEUE, WORKER).await?)
    }

    /// Name of the queue and of the worker.
    pub(super) const fn names() -> (&'static str, &'static str) {
        (QUEUE, WORKER)
    }

    /// Arguments of the job with this number.
    pub(super) fn args(number: u64) -> Value {
        json!({ "number": number, "text": "sixteen letters." })
    }

    /// A job with this number.
    pub(super) fn job(number: u64) -> NewJob {
        NewJob::new(WORKER, Self::args(number)).queue(QUEUE)
    }

    /// What autovacuum would do by and by, and what lies in the table is gone, unless there is a history.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn clear(&mut self) -> Result<(), Failure> {
        Ok(self.scratch.settle(self.keeps_rows).await?)
    }

    /// What lies in the table is gone, unless there is a history: then it is finished instead.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn clear_all(&mut self) -> Result<(), Failure> {
        if self.keeps_rows {
            let mut bare = self.bare().await?;
            bare.drain(1_000).await?;
        }
        self.clear().await
    }

    /// What autovacuum would do by and by.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn settle(&mut self) -> Result<(), Failure> {
        Ok(self.scratch.settle(true).await?)
    }

    /// Server settings by name.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn settings(&mut self) -> Result<Vec<(String, String)>, Failure> {
        Ok(self.scratch.settings().await?)
    }

    /// Whether the server is the embedded one.
    pub(super) fn is_embedded(&self) -> bool {
        self.storage.is_embedded()
    }

    /// Resolves when `jobs` more jobs than `before` are performed and all results are stored.
    pub(super) async fn performed(&self, before: u64, jobs: u64) {
        while self.meter.performed() < before + jobs {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        if let Some(node) = &self.node {
            node.queues().idle().await;
        }
    }

    /// Stops the node, drops the schema and closes the database.
    ///
    /// # Errors
    /// The schema could not be dropped.
    pub(super) async fn close(mut self, force: impl Future<Output = ()>) -> Result<(), Failure> {
        if let Some(node) = self.node.take() {
            if let Some(queue) = node.queues().get(QUEUE) {
                queue.set_paused(true);
            }
            Box::pin(node.shutdown(force)).await;
        }
        let name = self.scratch.name().to_string();
        let removed = self.scratch.remove().await;
        self.storage.close().await;
        removed.map_err(|error| {
            let failure = Failure::from(error);
            failure.hint(format!("the next `singularity bench run` removes what is left in schema {name}"))
        })
    }
}
