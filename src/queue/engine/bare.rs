//! The least SQL that does what the queue does: Oban's statements on connections of their own, nothing but ids decoded,
//! nobody told. It is what a measurement compares the engine and a whole node with, in the same run on the same server,
//! because the ratio of the two says more than either figure.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::Value;
use sqlx::postgres::PgListener;
use sqlx::{Connection, PgConnection, Row};

use crate::postgres::Database;
use crate::queue::error::QueueError;

const CLAIM: &str = "
    WITH subset AS MATERIALIZED (
      SELECT id FROM oban_jobs WHERE state = 'available' AND queue = $1
      ORDER BY priority, scheduled_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    UPDATE oban_jobs j
    SET state = 'executing', attempt = attempt + 1, attempted_at = timezone('UTC', now()), attempted_by = $3
    FROM subset WHERE j.id = subset.id AND j.attempt < j.max_attempts RETURNING j.*";

const COMPLETE: &str = "
    UPDATE oban_jobs SET state = 'completed', completed_at = timezone('UTC', now())
    WHERE id = ANY($1) AND state = 'executing'";

const INSERT: &str = "
    INSERT INTO oban_jobs (queue, worker, args) SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[]) RETURNING id";

const INSERT_ONE: &str = "INSERT INTO oban_jobs (queue, worker, args) VALUES ($1, $2, $3) RETURNING id";

const INSERT_ONE_AND_TELL: &str = "
    WITH new AS (INSERT INTO oban_jobs (queue, worker, args) VALUES ($1, $2, $3) RETURNING queue)
    SELECT pg_notify($4, queue) FROM new";

/// Two connections of their own, on which the statements are prepared once and never preceded by a test.
#[derive(Debug)]
pub struct Bare {
    claims: PgConnection,
    completions: PgConnection,
    queue: String,
    worker: String,
}

impl Bare {
    /// Opens the connections to `database`.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn open(database: &Database, queue: &str, worker: &str) -> Result<Self, QueueError> {
        Ok(Self {
            claims: connect(database).await?,
            completions: connect(database).await?,
            queue: queue.to_owned(),
            worker: worker.to_owned(),
        })
    }

    /// Claims `batch` jobs and returns their ids, in no order.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn claim(&mut self, batch: i64) -> Result<Vec<i64>, QueueError> {
        Ok(claim(&mut self.claims, &self.queue, batch).await?)
    }

    /// Completes jobs that execute, and says how many did.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn complete(&mut self, ids: &[i64]) -> Result<u64, QueueError> {
        Ok(complete(&mut self.completions, ids).await?)
    }

    /// Drains the queue: completes one batch while it claims the next, until nothing is left. Returns how many jobs it
    /// completed and how long that took.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn drain(&mut self, batch: i64) -> Result<(u64, Duration), QueueError> {
        let began = Instant::now();
        let (mut claimed, mut completed) = (Vec::new(), 0);
        loop {
            let (next, done) = tokio::try_join!(claim(&mut self.claims, &self.queue, batch), async {
                if claimed.is_empty() { Ok(0) } else { complete(&mut self.completions, &claimed).await }
            })?;
            completed += done;
            if next.is_empty() {
                return Ok((completed, began.elapsed()));
            }
            claimed = next;
        }
    }

    /// Inserts one job for each element of `args` in one statement, and says how many.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn insert(&mut self, args: Vec<Value>) -> Result<usize, QueueError> {
        let (queues, workers) = (vec![self.queue.as_str(); args.len()], vec![self.worker.as_str(); args.len()]);
        Ok(sqlx::query(INSERT).bind(queues).bind(workers).bind(args).fetch_all(&mut self.claims).await?.len())
    }
}

/// Connections that insert one job a statement.
#[derive(Debug)]
pub struct BareInserts {
    connections: Vec<PgConnection>,
    queue: String,
    worker: String,
}

impl BareInserts {
    /// Opens `connections` connections to `database`.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn open(database: &Database, queue: &str, worker: &str, connections: usize) -> Result<Self, QueueError> {
        let connections = try_join_all((0..connections).map(|_| connect(database))).await?;
        Ok(Self { connections, queue: queue.to_owned(), worker: worker.to_owned() })
    }

    /// Inserts `jobs` jobs on each connection, one a statement, on all connections at once.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn insert(&mut self, jobs: usize, args: &Value) -> Result<(), QueueError> {
        let (queue, worker) = (&self.queue, &self.worker);
        try_join_all(self.connections.iter_mut().map(|connection| async move {
            for _ in 0..jobs {
                sqlx::query(INSERT_ONE).bind(queue).bind(worker).bind(args).fetch_one(&mut *connection).await?;
            }
            Ok::<_, QueueError>(())
        }))
        .await?;
        Ok(())
    }
}

/// A connection that says something on a channel, one that hears it, and one that then claims.
#[derive(Debug)]
pub struct BareNotices {
    speaker: PgConnection,
    listener: PgListener,
    claims: PgConnection,
    channel: String,
}

impl BareNotices {
    /// Opens both connections.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn open(database: &Database) -> Result<Self, QueueError> {
        let channel = database.channel("bench");
        let mut listener = PgListener::connect_with(database.pool()).await?;
        listener.listen(&channel).await?;
        Ok(Self { speaker: connect(database).await?, listener, claims: connect(database).await?, channel })
    }

    /// Time from the moment before NOTIFY is sent until the listener has heard it. Nothing waits for the disk: a
    /// transaction that wrote nothing else is not flushed.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn once(&mut self) -> Result<Duration, QueueError> {
        let began = Instant::now();
        let speak = sqlx::query("SELECT pg_notify($1, $2)").bind(&self.channel).bind("{\"queue\":\"bench\"}");
        let (_, heard) = tokio::try_join!(speak.execute(&mut self.speaker), async {
            self.listener.recv().await.map(|_| began.elapsed())
        })?;
        Ok(heard)
    }

    /// Time from the moment before a job is inserted, until it was heard of and is claimed: the least that a start by
    /// notice takes. Insert and claim wait for the disk, one after the other.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn chain(&mut self, queue: &str, worker: &str, args: &Value) -> Result<Duration, QueueError> {
        let began = Instant::now();
        let insert = sqlx::query(INSERT_ONE_AND_TELL).bind(queue).bind(worker).bind(args).bind(&self.channel);
        let (_, claimed) = tokio::try_join!(insert.execute(&mut self.speaker), async {
            self.listener.recv().await?;
            claim(&mut self.claims, queue, 1).await?;
            Ok(began.elapsed())
        })?;
        Ok(claimed)
    }
}

async fn connect(database: &Database) -> Result<PgConnection, QueueError> {
    Ok(PgConnection::connect_with(&database.pool().connect_options()).await?)
}

async fn claim(connection: &mut PgConnection, queue: &str, batch: i64) -> Result<Vec<i64>, sqlx::Error> {
    let rows = sqlx::query(CLAIM).bind(queue).bind(batch).bind(["bench", "bare"]).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get("id")).collect()
}

async fn complete(connection: &mut PgConnection, ids: &[i64]) -> Result<u64, sqlx::Error> {
    Ok(sqlx::query(COMPLETE).bind(ids).execute(connection).await?.rows_affected())
}
