//! Brings the schema up to date: Oban's tables, ours, and pgmq.
//!
//! Migrations are plain SQL files with unqualified names, applied in order, each in a transaction of its own with its
//! row in `singularity_migrations`; a released file is never edited. One lock for each database lets any number of
//! instances start at once: the first applies, the others wait for it, say for whom, and find it done. Nothing is ever
//! migrated down.
//!
//! Oban's tables follow Oban's own rule: the version is the comment on `oban_jobs`. A table that is there stays as it
//! is, and one that is newer than we know is refused before anything is touched.

mod access;
mod error;
mod indexes;
mod oban;
mod tuning;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction};

pub use access::{Access, access};
pub use error::MigrateError;
pub use indexes::{IndexState, IndexStep, switch_indexes};
pub use oban::{ObanTables, ObanVersion};
pub use tuning::Tuning;

use super::{Database, DbError, SchemaName, pgmq};

/// Version of Oban's tables that we create, and the newest that we work on.
pub const OBAN_VERSION: u32 = 14;

/// The newest migration that this program knows.
pub const VERSION: i32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// Key of the advisory lock around everything that changes the schema: "SINGULAR" in ASCII.
pub(super) const LOCK_KEY: i64 = 0x5349_4e47_554c_4152;

/// Longest wait for a table lock. Migrations of another instance are waited for however long they take.
const LOCK_TIMEOUT: &str = "60s";

/// Looks at the lock, and the wait between two, before it is said for whom it is waited.
const QUIET_TRIES: u32 = 10;
const QUIET_WAIT: Duration = Duration::from_millis(100);

struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: [Migration; 12] = [
    Migration { version: 1, name: "oban", sql: include_str!("../../migrations/0001_oban.sql") },
    Migration { version: 2, name: "instances", sql: include_str!("../../migrations/0002_instances.sql") },
    Migration { version: 3, name: "workflows", sql: include_str!("../../migrations/0003_workflows.sql") },
    Migration {
        version: 4,
        name: "supervision_events",
        sql: include_str!("../../migrations/0004_supervision_events.sql"),
    },
    Migration { version: 5, name: "tuning", sql: include_str!("../../migrations/0005_tuning.sql") },
    Migration {
        version: 6,
        name: "instance_settings",
        sql: include_str!("../../migrations/0006_instance_settings.sql"),
    },
    Migration { version: 7, name: "cron", sql: include_str!("../../migrations/0007_cron.sql") },
    Migration { version: 8, name: "cloud", sql: include_str!("../../migrations/0008_cloud.sql") },
    Migration { version: 9, name: "workflow_parts", sql: include_str!("../../migrations/0009_workflow_parts.sql") },
    Migration { version: 10, name: "models", sql: include_str!("../../migrations/0010_models.sql") },
    Migration { version: 11, name: "embeddings", sql: include_str!("../../migrations/0011_embeddings.sql") },
    Migration { version: 12, name: "budget_attempts", sql: include_str!("../../migrations/0012_budget_attempts.sql") },
];

/// The migration of Oban's tables. Its SQL looks for itself what is missing.
const OBAN_MIGRATION: i32 = 1;

/// The migration of storage settings, which a table of jobs that was made again gets again.
const TUNING_MIGRATION: i32 = 5;

/// What [`up`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Migrations that were applied now, in order; empty when nothing was to do.
    pub applied: Vec<(i32, &'static str)>,
    /// Oban's tables as they were before; `None` when there were none.
    pub oban_before: Option<ObanTables>,
    /// The message queue functions.
    pub pgmq: pgmq::Installation,
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Schema that was looked at.
    pub schema: String,
    /// Every migration that this program knows, in order, then recorded ones that it does not know.
    pub migrations: Vec<MigrationStatus>,
    /// Oban's tables, if any.
    pub oban: Option<ObanTables>,
    /// Indexes of the table of jobs.
    pub indexes: IndexState,
    /// Storage settings of the table of jobs; `None` without the table.
    pub tuning: Option<Tuning>,
    /// The message queue functions, if any.
    pub pgmq: Option<pgmq::Installation>,
}

/// One migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its number.
    pub version: i32,
    /// Its name.
    pub name: String,
    /// When it was applied; `None` is pending.
    pub applied_at: Option<DateTime<Utc>>,
    /// This program has it. False for one that a newer release applied.
    pub known: bool,
}

impl Status {
    /// Nothing is left to do and nothing is newer than this program.
    pub fn is_current(&self) -> bool {
        self.migrations.iter().all(|migration| migration.applied_at.is_some() && migration.known)
            && self.oban.as_ref().is_some_and(|oban| oban.has_peers)
            && self.pgmq.as_ref().is_some_and(pgmq::Installation::has_topics)
    }
}

