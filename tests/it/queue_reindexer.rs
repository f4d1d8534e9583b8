//! Rebuilding bloated indexes: concurrently, within a limit, and without leaving or taking what is not to be.

use std::time::Duration;

use singularity::queue::{Engine, rebuild};
use singularity::telemetry::oban::Reindexed;

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, until};
use crate::support::rows::{engine, names};

const LIMIT: Duration = Duration::from_secs(10);

/// Which file an index is in; a rebuilt one is in another.
async fn file(engine: &Engine, index: &str) -> i64 {
    sqlx::query_scalar("SELECT relfilenode::bigint FROM pg_class WHERE oid = to_regclass($1)")
        .bind(index)
        .fetch_one(engine.db().pool())
        .await
        .unwrap()
}

async fn invalid(engine: &Engine) -> Vec<String> {
    engine.invalid_indexes().await.unwrap().into_iter().map(|index| index.name).collect()
}

#[tokio::test]
async fn indexes_of_the_jobs_table_alone_are_rebuilt() {
    let db = TestDb::new().await;
    // Also in a schema that needs quotes, beside a table of the same index name elsewhere.
    let database = db.connect("user").await;
    singularity::postgres::migrate::up(&database).await.unwrap();
    let engine = Engine::new(database);
    let wanted =
        names(&["oban_jobs_meta_index", "oban_jobs_args_index", "job_results_completed_at_index", "x\"; DROP"]);
    let found = engine.indexes(&wanted).await.unwrap();
    let found_names: Vec<&str> = found.iter().map(|index| index.name.as_str()).collect();
    assert_eq!(found_names, ["oban_jobs_meta_index", "oban_jobs_args_index"]);
    let before = (file(&engine, "oban_jobs_meta_index").await, file(&engine, "oban_jobs_args_index").await);
    engine.reindex(&found[0], LIMIT).await.unwrap();
    assert_ne!(file(&engine, "oban_jobs_meta_index").await, before.0);
    assert_eq!(file(&engine, "oban_jobs_args_index").await, before.1);
    assert!(invalid(&engine).await.is_empty());
}

#[tokio::test]
async fn a_rebuild_that_takes_too_long_is_ended_and_what_it_left_is_dropped() {
    let (_db, engine) = engine().await;
    let index = engine.indexes(&names(&["oban_jobs_args_index"])).await.unwrap().remove(0);
    // Whoever has written and not committed yet is waited for.
    let mut writer = engine.db().pool().begin().await.unwrap();
    sqlx::query("INSERT INTO oban_jobs (worker) VALUES ('w')").execute(&mut *writer).await.unwrap();
    let begun = tokio::time::Instant::now();
    engine.reindex(&index, Duration::from_millis(300)).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    writer.commit().await.unwrap();
    let left = engine.invalid_indexes().await.unwrap();
    assert_eq!(invalid(&engine).await, ["oban_jobs_args_index_ccnew"]);
    engine.drop_index(&left[0], LIMIT).await.unwrap();
    assert!(invalid(&engine).await.is_empty());
    engine.reindex(&index, LIMIT).await.unwrap();
    // The pool's own connections have their settings still.
    let timeout: String = sqlx::query_scalar("SHOW statement_timeout").fetch_one(engine.db().pool()).await.unwrap();
    assert_eq!(timeout, "10s");
}

#[tokio::test]
async fn an_index_that_somebody_builds_is_not_taken_for_a_leftover() {
    let (db, engine) = engine().await;
    let mut writer = engine.db().pool().begin().await.unwrap();
    sqlx::query("INSERT INTO oban_jobs (worker) VALUES ('w')").execute(&mut *writer).await.unwrap();
    let build = db.execute("CREATE INDEX CONCURRENTLY oban_jobs_mine ON oban_jobs (worker)");
    let look = async {
        let is_there =
            "SELECT EXISTS (SELECT FROM pg_index WHERE NOT indisvalid AND indexrelid = to_regclass('oban_jobs_mine'))";
        until("the build", || async {
            let there: bool = sqlx::query_scalar(is_there).fetch_one(engine.db().pool()).await.unwrap();
            there.then_some(())
        })
        .await;
        assert!(invalid(&engine).await.is_empty());
        writer.commit().await.unwrap();
    };
    tokio::join!(build, look);
    assert!(invalid(&engine).await.is_empty());
}

#[tokio::test]
async fn a_run_rebuilds_what_is_there_and_drops_leftovers_of_the_jobs_table_alone() {
    let (db, engine) = engine().await;
    let before = (file(&engine, "oban_jobs_args_index").await, file(&engine, "oban_jobs_meta_index").await);
    let other = file(&engine, "oban_jobs_state_cancelled_at_index").await;
    for (index, table) in
        [("oban_jobs_left", "oban_jobs"), ("mine", "oban_jobs"), ("oban_jobs_elsewhere", "supervision_events")]
    {
        db.execute(format!("CREATE INDEX {index} ON {table} (id)")).await;
        db.execute(format!("UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass")).await;
    }
    let wanted = names(&["oban_jobs_args_index", "oban_jobs_not_there", "oban_jobs_meta_index"]);
    assert_eq!(rebuild(&engine, &wanted, LIMIT).await, Reindexed { reindexed_count: 2, dropped_count: 1 });
    let after = (file(&engine, "oban_jobs_args_index").await, file(&engine, "oban_jobs_meta_index").await);
    assert!(before.0 != after.0 && before.1 != after.1);
    assert_eq!(file(&engine, "oban_jobs_state_cancelled_at_index").await, other);
    let left: Vec<String> =
        sqlx::query_scalar("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1")
            .fetch_all(engine.db().pool())
            .await
            .unwrap();
    assert_eq!(left, ["mine", "oban_jobs_elsewhere"]);
}

#[tokio::test]
async fn it_is_off_unless_it_is_wanted_and_says_when_it_comes_next() {
    let (db, _database) = TestDb::migrated().await;
    let off = TestNode::start(db.url(), "off", &Fixture::new(), |_| {}).await;
    assert!(off.system().snapshot().find("/services/reindexer").is_none());
    let on = TestNode::start(db.url(), "on", &Fixture::new(), |config| {
        config.services.reindexer.schedule = "30 2 * * SUN".into();
        config.services.reindexer.timezone = "Europe/Berlin".into();
    })
    .await;
    let next =
        until("a time", || async { on.system().snapshot().find("/services/reindexer")?.labels.get("next").cloned() })
            .await;
    assert!(next.ends_with("T01:30:00Z") || next.ends_with("T00:30:00Z"), "half past two in Berlin: {next}");
    off.shutdown().await;
    on.shutdown().await;
}

#[tokio::test]
async fn the_leader_rebuilds_at_the_times_of_its_expression() {
    let (db, database) = TestDb::migrated().await;
    let engine = Engine::new(database);
    let before = file(&engine, "oban_jobs_args_index").await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |config| {
        config.services.reindexer.schedule = "* * * * * *".into();
    })
    .await;
    for index in ["oban_jobs_args_index", "oban_jobs_meta_index"] {
        let before = if index == "oban_jobs_args_index" { before } else { file(&engine, index).await };
        until("another file", || async { (file(&engine, index).await != before).then_some(()) }).await;
    }
    node.shutdown().await;
}
