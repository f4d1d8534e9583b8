//! Programs of PostgreSQL, the way to the database, and what is in it.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::Check;
use crate::cli::context::Context;
use crate::cli::migrate::describe_indexes;
use crate::cli::{live, output};
use crate::node::{NodeError, Source, Storage};
use crate::postgres::horizon;
use crate::postgres::migrate::{self, ObanVersion, Status, Tuning};
use crate::postgres::notifier::{self, Event, Listener, ListenerOptions};
use crate::postgres::pgmq::grants;
use crate::postgres::{Database, DbError, READ_ONLY_WAY_OUT, is_skewed};

/// A notification that takes longer is lost.
const NOTICE_LIMIT: Duration = Duration::from_secs(5);
/// Channel of the test notification, before the schema's prefix is put to it; nobody else listens on it.
const CHANNEL: &str = "doctor";

/// Everything about the database. What needs an earlier thing that failed is left out.
pub(super) async fn checks(context: &Context) -> Vec<Check> {
    let mut checks = Vec::new();
    match Source::of(&context.config) {
        Ok(Source::Given(..)) => {}
        Ok(Source::Embedded) => checks.extend(binaries(context).await),
        Err(error) => return vec![Check::error("database", &error)],
    }
    let storage = match context.storage().await {
        Ok(storage) => storage,
        Err(error) => {
            checks.push(Check::error("database", &error));
            return checks;
        }
    };
    checks.push(reachable(&storage).await);
    let (tables, has_instances) = tables(storage.db()).await;
    checks.extend(tables);
    checks.push(writable(storage.db()).await);
    checks.push(clock(storage.db()).await);
    checks.push(notices(storage.db()).await);
    if has_instances {
        checks.push(instances(&storage).await);
        checks.push(super::mode::check(storage.db(), context.config.mode).await);
    }
    storage.close().await;
    checks
}

/// Programs for the embedded server.
#[cfg(feature = "embedded-postgres")]
async fn binaries(context: &Context) -> Option<Check> {
    use crate::postgres::embedded;

    let bin_dir = context.config.embedded.bin_dir.clone();
    let found = tokio::task::spawn_blocking(move || embedded::discover(bin_dir.as_deref(), None)).await;
    Some(match found {
        Ok(Ok(found)) => {
            Check::ok("postgres_programs", format!("PostgreSQL {} in {}", found.version, found.bin_dir.display()))
        }
        Ok(Err(error)) => Check::error("postgres_programs", &error),
        Err(error) => Check::fail("postgres_programs", error.to_string(), "run it again"),
    })
}

#[cfg(not(feature = "embedded-postgres"))]
async fn binaries(_context: &Context) -> Option<Check> {
    None
}

async fn reachable(storage: &Storage) -> Check {
    match storage.db().server_version().await {
        Ok(version) => {
            let kind = if storage.is_embedded() { "embedded" } else { "given" };
            Check::ok("database", format!("PostgreSQL {version}, {kind}, {}", storage.display_url()))
        }
        Err(error) => Check::error("database", &error),
    }
}

/// Tables and pgmq, and whether instances can be asked for.
async fn tables(db: &Database) -> (Vec<Check>, bool) {
    match migrate::status(db).await {
        Ok(status) => {
            let has_instances = status.migrations.iter().any(|migration| migration.applied_at.is_some());
            let mut checks = vec![migrations(&status), oban(&status)];
            checks.extend(status.tuning.as_ref().map(|tuning| table(&status, tuning)));
            checks.push(pgmq(&status));
            checks.push(vacuum(db).await);
            (checks, has_instances)
        }
        Err(error) => (vec![Check::error("migrations", &NodeError::from(error))], false),
    }
}