/// Brings the schema up to date. Safe to repeat and to run from many instances at once.
///
/// Cancel safety: the migration that runs is undone, those before it stay; call again to go on.
///
/// # Errors
/// `E0301` to `E0304` when the schema must not be touched, `E0305` when a migration failed, `E0306` to `E0308` for pgmq
/// (the tables are up to date then), and those of [`DbError`].
pub async fn up(database: &Database) -> Result<Report, MigrateError> {
    let (applied, oban_before) = tables(database).await?;
    let pgmq = pgmq::ensure(database).await?;
    Ok(Report { applied, oban_before, pgmq })
}

/// As [`up`], but leaves the message queue functions, which belong to the whole database, as they are. Returns the
/// first two fields of [`Report`].
///
/// # Errors
/// As [`up`].
pub async fn tables(database: &Database) -> Result<(Vec<(i32, &'static str)>, Option<ObanTables>), MigrateError> {
    let schema = database.schema();
    let mut transaction = lock(database).await?;
    let oban_before = ObanTables::find(&mut transaction, schema).await?;
    if let Some(oban) = &oban_before {
        oban.accept(schema)?;
    }
    let recorded = recorded(&mut transaction, schema).await?;
    if let Some(newest) = recorded.iter().map(|row| row.0).max().filter(|newest| *newest > VERSION) {
        return Err(MigrateError::NewerSchema { schema: schema.to_string(), found: newest });
    }
    // Recorded of a table that is no more: the one that is made now is not tuned. What others record meanwhile is of
    // that one.
    let was_tuned = recorded.iter().any(|row| row.0 == TUNING_MIGRATION);
    prepare(&mut transaction, schema).await?;
    transaction.commit().await?;

    let mut applied = Vec::new();
    for migration in &MIGRATIONS {
        let made_jobs = oban_before.is_none() && applied.iter().any(|(version, _)| *version == OBAN_MIGRATION);
        if apply(database, migration, was_tuned && made_jobs && migration.version == TUNING_MIGRATION).await? {
            tracing::info!(version = migration.version, name = migration.name, %schema, "migration applied");
            applied.push((migration.version, migration.name));
        }
    }
    Ok((applied, oban_before))
}

/// Refuses tables that are not those of this release, and changes nothing.
///
/// # Errors
/// `E0304` and `E0311`, and those of [`DbError`].
pub async fn check(database: &Database) -> Result<(), MigrateError> {
    let schema = database.schema();
    let recorded = recorded(&mut *database.pool().acquire().await?, schema).await?;
    if let Some(newest) = recorded.iter().map(|row| row.0).max().filter(|newest| *newest > VERSION) {
        return Err(MigrateError::NewerSchema { schema: schema.to_string(), found: newest });
    }
    let is_missing = |migration: &&Migration| !recorded.iter().any(|row| row.0 == migration.version);
    match MIGRATIONS.iter().filter(is_missing).count() {
        0 => Ok(()),
        missing => Err(MigrateError::Pending { schema: schema.to_string(), missing }),
    }
}

/// Says what is there, and changes nothing.
///
/// # Errors
/// Those of [`DbError`].
pub async fn status(database: &Database) -> Result<Status, MigrateError> {
    let schema = database.schema();
    let mut connection = database.pool().acquire().await?;
    let recorded = recorded(&mut connection, schema).await?;
    let mut migrations: Vec<MigrationStatus> = MIGRATIONS
        .iter()
        .map(|migration| MigrationStatus {
            version: migration.version,
            name: migration.name.to_owned(),
            applied_at: recorded.iter().find(|row| row.0 == migration.version).map(|row| row.2),
            known: true,
        })
        .collect();
    migrations.extend(recorded.into_iter().filter(|row| row.0 > VERSION).map(|(version, name, applied_at)| {
        MigrationStatus { version, name, applied_at: Some(applied_at), known: false }
    }));
    Ok(Status {
        schema: schema.to_string(),
        migrations,
        oban: ObanTables::find(&mut connection, schema).await?,
        indexes: IndexState::find(&mut connection, schema).await?,
        tuning: Tuning::find(&mut connection, schema).await?,
        pgmq: pgmq::find(&mut connection).await?,
    })
}

/// A transaction that no statement timeout ends and that holds the lock until it is over.
async fn lock(database: &Database) -> Result<Transaction<'static, Postgres>, DbError> {
    let mut transaction = database.begin().await?;
    sqlx::query("SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)")
        .execute(&mut *transaction)
        .await?;
    let mut tries_left = QUIET_TRIES;
    let is_free = loop {
        let is_free: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
            .bind(LOCK_KEY)
            .fetch_one(&mut *transaction)
            .await?;
        if is_free || tries_left == 0 {
            break is_free;
        }
        tries_left -= 1;
        tokio::time::sleep(QUIET_WAIT).await;
    };
    if !is_free {
        let held_by = holder(&mut transaction).await?.unwrap_or_else(|| "a session that has just ended".into());
        tracing::warn!(target: "postgres", held_by, "waiting until another session has ended its migrations");
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK_KEY).execute(&mut *transaction).await?;
    }
    sqlx::query("SELECT set_config('lock_timeout', $1, true)").bind(LOCK_TIMEOUT).execute(&mut *transaction).await?;
    Ok(transaction)
}

