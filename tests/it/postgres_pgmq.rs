//! Finding pgmq as others left it, and installing it where there is none.

use singularity::error::Coded;
use singularity::postgres::migrate::MigrateError;
use singularity::postgres::pgmq::{self, Kind};

use crate::support::db::TestDb;

#[tokio::test]
async fn installs_where_there_is_nothing_and_finds_its_own_work() {
    let db = TestDb::new().await;
    let database = db.connect("public").await;
    let mut connection = database.pool().acquire().await.unwrap();
    assert_eq!(pgmq::find(&mut connection).await.unwrap(), None);
    // Looking must not create what the installer takes for a record.
    assert_eq!(pgmq::find(&mut connection).await.unwrap(), None);

    let installed = pgmq::ensure(&database).await.unwrap();
    assert_eq!((installed.kind, installed.version.as_deref()), (Kind::Script, Some("1.13.0")));
    assert_eq!(pgmq::ensure(&database).await.unwrap(), installed);
    assert_eq!(pgmq::find(&mut connection).await.unwrap(), Some(installed));

    let topic = "SELECT pgmq.create('a'), pgmq.bind_topic('learning.#', 'a')";
    sqlx::raw_sql(topic).execute(&mut *connection).await.unwrap();
    let reached: i32 = sqlx::query_scalar("SELECT pgmq.send_topic('learning.x', '{}'::jsonb, NULL::jsonb, 0::int)")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(reached, 1);
}

#[tokio::test]
async fn many_may_install_at_once() {
    let db = TestDb::new().await;
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let database = db.connect("public").await;
        starts.spawn(async move { pgmq::ensure(&database).await.unwrap().kind });
    }
    assert_eq!(starts.join_all().await, [Kind::Script; 4]);
}

#[tokio::test]
async fn upgrades_a_recorded_installation_and_keeps_its_messages() {
    let db = TestDb::new().await;
    let database = db.connect("public").await;
    pgmq::ensure(&database).await.unwrap();
    // Back to what 1.12 was.
    db.execute(
        "SELECT pgmq.create('a'); SELECT pgmq.send('a', '{}'::jsonb);
         UPDATE pgmq.__pgmq_migrations SET version = '1.12.0';
         DROP FUNCTION pgmq.create_partitioned;
         ALTER TYPE pgmq.metrics_result DROP ATTRIBUTE default_partition_length",
    )
    .await;
    let upgraded = pgmq::ensure(&database).await.unwrap();
    assert_eq!((upgraded.kind, upgraded.version.as_deref()), (Kind::Script, Some("1.13.0")));
    let messages: i64 = sqlx::query_scalar("SELECT count(*) FROM pgmq.q_a").fetch_one(database.pool()).await.unwrap();
    assert_eq!(messages, 1);
}

#[tokio::test]
async fn a_failed_upgrade_changes_nothing_and_says_why() {
    let db = TestDb::new().await;
    let database = db.connect("public").await;
    pgmq::ensure(&database).await.unwrap();
    db.execute("UPDATE pgmq.__pgmq_migrations SET version = '1.12.0'").await;
    let error = pgmq::ensure(&database).await.unwrap_err();
    assert!(matches!(error, MigrateError::PgmqInstall { forbidden: false, .. }), "{error:?}");
    assert!(error.to_string().contains("create_partitioned"), "{error}");
    let found = pgmq::find(&mut database.pool().acquire().await.unwrap()).await.unwrap();
    assert_eq!(found.unwrap().version.as_deref(), Some("1.12.0"));
}

#[tokio::test]
async fn uses_what_was_installed_without_a_record_and_never_installs_over_it() {
    let db = TestDb::new().await;
    let database = db.connect("public").await;
    pgmq::ensure(&database).await.unwrap();
    db.execute("DROP TABLE pgmq.__pgmq_migrations").await;
    let found = pgmq::ensure(&database).await.unwrap();
    assert_eq!((found.kind, found.version), (Kind::Foreign, None));

    db.execute("ALTER FUNCTION pgmq.send_topic(text, jsonb, jsonb, integer) RENAME TO send_topic_later").await;
    let error = pgmq::ensure(&database).await.unwrap_err();
    assert!(matches!(error, MigrateError::OldPgmqSql), "{error:?}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn an_extension_is_used_when_it_is_new_enough_and_never_installed_over() {
    let db = TestDb::new().await;
    let database = db.connect("public").await;
    // Only a server with the extension's files can create it; its row is all that we look at.
    db.execute(
        "SET allow_system_table_mods = on;
         INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
         VALUES (99999, 'pgmq', 10, 2200, false, '1.9.2')",
    )
    .await;
    let error = pgmq::ensure(&database).await.unwrap_err();
    assert!(error.to_string().contains("1.9.2") && error.hint().unwrap().contains("ALTER EXTENSION"), "{error}");
    assert_eq!(error.code(), "E0306");

    db.execute("SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = '1.11.0' WHERE oid = 99999")
        .await;
    let found = pgmq::ensure(&database).await.unwrap();
    assert_eq!((found.kind, found.version.as_deref()), (Kind::Extension, Some("1.11.0")));
}