fn migrations(status: &Status) -> Check {
    const UP: &str = "singularity migrate up, or start a node, which does the same";
    let unknown = status.migrations.iter().filter(|migration| !migration.known).count();
    let pending = status.migrations.iter().filter(|migration| migration.applied_at.is_none()).count();
    let schema = &status.schema;
    match (unknown, pending) {
        (0, 0) => Check::ok("migrations", format!("schema {schema} is up to date")),
        (0, pending) => Check::warn("migrations", format!("{pending} pending in schema {schema}"), UP),
        (unknown, _) => Check::fail(
            "migrations",
            format!("{unknown} migrations of schema {schema} are newer than this program"),
            "use the release that made them, or another schema",
        ),
    }
}

fn oban(status: &Status) -> Check {
    match &status.oban {
        None => Check::ok("oban", "no oban_jobs yet"),
        Some(oban) => match &oban.version {
            ObanVersion::Numbered(number) if *number <= migrate::OBAN_VERSION => {
                Check::ok("oban", format!("oban_jobs at version {number}"))
            }
            ObanVersion::Unmarked => Check::ok("oban", "oban_jobs without a version, as Oban for Python makes it"),
            other => Check::fail(
                "oban",
                format!("oban_jobs at version \"{other}\"; known are versions up to {}", migrate::OBAN_VERSION),
                "use a release of this program that knows it, or another schema",
            ),
        },
    }
}

/// Indexes and storage settings of the table of jobs.
fn table(status: &Status, tuning: &Tuning) -> Check {
    let text = format!("{}; {}", describe_indexes(&status.indexes), tuning.describe());
    if !status.indexes.is_settled() {
        return Check::warn("oban_jobs", text, "singularity migrate indexes oban, or lean");
    }
    match tuning {
        Tuning::Queue | Tuning::Others(_) => Check::ok("oban_jobs", text),
        Tuning::NotOurs(owner) => Check::warn(
            "oban_jobs",
            text,
            format!(
                "let {owner} run ALTER TABLE oban_jobs SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02)"
            ),
        ),
        Tuning::Defaults => Check::warn(
            "oban_jobs",
            text,
            "ALTER TABLE oban_jobs SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02)",
        ),
    }
}

/// What keeps dead rows from being cleared.
async fn vacuum(db: &Database) -> Check {
    match horizon::oldest_pin(db, horizon::PINNED_FOR_MIN).await {
        Ok(None) => Check::ok("vacuum", "no old transaction keeps dead rows"),
        Ok(Some(pin)) => Check::warn("vacuum", format!("{pin}, which slows claims"), pin.way_out()),
        Err(error) => Check::error("vacuum", &error),
    }
}

fn pgmq(status: &Status) -> Check {
    match &status.pgmq {
        Some(pgmq) if pgmq.has_topics() => {
            let version = pgmq.version.as_deref().unwrap_or("of unknown version");
            let text = format!("{version}, installed as {}", pgmq.kind.as_str());
            if pgmq.is_usable() {
                return Check::ok("pgmq", text);
            }
            let way_out = format!("let the owner of schema pgmq run {}", grants("this user").join("; "));
            Check::warn("pgmq", format!("{text}; this user may not use it, so nothing is reported or learned"), way_out)
        }
        Some(pgmq) => Check::fail(
            "pgmq",
            format!(
                "{} has no topics; 1.11 or newer is needed",
                pgmq.version.as_deref().unwrap_or("the installed one")
            ),
            "upgrade it the way it was installed, then singularity migrate up",
        ),
        None => Check::warn("pgmq", "not installed yet", "singularity migrate up"),
    }
}

/// Whether the server takes writes, and the role may write what a node writes.
async fn writable(db: &Database) -> Check {
    let access = match migrate::access(db).await {
        Ok(access) => access,
        Err(error) => return Check::error("writable", &error),
    };
    if access.is_read_only {
        return Check::fail("writable", "transactions are read-only here", READ_ONLY_WAY_OUT);
    }
    if access.missing.is_empty() {
        return Check::ok("writable", format!("as {}", access.role));
    }
    let (role, schema) = (&access.role, db.schema());
    let tables: Vec<String> = access.missing.iter().map(|table| format!("{schema}.{table}")).collect();
    Check::fail(
        "writable",
        format!("{role} may not select, insert, update and delete in {}", tables.join(", ")),
        format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}; \
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"
        ),
    )
}

