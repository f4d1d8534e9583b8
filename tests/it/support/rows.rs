//! Databases with `oban_jobs` in both of the shapes in use, and rows as they are.

use serde_json::Value;
use singularity::postgres::{Database, PoolOptions, migrate};
use singularity::queue::engine::{Claim, GuardedAck};
use singularity::queue::{Ack, Engine, Job, NewJob, State};
use uuid::Uuid;

use super::db::TestDb;
use super::skipped;

/// Who made `oban_jobs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Our migrations, as Oban for Elixir: `errors jsonb[]`, integers.
    Elixir,
    /// As Oban for Python: `errors jsonb`, smallints, identity, nothing nullable.
    Python,
}

pub const SHAPES: [Shape; 2] = [Shape::Elixir, Shape::Python];

const PYTHON: &str = "
    CREATE TYPE oban_job_state AS ENUM (
      'available', 'scheduled', 'suspended', 'executing', 'retryable', 'completed', 'discarded', 'cancelled');
    CREATE TABLE oban_jobs (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      state oban_job_state NOT NULL DEFAULT 'available',
      queue text NOT NULL DEFAULT 'default' CHECK (length(queue) > 0),
      worker text NOT NULL CHECK (length(worker) > 0),
      attempt smallint NOT NULL DEFAULT 0,
      max_attempts smallint NOT NULL DEFAULT 20 CHECK (max_attempts > 0),
      priority smallint NOT NULL DEFAULT 0 CHECK (priority >= 0),
      args jsonb NOT NULL DEFAULT '{}',
      meta jsonb NOT NULL DEFAULT '{}',
      tags text[] NOT NULL DEFAULT '{}',
      errors jsonb NOT NULL DEFAULT '[]',
      attempted_by text[] NOT NULL DEFAULT '{}',
      inserted_at timestamp NOT NULL DEFAULT timezone('UTC', now()),
      scheduled_at timestamp NOT NULL DEFAULT timezone('UTC', now()),
      attempted_at timestamp, completed_at timestamp, cancelled_at timestamp, discarded_at timestamp,
      CHECK (attempt BETWEEN 0 AND max_attempts));
    CREATE INDEX oban_jobs_state_queue_priority_scheduled_at_id_index
      ON oban_jobs (state, queue, priority, scheduled_at, id) WITH (fillfactor = 90);";

/// An empty database with everything in it, and its statements.
pub async fn engine() -> (TestDb, Engine) {
    let (db, database) = TestDb::migrated().await;
    (db, Engine::new(database))
}

/// The same in this shape.
pub async fn engine_in(shape: Shape) -> (TestDb, Engine) {
    let db = TestDb::new().await;
    if shape == Shape::Python {
        db.execute(PYTHON).await;
    }
    let database = db.connect("public").await;
    migrate::up(&database).await.unwrap();
    (db, Engine::new(database))
}

/// A row as JSON, all columns by name.
pub async fn row(database: &Database, id: i64) -> Value {
    sqlx::query_scalar("SELECT to_jsonb(j) FROM oban_jobs j WHERE id = $1")
        .bind(id)
        .fetch_one(database.pool())
        .await
        .unwrap()
}

/// All columns but those named.
pub fn without(mut row: Value, columns: &[&str]) -> Value {
    for column in columns {
        assert!(row.as_object_mut().unwrap().remove(*column).is_some(), "no column {column}");
    }
    row
}

/// Inserts a job, then sets columns of it, as another program might have left it.
pub async fn with(engine: &Engine, job: NewJob, set: &str) -> i64 {
    let id = engine.insert(job).await.unwrap().id;
    set_columns(engine, id, set).await;
    id
}

/// Sets columns of a row.
pub async fn set_columns(engine: &Engine, id: i64, set: &str) {
    let sql = format!("UPDATE oban_jobs SET {set} WHERE id = {id}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(engine.db().pool()).await.unwrap();
}

/// Names of workers as a claim wants them.
pub fn names(workers: &[&str]) -> Vec<String> {
    workers.iter().map(|name| (*name).to_owned()).collect()
}

/// Claims from queue `default` for instance `here` and worker `w`.
pub async fn claim(engine: &Engine, producer: Uuid, demand: u32) -> Vec<Job> {
    let workers = names(&["w"]);
    let claim = Claim { queue: "default", instance_id: "here", producer, workers: &workers, demand };
    engine.claim(&claim).await.unwrap()
}

/// Ids of jobs.
pub fn ids(jobs: &[Job]) -> Vec<i64> {
    jobs.iter().map(|job| job.id).collect()
}

/// A write of `producer` about a claimed job.
pub fn guarded(job: &Job, ack: Ack, producer: Uuid) -> GuardedAck {
    GuardedAck { ack, producer, attempted_at: job.attempted_at }
}

/// State of a row.
pub async fn state(engine: &Engine, id: i64) -> State {
    engine.get(id).await.unwrap().unwrap().state
}

/// Seconds from now, by the database's clock, until a time column of a row.
pub async fn seconds_until(database: &Database, id: i64, column: &str) -> f64 {
    let sql = format!(
        "SELECT extract(epoch FROM {column} - timezone('UTC', clock_timestamp()))::float8 FROM oban_jobs WHERE id = $1"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(id).fetch_one(database.pool()).await.unwrap()
}

/// An engine with one connection, of which [`reads`] tells what it read; `None`, and a line that says so, where the
/// server does not tell that at once.
pub async fn counting(db: &TestDb) -> Option<Engine> {
    let options = PoolOptions { max: 1, ..PoolOptions::default() };
    let engine = Engine::new(Database::connect(db.url(), &options).await.unwrap());
    migrate::up(engine.db()).await.unwrap();
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(engine.db().pool())
        .await
        .unwrap();
    if version < 150_000 {
        skipped("PostgreSQL before 15 does not say at once what was read");
        return None;
    }
    Some(engine)
}

/// Rows and index entries of `oban_jobs` that were read so far, by the only connection that there is.
pub async fn reads(engine: &Engine) -> i64 {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(engine.db().pool()).await.unwrap();
    let sql = "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'oban_jobs')::bigint
                    + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname = 'oban_jobs')::bigint";
    sqlx::query_scalar(sql).fetch_one(engine.db().pool()).await.unwrap()
}
