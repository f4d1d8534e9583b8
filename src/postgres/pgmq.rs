//! Finding pgmq, or installing it. Its messages are moved by calling `pgmq.*` in SQL, not through the crate.
//!
//! pgmq can be there in three ways that must not be mixed: as an extension (managed hosts), as SQL with a record of its
//! version (our installer and its relatives), or as bare SQL (Python's installer, psql). Installing over the first or
//! the last fails half-way or leaves two owners, so we look first and install only where there is nothing or a record.

use std::str::FromStr;

use sqlx::{PgConnection, PgPool};

use super::migrate::{LOCK_KEY, MigrateError};
use super::{Database, DbError};

/// First version with topics.
const VERSION_MIN: Version = Version(1, 11, 0);

/// What the installer of the pinned crate brings. A record at or above it needs no installer, and so no privilege.
const VERSION_EMBEDDED: Version = Version(1, 13, 0);

/// Connections of an installation: one holds the lock, one works.
const CONNECTIONS: u32 = 2;

/// How pgmq came into the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `CREATE EXTENSION`: upgraded by `ALTER EXTENSION`.
    Extension,
    /// From SQL with a record of its version: upgraded by us.
    Script,
    /// From SQL without a record: used as it is.
    Foreign,
}

impl Kind {
    /// One word for listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Extension => "extension",
            Self::Script => "script",
            Self::Foreign => "foreign",
        }
    }
}

/// pgmq as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// How it came there.
    pub kind: Kind,
    /// Its version, unless it is foreign, or this user may not read it.
    pub version: Option<String>,
    topics: bool,
    usable: bool,
}

impl Installation {
    /// It has `send_topic`, which we need.
    pub fn has_topics(&self) -> bool {
        self.topics
    }

    /// Whether the user of the connection has the rights of [`grants`].
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// The installer has something to do.
    fn wants_upgrade(&self) -> bool {
        let version = self.version.as_deref().and_then(|version| version.parse::<Version>().ok());
        // Whoever may not read the record could not upgrade either.
        self.kind == Kind::Script && version.map_or(self.usable, |version| version < VERSION_EMBEDDED)
    }
}

/// What the owner of schema `pgmq` grants to `role`, so that it can report and learn: with all of it the role makes,
/// uses and drops queues.
pub fn grants(role: &str) -> [String; 2] {
    [
        format!("GRANT USAGE, CREATE ON SCHEMA pgmq TO {role}"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pgmq TO {role}"),
    ]
}

/// Looks for pgmq without changing anything.
///
/// # Errors
/// Those of [`DbError`].
pub async fn find(connection: &mut PgConnection) -> Result<Option<Installation>, DbError> {
    // The catalog, because to_regclass and its like are an error where the schema may not be used.
    let (extension, has_record, is_readable, has_type, has_topics, usable): (
        Option<String>,
        bool,
        bool,
        bool,
        bool,
        bool,
    ) = sqlx::query_as(
        "WITH schema AS (SELECT oid FROM pg_namespace WHERE nspname = 'pgmq'),
           tables AS (SELECT c.oid, relname FROM pg_class c JOIN schema s ON s.oid = relnamespace
                      WHERE relname IN ('__pgmq_migrations', 'meta', 'topic_bindings')),
           rights AS (SELECT has_schema_privilege(oid, 'USAGE') AS reaches,
                             has_schema_privilege(oid, 'CREATE') AS creates FROM schema)
         SELECT (SELECT extversion FROM pg_extension WHERE extname = 'pgmq'),
           EXISTS (SELECT FROM tables WHERE relname = '__pgmq_migrations'),
           coalesce((SELECT bool_and(reaches AND has_table_privilege(tables.oid, 'SELECT')) FROM tables, rights
                     WHERE relname = '__pgmq_migrations'), false),
           EXISTS (SELECT FROM pg_type t JOIN schema s ON s.oid = typnamespace WHERE typname = 'message_record'),
           EXISTS (SELECT FROM pg_proc p JOIN schema s ON s.oid = pronamespace WHERE proname = 'send_topic'
                   AND oidvectortypes(proargtypes) = 'text, jsonb, jsonb, integer'),
           coalesce((SELECT reaches AND creates FROM rights), false) AND NOT EXISTS (
             SELECT FROM tables, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) wanted
             WHERE relname <> '__pgmq_migrations' AND NOT has_table_privilege(tables.oid, wanted))",
    )
    .fetch_one(&mut *connection)
    .await?;
    if let Some(version) = extension {
        let topics = version.parse::<Version>().is_ok_and(|version| version >= VERSION_MIN);
        return Ok(Some(Installation { kind: Kind::Extension, version: Some(version), topics, usable }));
    }
    if has_record {
        let versions: Vec<String> = if is_readable {
            sqlx::query_scalar("SELECT version FROM pgmq.__pgmq_migrations").fetch_all(&mut *connection).await?
        } else {
            Vec::new()
        };
        let version = versions.into_iter().max_by_key(|version| version.parse::<Version>().ok());
        return Ok(Some(Installation { kind: Kind::Script, version, topics: has_topics, usable }));
    }
    Ok(has_type.then_some(Installation { kind: Kind::Foreign, version: None, topics: has_topics, usable }))
}

