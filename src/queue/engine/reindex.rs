//! Rebuilding indexes that bloat, without stopping anybody, and removing what an interrupted rebuild left.
//!
//! These statements cannot have parameters and run in no transaction. Names come from the catalog, quoted by it.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::Engine;
use crate::queue::error::QueueError;

/// How much longer than the server this side waits for the end of a statement.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// An index by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexName {
    /// Its bare name.
    pub name: String,
    /// Schema and name, quoted.
    quoted: String,
}

impl Engine {
    /// Those of `names` that are indexes of `oban_jobs`, in this order.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn indexes(&self, names: &[String]) -> Result<Vec<IndexName>, QueueError> {
        let indexes = sqlx::query_as!(
            IndexName,
            r#"SELECT c.relname::text AS "name!", format('%I.%I', n.nspname, c.relname) AS "quoted!"
               FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, place)
               JOIN pg_class c ON c.relname = wanted.name
               JOIN pg_namespace n ON n.oid = c.relnamespace
               JOIN pg_index i ON i.indexrelid = c.oid
               WHERE n.nspname = current_schema() AND i.indrelid = to_regclass('oban_jobs')
               ORDER BY wanted.place"#,
            names,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(indexes)
    }

    /// Indexes of `oban_jobs` that a rebuild left invalid: their names begin with `oban_jobs`, and nobody is building
    /// them at this moment.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn invalid_indexes(&self) -> Result<Vec<IndexName>, QueueError> {
        let indexes = sqlx::query_as!(
            IndexName,
            r#"SELECT c.relname::text AS "name!", format('%I.%I', n.nspname, c.relname) AS "quoted!"
               FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE i.indrelid = to_regclass('oban_jobs') AND NOT i.indisvalid AND starts_with(c.relname, 'oban_jobs')
                 AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = i.indrelid)
               ORDER BY c.relname"#,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(indexes)
    }

    /// Rebuilds an index while everybody goes on. The server ends it after `limit`; what it leaves then is invalid and
    /// takes no part in queries.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn reindex(&self, index: &IndexName, limit: Duration) -> Result<(), QueueError> {
        // Whoever has an older snapshot is waited for, which the limit of the whole statement bounds.
        self.maintain(format!("REINDEX INDEX CONCURRENTLY {}", index.quoted), limit, limit).await
    }

    /// Drops an invalid index. One that somebody has begun to build again is locked and stays.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn drop_index(&self, index: &IndexName, limit: Duration) -> Result<(), QueueError> {
        let sql = format!("DROP INDEX CONCURRENTLY IF EXISTS {}", index.quoted);
        self.maintain(sql, limit, Duration::from_millis(100)).await
    }

    /// Runs a statement outside of any transaction on a connection of its own with limits of its own.
    async fn maintain(&self, sql: String, limit: Duration, lock_limit: Duration) -> Result<(), QueueError> {
        let millis = |limit: Duration| limit.as_millis().max(1).to_string();
        let mut session = self.db.session().await?;
        let work = async {
            sqlx::query("SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false)")
                .bind(millis(limit))
                .bind(millis(lock_limit))
                .execute(&mut *session)
                .await?;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *session).await
        };
        let answer = tokio::time::timeout(limit.saturating_add(ANSWER_MARGIN), work).await;
        // The connection has other settings than the pool's, so it is closed and not given back.
        drop(session);
        match answer {
            Ok(result) => Ok(result.map(drop)?),
            Err(_) => {
                let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not answer in time");
                Err(sqlx::Error::Io(error).into())
            }
        }
    }
}