/// Who holds the lock.
async fn holder(connection: &mut PgConnection) -> Result<Option<String>, DbError> {
    let text = sqlx::query_scalar(
        "SELECT format('process %s of the server, %s, for %s s', a.pid,
                       coalesce(nullif(a.application_name, ''), 'without a name'),
                       coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, 0))
         FROM pg_locks l JOIN pg_stat_activity a USING (pid)
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
           AND l.classid::bigint << 32 | l.objid::bigint = $1
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    );
    Ok(text.bind(LOCK_KEY).fetch_optional(connection).await?)
}

/// Schema and version table.
async fn prepare(connection: &mut PgConnection, schema: &SchemaName) -> Result<(), DbError> {
    // CREATE SCHEMA asks for the privilege even where the schema exists, so it is not asked then.
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema.as_str())
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        let create = AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {}", schema.quoted()));
        sqlx::raw_sql(create).execute(&mut *connection).await?;
    }
    if !has_table(connection, schema, "singularity_migrations").await? {
        sqlx::raw_sql(
            "CREATE TABLE singularity_migrations (
               version integer PRIMARY KEY,
               name text NOT NULL,
               applied_at timestamptz NOT NULL DEFAULT now()
             )",
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Applies one migration unless it is recorded, or `again`; true when it was applied now.
async fn apply(database: &Database, migration: &Migration, again: bool) -> Result<bool, MigrateError> {
    let failed = |error: DbError| MigrateError::Failed { version: migration.version, name: migration.name, error };
    let schema = database.schema();
    let mut transaction = lock(database).await?;
    let is_recorded: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM singularity_migrations WHERE version = $1)")
        .bind(migration.version)
        .fetch_one(&mut *transaction)
        .await?;
    let has_jobs = migration.version != OBAN_MIGRATION || has_table(&mut transaction, schema, "oban_jobs").await?;
    let is_complete =
        migration.version != OBAN_MIGRATION || (has_jobs && has_table(&mut transaction, schema, "oban_peers").await?);
    if is_recorded && is_complete && !again {
        // The next one would wait for the lock until the pool has done it.
        transaction.rollback().await.map_err(DbError::from)?;
        return Ok(false);
    }
    if !has_jobs {
        // Left by a table of jobs that was dropped. Refused where something else is made of it.
        let leftover = AssertSqlSafe(format!("DROP TYPE IF EXISTS {}", schema.qualify("oban_job_state")));
        sqlx::raw_sql(leftover).execute(&mut *transaction).await.map_err(|error| failed(error.into()))?;
    }
    sqlx::raw_sql(migration.sql).execute(&mut *transaction).await.map_err(|error| failed(error.into()))?;
    if !has_jobs {
        // In the same transaction nobody has to be waited for, and nothing half done is left.
        let indexes = AssertSqlSafe(indexes::of_new_table(database.indexes()));
        sqlx::raw_sql(indexes).execute(&mut *transaction).await.map_err(|error| failed(error.into()))?;
    }
    sqlx::query("INSERT INTO singularity_migrations (version, name) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(migration.version)
        .bind(migration.name)
        .execute(&mut *transaction)
        .await
        .map_err(|error| failed(error.into()))?;
    transaction.commit().await.map_err(|error| failed(error.into()))?;
    Ok(true)
}

/// Version, name and time of every applied migration, in order; empty without the table.
async fn recorded(
    connection: &mut PgConnection,
    schema: &SchemaName,
) -> Result<Vec<(i32, String, DateTime<Utc>)>, DbError> {
    if !has_table(connection, schema, "singularity_migrations").await? {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_as("SELECT version, name, applied_at FROM singularity_migrations ORDER BY version");
    Ok(rows.fetch_all(connection).await?)
}

async fn has_table(connection: &mut PgConnection, schema: &SchemaName, name: &'static str) -> Result<bool, DbError> {
    let exists = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(schema.qualify(name));
    Ok(exists.fetch_one(connection).await?)
}
