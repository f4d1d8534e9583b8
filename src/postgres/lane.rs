//! A connection of its own for one kind of statement that must be fast, or must not wait for a full pool.
//!
//! sqlx's pool tests a connection when it comes back, with a round trip, which is as long as a short statement takes. A
//! lane keeps one connection apart for its owner and tests nothing. While it is busy, further statements go through the
//! pool, so nobody waits. Like the pool it finds out that a connection is stale by one failed call.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::postgres::{PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{ConnectOptions, Either, Error, Execute, Executor, PgConnection, Postgres, SqlStr};

use super::Database;
use super::pool::{ACQUIRE_TIMEOUT, LIFETIME_MAX};

/// How long a statement of many rows, which many others wait for, waits for the lock of one of them: 1 s. Without a
/// lock in the way it takes some milliseconds.
const LOCK_TIMEOUT: (&str, &str) = ("lock_timeout", "1000");

/// How the server plans what is sent on [`Lane::planned_once`]. A plan that is kept must be good however the table
/// grows, so there is only one way to make it, along an index. Compiling it would take longer than it runs.
const PLANNED_ONCE: [(&str, &str); 5] = [
    LOCK_TIMEOUT,
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
];

/// What a server says that has no place for one more connection.
const TOO_MANY_CONNECTIONS: &str = "53300";

/// One connection beside the pool; `&Lane` is an executor as `&Database` is. Clones share it.
///
/// Cancel safety: a statement whose future is dropped takes the connection with it.
#[derive(Clone)]
pub struct Lane {
    db: Database,
    settings: &'static [(&'static str, &'static str)],
    place: Arc<Mutex<Place>>,
}

enum Place {
    Free(Option<Kept>),
    Busy,
}

struct Kept {
    connection: PgConnection,
    made: Instant,
}

/// The lane while a statement is under way on it. Whatever is in `kept` in the end is left to the next one.
struct Taken {
    place: Arc<Mutex<Place>>,
    kept: Option<Kept>,
}

impl Lane {
    /// A lane to this database, which connects with its first statement.
    pub fn new(db: Database) -> Self {
        Self { db, settings: &[], place: Arc::new(Mutex::new(Place::Free(None))) }
    }

    /// The same for statements that soon give up waiting for a lock, because others wait for them.
    pub fn impatient(db: Database) -> Self {
        Self { settings: &[LOCK_TIMEOUT], ..Self::new(db) }
    }

    /// The same, impatient too, for statements that look rows up in indexes, each planned once. Left alone the server
    /// plans a claim anew each time, because without the number of rows it looks expensive to it: 0.12 to 0.26 ms of
    /// planning for 0.15 to 0.3 ms of work (EXPLAIN ANALYZE, PostgreSQL 15, 10 jobs).
    ///
    /// No join of tables belongs here: a plan that was made while the table was small reads all of it for one.
    pub fn planned_once(db: Database) -> Self {
        Self { settings: &PLANNED_ONCE, ..Self::new(db) }
    }

    /// Runs one statement on the connection, or on one of the pool while another statement has it.
    async fn run<T>(&self, statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Error>) -> Result<T, Error> {
        self.try_run(statement).await.map_err(|error| self.db.at(error))
    }

    async fn try_run<T>(&self, statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Error>) -> Result<T, Error> {
        let Some(mut taken) = self.take() else { return self.run_in_pool(statement).await };
        if self.db.pool().is_closed() {
            taken.kept = None;
            return Err(Error::PoolClosed);
        }
        // Out of the lane for as long as the statement runs: dropped in the middle it is closed.
        let mut kept = match taken.kept.take().filter(|kept| kept.made.elapsed() < LIFETIME_MAX) {
            Some(kept) => kept,
            None => match self.connect().await {
                Ok(kept) => kept,
                // The pool may still have some.
                Err(Error::Database(refused)) if refused.code().as_deref() == Some(TOO_MANY_CONNECTIONS) => {
                    drop(taken);
                    return self.run_in_pool(statement).await;
                }
                Err(error) => return Err(error),
            },
        };
        let result = self.db.within_limit(statement(&mut kept.connection)).await;
        if is_answer(&result) {
            taken.kept = Some(kept);
        }
        result
    }

    async fn run_in_pool<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut session = self.db.session().await?;
        let result = self.db.within_limit(statement(&mut session)).await;
        if is_answer(&result) {
            session.give_back();
        }
        result
    }

    fn take(&self) -> Option<Taken> {
        match std::mem::replace(&mut *lock(&self.place), Place::Busy) {
            Place::Busy => None,
            Place::Free(kept) => Some(Taken { place: Arc::clone(&self.place), kept }),
        }
    }

    async fn connect(&self) -> Result<Kept, Error> {
        let options = PgConnectOptions::clone(&self.db.pool().connect_options()).options(self.settings.iter().copied());
        let connecting = tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect());
        let timed_out = |_| Error::Io(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long"));
        Ok(Kept { connection: connecting.await.map_err(timed_out)??, made: Instant::now() })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *lock(&self.place) = Place::Free(self.kept.take());
    }
}

/// Whether the statement came to its end, so that its connection can be used again.
fn is_answer<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Ok(_) | Err(Error::Database(_)))
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    // Either variant is whole, whatever happened to who held the lock.
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("db", &self.db).finish_non_exhaustive()
    }
}

impl<'p> Executor<'p> for &'p Lane {
    type Database = Postgres;

    /// All results are read before the first is given on, which is what every statement of ours wants.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let all = self
            .run(async move |connection: &mut PgConnection| connection.fetch_many(query).try_collect::<Vec<_>>().await);
        stream::once(all).map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(self.run(async move |connection: &mut PgConnection| connection.fetch_optional(query).await))
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        (&self.db).prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        (&self.db).describe(sql)
    }
}
