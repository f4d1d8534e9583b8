//! Migrations against real servers and against every kind of `oban_jobs` that others make.

pub mod catalog;
pub mod foreign;

use singularity::config::Indexes;
use singularity::error::Coded;
use singularity::postgres::migrate::{self, MigrateError, ObanVersion};
use singularity::postgres::{Database, PoolOptions, pgmq};

use self::catalog::Catalog;
use crate::cli_support::run;
use crate::support::db::{DEADLINE, TestDb};
use crate::support::process::Place;

/// Key of the lock around migrations.
const LOCK_KEY: i64 = 0x5349_4e47_554c_4152;

async fn scalar<T>(database: &Database, sql: &'static str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap()
}

#[tokio::test]
async fn works_in_a_schema_that_is_named_like_a_keyword() {
    let db = TestDb::new().await;
    let database = db.connect("user").await;
    migrate::up(&database).await.unwrap();
    assert!(migrate::status(&database).await.unwrap().is_current());
}

#[tokio::test]
async fn says_what_is_pending_and_what_is_there() {
    let db = TestDb::new().await;
    let database = db.connect("jobs").await;
    let before = migrate::status(&database).await.unwrap();
    assert!(before.oban.is_none() && before.pgmq.is_none() && !before.is_current());
    assert!(before.migrations.iter().all(|migration| migration.applied_at.is_none()));

    let report = migrate::up(&database).await.unwrap();
    let names: Vec<&str> = report.applied.iter().map(|(_, name)| *name).collect();
    assert_eq!(names[..3], ["oban", "instances", "workflows"]);

    let after = migrate::status(&database).await.unwrap();
    assert!(after.is_current(), "{after:?}");
    assert_eq!(after.migrations.len(), report.applied.len());
    assert_eq!(after.oban.unwrap().version, ObanVersion::Numbered(14));
}

#[tokio::test]
async fn the_second_run_changes_nothing() {
    let (_db, database) = TestDb::migrated().await;
    let before = Catalog::read(&database).await;
    let report = migrate::up(&database).await.unwrap();
    assert_eq!(report.applied, []);
    assert_eq!(report.oban_before.unwrap().version, ObanVersion::Numbered(14));
    assert_eq!(Catalog::read(&database).await, before);
}

#[tokio::test]
async fn eight_instances_migrate_at_once() {
    let db = TestDb::new().await;
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let database = db.connect("jobs").await;
        starts.spawn(async move { migrate::up(&database).await.map(|report| report.applied.len()) });
    }
    let applied: Vec<usize> = starts.join_all().await.into_iter().map(Result::unwrap).collect();
    let status = migrate::status(&db.connect("jobs").await).await.unwrap();
    assert!(status.is_current());
    assert_eq!(applied.iter().sum::<usize>(), status.migrations.len(), "each once: {applied:?}");
}

#[tokio::test]
async fn waiting_for_another_migration_is_not_ended_by_the_statement_timeout() {
    let db = TestDb::new().await;
    let other = db.connect("public").await;
    let mut holder = other.pool().begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK_KEY).execute(&mut *holder).await.unwrap();

    let options = PoolOptions { statement_timeout: std::time::Duration::from_millis(200), ..PoolOptions::default() };
    let database = Database::connect(db.url(), &options).await.unwrap();
    let up = tokio::spawn(async move { migrate::up(&database).await });
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory'
                   AND datname = current_database() AND clock_timestamp() - query_start > interval '600 ms')";
    tokio::time::timeout(DEADLINE, async { while !scalar::<bool>(&other, waits).await {} }).await.unwrap();
    holder.commit().await.unwrap();
    up.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_another_migration_says_for_whom() {
    let db = TestDb::new().await;
    let other = db.connect("public").await;
    let mut holder = other.pool().begin().await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid() FROM (SELECT pg_advisory_xact_lock($1)) lock")
        .bind(LOCK_KEY)
        .fetch_one(&mut *holder)
        .await
        .unwrap();
    let place = Place::new(&db, "");
    let command = tokio::task::spawn_blocking(move || run(&place, &["migrate", "up"]));
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory'
                   AND datname = current_database())";
    tokio::time::timeout(DEADLINE, async { while !scalar::<bool>(&other, waits).await {} }).await.unwrap();
    holder.commit().await.unwrap();
    let ended = command.await.unwrap().done();
    assert!(ended.err.contains(&format!("process {pid} of the server, ")), "{}", ended.err);
}

