//! A server, databases on it, and the engine on one of them.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use singularity::postgres::embedded::{GUARDIAN_ARGUMENT, Options, Profile, Server};
use singularity::postgres::{Database, PoolOptions, migrate};
use singularity::queue::engine::{Claim, GuardedAck, INSERT_BATCH_MAX};
use singularity::queue::{Engine, Job, NewJob, Outcome, ack};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

/// Queue of all jobs here.
pub const QUEUE: &str = "default";

/// Worker of all jobs here.
pub const WORKER: &str = "bench";

/// A server of our own and a runtime.
pub struct Fixture {
    server: Server,
    runtime: Runtime,
}

impl Fixture {
    /// Starts the server, durable as a node's.
    pub fn start() -> Self {
        let mut options = Options::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/bench-postgres"));
        options.profile = Profile::Durable;
        options.guardian = Some(vec![env!("CARGO_BIN_EXE_singularity").into(), GUARDIAN_ARGUMENT.into()]);
        let server = Server::acquire(&options).unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { server, runtime }
    }

    /// A new database with so many jobs that wait.
    pub fn bench(&self, backlog: usize) -> Bench<'_> {
        self.runtime.block_on(async {
            let name = format!("bench_{}", Uuid::now_v7().simple());
            let admin_url = self.server.connection().url();
            execute(&admin_url, format!("CREATE DATABASE {name} TEMPLATE template0")).await;
            let url: SecretString = with_database(admin_url.expose_secret(), &name).into();
            let database = Database::connect(&url, &PoolOptions::default()).await.unwrap();
            migrate::up(&database).await.unwrap();
            let engine = Engine::new(database);
            let bench = Bench { fixture: self, name, url, engine, producer: Uuid::now_v7(), workers: [WORKER.into()] };
            for _ in 0..backlog / INSERT_BATCH_MAX {
                bench.insert(INSERT_BATCH_MAX).await;
            }
            // As autovacuum would have done after so many rows.
            execute(&bench.url, "VACUUM ANALYZE oban_jobs".into()).await;
            bench
        })
    }

    /// Stops the server.
    pub fn stop(self) {
        self.server.release().unwrap();
    }
}

/// One database and the engine on it.
pub struct Bench<'a> {
    fixture: &'a Fixture,
    name: String,
    pub url: SecretString,
    pub engine: Engine,
    producer: Uuid,
    workers: [String; 1],
}

impl Bench<'_> {
    /// Sum of what `iterations` runs of `once` say that they took.
    pub fn total(&self, iterations: u64, mut once: impl AsyncFnMut() -> Duration) -> Duration {
        self.block_on(async {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                total += once().await;
            }
            total
        })
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.fixture.runtime.block_on(future)
    }

    pub async fn claim(&self, batch: usize) -> Vec<Job> {
        let claim = Claim {
            queue: QUEUE,
            instance_id: "bench",
            producer: self.producer,
            workers: &self.workers,
            demand: u32::try_from(batch).unwrap(),
        };
        let jobs = self.engine.claim(&claim).await.unwrap();
        assert_eq!(jobs.len(), batch);
        jobs
    }

    /// What a completer writes when all of `jobs` completed.
    pub fn acks(&self, jobs: &[Job]) -> Vec<GuardedAck> {
        let ack = |job: &Job| ack(&Outcome::Completed, job.id, job.attempt, job.max_attempts, Duration::ZERO);
        jobs.iter()
            .map(|job| GuardedAck { ack: ack(job), producer: self.producer, attempted_at: job.attempted_at })
            .collect()
    }

    pub async fn complete(&self, acks: &[GuardedAck]) {
        assert_eq!(self.engine.complete(acks).await.unwrap().len(), acks.len());
    }

    pub fn jobs(count: usize) -> Vec<NewJob> {
        (0..count)
            .map(|number| NewJob::new(WORKER, json!({ "number": number, "text": "sixteen letters." })).queue(QUEUE))
            .collect()
    }

    pub async fn insert(&self, count: usize) {
        self.engine.insert_many(Self::jobs(count)).await.unwrap();
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        self.block_on(execute(&self.fixture.server.connection().url(), sql));
    }
}

async fn execute(url: &SecretString, sql: String) {
    let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn with_database(url: &str, name: &str) -> String {
    let (main, query) = url.split_once('?').unwrap();
    let (server, _) = main.rsplit_once('/').unwrap();
    format!("{server}/{name}?{query}")
}