async fn clock(db: &Database) -> Check {
    match db.clock_skew().await {
        Ok(skew) => judge(skew),
        Err(error) => Check::error("clock", &error),
    }
}

fn judge(skew: TimeDelta) -> Check {
    let amount = output::millis(skew.num_milliseconds().abs());
    if !is_skewed(skew) {
        return Check::ok("clock", format!("within {amount} of the server's"));
    }
    let direction = if skew > TimeDelta::zero() { "behind" } else { "ahead of" };
    Check::warn(
        "clock",
        format!("{amount} {direction} the server's"),
        "synchronise both clocks, for example with chrony",
    )
}

/// LISTEN and NOTIFY, once around.
async fn notices(db: &Database) -> Check {
    const FIX: &str = "connect to PostgreSQL directly: a proxy that pools transactions breaks LISTEN and prepared statements; \
                       without it jobs start up to a second later and running jobs cannot be cancelled";
    let mut listener = Listener::new(db, &[CHANNEL], ListenerOptions::default());
    let token = uuid::Uuid::now_v7().to_string();
    let around = async {
        loop {
            match listener.next().await {
                Event::Resync => {
                    let sent = Instant::now();
                    notifier::notify(db, &db.channel(CHANNEL), &[json!({ "token": token })]).await?;
                    if heard(&mut listener, &token).await? {
                        return Ok::<_, DbError>(sent.elapsed());
                    }
                }
                Event::Down { error } => return Err(error),
                Event::Notified { .. } => {}
            }
        }
    };
    match timeout(NOTICE_LIMIT, around).await {
        Ok(Ok(elapsed)) => {
            let ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
            Check::ok("notifications", format!("LISTEN and NOTIFY took {}", output::millis(ms)))
        }
        Ok(Err(error)) => Check::error("notifications", &error),
        Err(_) => {
            let limit = output::millis(i64::try_from(NOTICE_LIMIT.as_millis()).unwrap_or(i64::MAX));
            Check::fail("notifications", format!("a notification did not arrive within {limit}"), FIX)
        }
    }
}

/// True when the token arrived, false when listening began anew and it has to be sent again.
async fn heard(listener: &mut Listener, token: &str) -> Result<bool, DbError> {
    loop {
        match listener.next().await {
            Event::Notified { payload, .. } if payload.contains(token) => return Ok(true),
            Event::Notified { .. } => {}
            Event::Resync => return Ok(false),
            Event::Down { error } => return Err(error),
        }
    }
}

async fn instances(storage: &Storage) -> Check {
    match live::instances(storage).await {
        Ok(rows) => {
            let online: Vec<&str> =
                rows.iter().filter(|row| live::is_live(row)).map(|row| row.instance_id.as_str()).collect();
            match online.as_slice() {
                [] => Check::warn("instances", "none is online", "singularity start"),
                ids => Check::ok("instances", format!("{} online: {}", ids.len(), ids.join(", "))),
            }
        }
        Err(failure) => Check::fail("instances", failure.message.unwrap_or_default(), failure.hint.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn clocks_that_differ_by_more_than_a_second_are_told() {
        assert_eq!(judge(TimeDelta::zero()).message, "within 0ms of the server's");
        assert_eq!(judge(TimeDelta::milliseconds(-1_000)).status, Status::Ok);
        let ahead = judge(TimeDelta::milliseconds(-1_001));
        assert_eq!((ahead.status, ahead.message.as_str()), (Status::Warn, "1.0s ahead of the server's"));
        assert_eq!(judge(TimeDelta::seconds(10)).message, "10.0s behind the server's");
    }
}