#[tokio::test]
async fn refuses_what_is_newer_and_touches_nothing() {
    for (sql, code) in [
        ("CREATE TABLE oban_jobs (id bigint); COMMENT ON TABLE oban_jobs IS '15'", "E0301"),
        ("CREATE TABLE oban_jobs (id bigint); COMMENT ON TABLE oban_jobs IS '∞'", "E0301"),
        ("CREATE TABLE oban_jobs (id bigint); COMMENT ON TABLE oban_jobs IS 'mine'", "E0302"),
        ("CREATE TABLE oban_jobs (id bigint); COMMENT ON TABLE oban_jobs IS '3'", "E0303"),
        ("CREATE TABLE oban_jobs (id bigint)", "E0303"),
        (foreign::VERSION_8, "E0303"),
    ] {
        let db = TestDb::new().await;
        db.execute(sql).await;
        let database = db.connect("public").await;
        let error = migrate::up(&database).await.unwrap_err();
        assert_eq!(error.code(), code, "{sql}: {error}");
        assert!(error.hint().is_some() && error.to_string().contains("public"), "{error}");
        let tables: i64 = scalar(&database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await;
        assert_eq!(tables, 1, "{sql}");
        migrate::status(&database).await.unwrap();
    }
}

#[tokio::test]
async fn refuses_a_schema_of_a_newer_release() {
    let (db, database) = TestDb::migrated().await;
    db.execute("INSERT INTO singularity_migrations (version, name) VALUES (9999, 'later')").await;
    let error = migrate::up(&database).await.unwrap_err();
    assert_eq!(error.code(), "E0304", "{error}");
    let status = migrate::status(&database).await.unwrap();
    let last = status.migrations.last().unwrap();
    assert!(last.version == 9999 && last.name == "later" && !last.known && !status.is_current());
}

#[tokio::test]
async fn leaves_older_and_differently_made_tables_as_they_are() {
    for (sql, version) in [(foreign::VERSION_13, ObanVersion::Numbered(13)), (foreign::PYTHON, ObanVersion::Unmarked)] {
        let db = TestDb::new().await;
        db.execute(sql).await;
        let database = db.connect("public").await;
        let before = Catalog::read(&database).await;

        let report = migrate::up(&database).await.unwrap();
        let found = report.oban_before.unwrap();
        assert_eq!(found.version, version);
        assert_eq!(found.errors_are_json, sql == foreign::PYTHON);
        assert!(found.missing_columns.is_empty(), "{found:?}");
        assert_eq!(found.states.iter().any(|state| state == "suspended"), sql == foreign::PYTHON);
        assert_eq!(found.has_peers, sql == foreign::VERSION_13);

        let after = Catalog::read(&database).await;
        assert_eq!(after.jobs(), before.jobs());
        assert!(migrate::status(&database).await.unwrap().is_current());
    }
}

#[tokio::test]
async fn makes_the_leaders_table_again_where_it_is_missing() {
    let (db, database) = TestDb::migrated().await;
    db.execute("DROP TABLE oban_peers").await;
    assert!(!migrate::status(&database).await.unwrap().is_current());
    assert_eq!(migrate::up(&database).await.unwrap().applied, [(1, "oban")]);
    Catalog::read(&database).await.assert_is_version_14("public");
}

#[tokio::test]
async fn makes_the_table_of_jobs_again_where_it_was_dropped() {
    let (db, database) = TestDb::migrated().await;
    let before = migrate::status(&database).await.unwrap().tuning;
    db.execute("DROP TABLE oban_jobs").await;
    assert_eq!(migrate::up(&database).await.unwrap().applied, [(1, "oban"), (5, "tuning")]);
    Catalog::read(&database).await.assert_is_version_14("public");
    assert_eq!(migrate::status(&database).await.unwrap().tuning, before);
    assert_eq!(migrate::up(&database).await.unwrap().applied, []);
}

#[tokio::test]
async fn a_new_table_gets_the_indexes_that_are_wanted_whoever_reads_elsewhere() {
    let db = TestDb::new().await;
    let other = db.connect("elsewhere").await;
    let mut reader = other.pool().begin().await.unwrap();
    sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1").execute(&mut *reader).await.unwrap();
    let options = PoolOptions { indexes: Indexes::Lean, ..PoolOptions::default() };
    let database = Database::connect(db.url(), &options).await.unwrap();
    tokio::time::timeout(DEADLINE, migrate::up(&database)).await.unwrap().unwrap();
    assert_eq!(migrate::status(&database).await.unwrap().indexes.profile(), Some(Indexes::Lean));
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing_and_those_before_it_stay() {
    let db = TestDb::new().await;
    db.execute("CREATE TABLE job_results (id text)").await;
    let database = db.connect("public").await;
    let error = migrate::up(&database).await.unwrap_err();
    assert!(matches!(error, MigrateError::Failed { version: 3, .. }), "{error:?}");
    assert!(error.to_string().contains("job_results") && !error.is_unavailable());
    assert!(!scalar::<bool>(&database, "SELECT to_regclass('workflow_runs') IS NOT NULL").await);

    db.execute("DROP TABLE job_results").await;
    let applied = migrate::up(&database).await.unwrap().applied;
    assert_eq!(applied[0], (3, "workflows"));
}

#[tokio::test]
async fn needs_no_right_to_create_schemas_where_the_schema_exists() {
    let db = TestDb::new().await;
    let role = format!("r_{}", db.name());
    db.execute(format!("CREATE ROLE {role} LOGIN PASSWORD 'p'; CREATE SCHEMA jobs AUTHORIZATION {role}")).await;
    let options = PoolOptions { schema: "jobs".parse().unwrap(), ..PoolOptions::default() };
    let database = Database::connect(&db.url_as(&role, "p"), &options).await.unwrap();
    // The message queue wants a schema of its own, and says so.
    let error = migrate::up(&database).await.unwrap_err();
    assert!(matches!(error, MigrateError::PgmqInstall { forbidden: true, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("GRANT USAGE, CREATE ON SCHEMA pgmq"));
    let status = migrate::status(&database).await.unwrap();
    assert!(status.migrations.iter().all(|migration| migration.applied_at.is_some()));

    migrate::up(&db.connect("jobs").await).await.unwrap();
    // With pgmq in place the same user may go on, also where it may not even look there; then the fleet learns nothing.
    let closed = migrate::up(&database).await.map(|report| report.pgmq.is_usable());
    // What the hint says is enough for all that is done with it.
    for grant in pgmq::grants(&role) {
        db.execute(grant).await;
    }
    let open = migrate::up(&database).await.map(|report| report.pgmq.is_usable());
    let used = sqlx::raw_sql(
        "SELECT pgmq.create('a'), pgmq.bind_topic('learning.#', 'a');
         SELECT pgmq.send('a', '{}'::jsonb), pgmq.send_topic('learning.x', '{}'::jsonb, NULL::jsonb, 0::int);
         SELECT pgmq.read('a', 1, 1); SELECT pgmq.archive('a', 1::bigint), pgmq.delete('a', 2::bigint);
         SELECT * FROM pgmq.metrics('a'); SELECT * FROM pgmq.meta; SELECT * FROM pgmq.topic_bindings;
         SELECT pgmq.drop_queue('a')",
    )
    .execute(database.pool())
    .await;
    database.close().await;
    db.execute(format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
    used.unwrap();
    assert_eq!((closed.unwrap(), open.unwrap()), (false, true));
}
