//! Statements that always come to an end: `&Database` as an executor.
//!
//! A network that swallows packets leaves a client waiting for a quarter of an hour, until the kernel gives the
//! connection up; the server's own limit does not help, because its answer is what gets lost. So a statement has a
//! limit on this side too. A connection whose statement did not come to its end, because of the limit or because its
//! future was dropped, goes not back to the pool, which would wait for it again: it is closed. Going back has a limit
//! as well.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Either, Error, Execute, Executor, PgConnection, Postgres, SqlStr};
use tokio::runtime::Handle;

use super::Database;

/// How much longer than the server a client waits for the end of a statement.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// A connection out of the pool that is closed, not given back, unless [`Session::give_back`] is called.
///
/// Dropping it ends a transaction that was begun on it: the server rolls back when its client is gone.
pub struct Session {
    connection: PoolConnection<Postgres>,
    clean: bool,
}

impl Session {
    /// Gives the connection back to the pool. Nothing may be under way on it.
    pub fn give_back(mut self) {
        self.clean = true;
    }
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Without a runtime the pool can do neither, and says so itself.
        let runtime = Handle::try_current().ok().filter(|_| self.clean);
        let Some(runtime) = runtime else {
            // Closed in the background, for which sqlx gives itself five seconds.
            self.connection.close_on_drop();
            return;
        };
        // The pool tests what comes back and waits for that without end, and its place with it. Here it is closed.
        let returning = self.connection.return_to_pool();
        #[expect(clippy::disallowed_methods, reason = "ends by itself, as what the pool starts in its place")]
        runtime.spawn(tokio::time::timeout(ANSWER_MARGIN, returning));
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Database {
    /// A connection for several statements, best inside [`Database::within_limit`]; a transaction has
    /// [`Database::transaction`].
    ///
    /// # Errors
    /// As the pool.
    pub async fn session(&self) -> Result<Session, Error> {
        Ok(Session { connection: self.pool().acquire().await.map_err(|error| self.at(error))?, clean: false })
    }

    /// Runs `work` for at most a little longer than the server works on one statement.
    ///
    /// # Errors
    /// Those of `work`, and a timed-out I/O error, which counts as a database that is away.
    pub async fn within_limit<T, E: From<Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.within(self.limit_of(1), work).await
    }

    /// A little longer than the server works on so many statements.
    pub(super) fn limit_of(&self, statements: u32) -> Duration {
        self.statement_timeout().saturating_mul(statements).saturating_add(ANSWER_MARGIN)
    }

    /// Runs `work` for at most so long.
    pub(super) async fn within<T, E: From<Error>>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => {
                let error = io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time");
                Err(self.at(Error::Io(error)).into())
            }
        }
    }
}

impl<'p> Executor<'p> for &'p Database {
    type Database = Postgres;

    /// All results are read before the first is given on, which is what every statement of ours wants.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let database = self.clone();
        let all = async move {
            let mut session = database.session().await?;
            let read = async { session.fetch_many(query).try_collect::<Vec<_>>().await };
            let result = database.within_limit(read).await;
            finished(session, result).map_err(|error| database.at(error))
        };
        stream::once(all).map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let database = self.clone();
        Box::pin(async move {
            let mut session = database.session().await?;
            let result = database.within_limit(session.fetch_optional(query)).await;
            finished(session, result).map_err(|error| database.at(error))
        })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        let database = self.clone();
        Box::pin(async move {
            let mut session = database.session().await?;
            let result = database.within_limit(session.prepare_with(sql, parameters)).await;
            finished(session, result).map_err(|error| database.at(error))
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        let database = self.clone();
        Box::pin(async move {
            let mut session = database.session().await?;
            let result = database.within_limit(session.describe(sql)).await;
            finished(session, result).map_err(|error| database.at(error))
        })
    }
}

/// Gives the connection back after an answer, and closes it after anything else.
fn finished<T>(session: Session, result: Result<T, Error>) -> Result<T, Error> {
    if matches!(&result, Ok(_) | Err(Error::Database(_))) {
        session.give_back();
    }
    result
}
