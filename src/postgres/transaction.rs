//! Transactions that always come to an end: several statements as one, with a limit on this side for all of them.
//!
//! What a network swallows a client waits for, up to a quarter of an hour or for ever (see `session.rs`), and a
//! transaction that is merely dropped then keeps its place in the pool, which waits for the same connection. So every
//! transaction of a running node begins here. Its connection goes back to the pool after an answer and is closed
//! otherwise, upon which the server rolls back.

use std::time::Duration;

use sqlx::{Connection, Error, Postgres};

use super::Database;

/// A transaction under way; what is not committed is rolled back.
pub type Transaction<'t> = sqlx::Transaction<'t, Postgres>;

/// Statements that a transaction has beside those of its work: its beginning and its end.
const OWN_STATEMENTS: u32 = 2;

impl Database {
    /// Runs `work`, of not more than `statements`, in a transaction, for at most a little longer than the server works
    /// on so many. `work` commits; what it leaves uncommitted, by an error or on purpose, is rolled back when this
    /// returns, with its locks gone, unless the database did not answer.
    ///
    /// The isolation level is READ COMMITTED, whatever the server's default is: after a lock, what others committed
    /// must be seen.
    ///
    /// Cancel safety: all of it happens or nothing.
    ///
    /// # Errors
    /// Those of `work`, those of the pool, and a timed-out I/O error, which counts as a database that is away; a
    /// commit whose answer was lost may have happened.
    pub async fn transaction<T, E: From<Error>>(
        &self,
        statements: u32,
        work: impl AsyncFnOnce(Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.transaction_within(self.limit_of(statements.saturating_add(OWN_STATEMENTS)), work).await
    }

    /// As [`Database::transaction`], for work that sets a time of its own on the server, or whose statements nobody
    /// counts beforehand.
    ///
    /// # Errors
    /// As [`Database::transaction`].
    pub async fn transaction_within<T, E: From<Error>>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut session = self.session().await?;
        let mut has_ended = false;
        let all = async {
            let transaction =
                session.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(|error| self.at(error))?;
            let result = work(transaction).await;
            has_ended = true;
            result
        };
        let result = self.within(limit, all).await;
        // Carries the rollback of a transaction that was left: it is only sent with the next use of its connection.
        if has_ended && self.within_limit(session.ping()).await.is_ok() {
            session.give_back();
        }
        result
    }
}