/// Makes sure that a usable pgmq is there: finds, upgrades or installs it. Safe to repeat and from many instances at
/// once; one query when nothing is to do.
///
/// Cancel safety: an installation that is cut off is rolled back.
///
/// # Errors
/// `E0306` extension too old, `E0307` foreign SQL too old, `E0308` not installable, and those of [`DbError`].
pub async fn ensure(database: &Database) -> Result<Installation, MigrateError> {
    if let Some(found) = find(&mut *database.pool().acquire().await.map_err(DbError::from)?).await?
        && found.topics
        && !found.wants_upgrade()
    {
        if !found.usable {
            tracing::warn!(
                target: "postgres", "this user may not use pgmq, so nothing is reported to CentralCloud from here; let the owner \
                 of schema pgmq run {}", grants("its user").join("; ")
            );
        }
        return Ok(found);
    }
    let pool = database.maintenance_pool(CONNECTIONS);
    let result = ensure_locked(&pool).await;
    pool.close().await;
    result
}

async fn ensure_locked(pool: &PgPool) -> Result<Installation, MigrateError> {
    let mut lock = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK_KEY).execute(&mut *lock).await?;
    // Not on the lock's connection: reading the record there would keep it from the installer until the commit.
    let mut connection = pool.acquire().await?;
    let found = find(&mut connection).await?;
    let install = match &found {
        None => !create_extension(&mut connection).await?,
        Some(found) => found.wants_upgrade(),
    };
    drop(connection);
    if install {
        ::pgmq::PGMQueueExt::new_with_pool(pool.clone())
            .await
            .install_sql_from_embedded()
            .await
            .map_err(install_error)?;
    }
    let found = find(&mut *pool.acquire().await?).await?;
    lock.commit().await?;
    match found {
        Some(found) if found.topics => Ok(found),
        Some(Installation { kind: Kind::Extension, version, .. }) => {
            Err(MigrateError::OldPgmqExtension { version: version.unwrap_or_default() })
        }
        Some(Installation { kind: Kind::Foreign, .. }) => Err(MigrateError::OldPgmqSql),
        found => {
            let version = found.and_then(|found| found.version).unwrap_or_else(|| "none".into());
            Err(MigrateError::PgmqInstall {
                reason: format!("after the installation there is no pgmq.send_topic (recorded version: {version})"),
                forbidden: false,
            })
        }
    }
}

/// Creates the extension where the server offers a version that we can use and lets us; false when it does not.
async fn create_extension(connection: &mut PgConnection) -> Result<bool, MigrateError> {
    let offered: Option<String> =
        sqlx::query_scalar("SELECT default_version FROM pg_available_extensions WHERE name = 'pgmq'")
            .fetch_optional(&mut *connection)
            .await?
            .flatten();
    if !offered.is_some_and(|version| version.parse::<Version>().is_ok_and(|version| version >= VERSION_MIN)) {
        return Ok(false);
    }
    match sqlx::raw_sql("CREATE EXTENSION pgmq").execute(connection).await.map_err(DbError::from) {
        Ok(_) => Ok(true),
        Err(error) if error.is_unavailable() => Err(error.into()),
        Err(error) => {
            tracing::info!(%error, "the server offers extension pgmq and did not create it; installing from SQL");
            Ok(false)
        }
    }
}

fn install_error(error: ::pgmq::PgmqError) -> MigrateError {
    let error = match error {
        ::pgmq::PgmqError::DatabaseError(error) => DbError::from(error),
        other => return MigrateError::PgmqInstall { reason: other.to_string(), forbidden: false },
    };
    if error.is_unavailable() {
        return error.into();
    }
    MigrateError::PgmqInstall { forbidden: error.sqlstate().as_deref() == Some("42501"), reason: error.to_string() }
}

/// Major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '.').map(str::parse);
        let mut next = || parts.next().unwrap_or(Ok(0));
        Ok(Self(next()?, next()?, next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_versions_by_number() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("1.11.0") >= VERSION_MIN && version("1.11") >= VERSION_MIN && version("2.0.0") > VERSION_MIN);
        assert!(version("1.9.3") < VERSION_MIN);
        assert!("1.x".parse::<Version>().is_err());
    }
}
