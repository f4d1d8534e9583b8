//! Schemas that exist only for a measurement, so that no table of anybody's is touched by it.
//!
//! Whoever measures holds an advisory lock named for the schema on a connection of its own. A process that was killed
//! leaves its schema behind and its lock not, by which the next one knows that it may be removed.

use std::fmt;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{Database, DbError, SchemaName};

/// How the names begin; a schema is ours to remove when its comment says so too.
const PREFIX: &str = "singularity_bench_";

/// Comment on such a schema.
const COMMENT: &str = "made by singularity for a measurement; may be dropped";

/// Longest wait for the locks of a schema that is dropped. Whoever reads in it is ours and has ended.
const DROP_LOCK_TIMEOUT: &str = "10s";

/// SQLSTATE of a statement that this user may not give.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// A schema that nobody else uses. Remove it with [`Scratch::remove`]; of one that is merely dropped the next
/// [`Scratch::create`] of anybody disposes.
pub struct Scratch {
    connection: PgConnection,
    name: SchemaName,
}

impl Scratch {
    /// A name that nobody has: 12 random characters after a prefix.
    ///
    /// # Errors
    /// None in practice: the name is of the allowed form.
    pub fn new_name() -> Result<SchemaName, DbError> {
        format!("{PREFIX}{:012x}", rand::random::<u64>() >> 16).parse()
    }

    /// Makes the schema that `database` looks in, empty, after removing those that killed processes left.
    ///
    /// # Errors
    /// Those of statements, for example without the privilege to create schemas.
    pub async fn create(database: &Database) -> Result<Self, DbError> {
        let mut connection = PgConnection::connect_with(&database.session_unlimited()).await?;
        remove_leftovers(&mut connection).await?;
        let name = database.schema().clone();
        sqlx::query("SELECT pg_advisory_lock(hashtextextended($1, 0))")
            .bind(name.as_str())
            .execute(&mut connection)
            .await?;
        let create = format!("CREATE SCHEMA {0}; COMMENT ON SCHEMA {0} IS '{COMMENT}'", name.quoted());
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
        Ok(Self { connection, name })
    }

    /// Its name.
    pub fn name(&self) -> &SchemaName {
        &self.name
    }

    /// Empties the jobs' table, or leaves it as it is with `keep`, and brings its statistics up to date, as autovacuum
    /// would.
    ///
    /// # Errors
    /// Those of statements.
    pub async fn settle(&mut self, keep: bool) -> Result<(), DbError> {
        if !keep {
            sqlx::raw_sql("TRUNCATE oban_jobs").execute(&mut self.connection).await?;
        }
        sqlx::raw_sql("VACUUM ANALYZE oban_jobs").execute(&mut self.connection).await?;
        Ok(())
    }

    /// Puts finished jobs into the table, as a long history leaves them.
    ///
    /// # Errors
    /// Those of statements.
    pub async fn add_history(&mut self, rows: i64) -> Result<(), DbError> {
        sqlx::query(
            "INSERT INTO oban_jobs (state, queue, worker, args, attempt, attempted_at, completed_at, attempted_by, inserted_at,
                                    scheduled_at)
             SELECT 'completed', 'bench', 'bench', jsonb_build_object('number', n, 'text', 'sixteen letters.'), 1, at, at,
                    ARRAY['bench', 'history'], at, at
             FROM (SELECT n, timezone('UTC', now()) - interval '1 hour' - n * interval '1 millisecond' AS at
                   FROM generate_series(1, $1) n) past",
        )
        .bind(rows)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    /// Has the server write to disk what it holds, as it has long done with a history. Without the right to ask for it
    /// the server does so in its own time.
    ///
    /// # Errors
    /// Those of statements.
    pub async fn write_back(&mut self) -> Result<(), DbError> {
        match sqlx::raw_sql("CHECKPOINT").execute(&mut self.connection).await.map_err(DbError::from) {
            Err(error) if error.sqlstate().as_deref() != Some(INSUFFICIENT_PRIVILEGE) => Err(error),
            _ => Ok(()),
        }
    }

    /// Server settings that decide about the figures, with their values.
    ///
    /// # Errors
    /// Those of statements.
    pub async fn settings(&mut self) -> Result<Vec<(String, String)>, DbError> {
        const NAMES: [&str; 6] =
            ["server_version", "fsync", "synchronous_commit", "shared_buffers", "max_wal_size", "autovacuum"];
        let rows = sqlx::query_as("SELECT name, current_setting(name) FROM unnest($1::text[]) name").bind(NAMES);
        Ok(rows.fetch_all(&mut self.connection).await?)
    }

    /// Transactions of all sessions of this database so far, as far as they have reported them.
    ///
    /// # Errors
    /// Those of statements.
    pub async fn transactions(&mut self) -> Result<u64, DbError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()",
        )
        .fetch_one(&mut self.connection)
        .await?;
        Ok(count.unsigned_abs())
    }

    /// Drops the schema with all that is in it.
    ///
    /// # Errors
    /// Those of statements; the schema is left to the next one then.
    pub async fn remove(mut self) -> Result<(), DbError> {
        drop_schema(&mut self.connection, &self.name).await?;
        self.connection.close().await?;
        Ok(())
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("name", &self.name).finish_non_exhaustive()
    }
}

async fn drop_schema(connection: &mut PgConnection, name: &SchemaName) -> Result<(), DbError> {
    sqlx::query("SELECT set_config('lock_timeout', $1, false)")
        .bind(DROP_LOCK_TIMEOUT)
        .execute(&mut *connection)
        .await?;
    let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", name.quoted());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// Drops the schemas whose makers are gone.
async fn remove_leftovers(connection: &mut PgConnection) -> Result<(), DbError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT nspname::text FROM pg_namespace
         WHERE starts_with(nspname::text, $1) AND obj_description(oid, 'pg_namespace') = $2",
    )
    .bind(PREFIX)
    .bind(COMMENT)
    .fetch_all(&mut *connection)
    .await?;
    for name in names.iter().filter_map(|name| name.parse::<SchemaName>().ok()) {
        let is_free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
            .bind(name.as_str())
            .fetch_one(&mut *connection)
            .await?;
        if is_free {
            drop_schema(connection, &name).await?;
            sqlx::query("SELECT pg_advisory_unlock(hashtextextended($1, 0))")
                .bind(name.as_str())
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}
