//! Index profiles of `oban_jobs`, its storage settings, and who keeps its dead rows.

use std::time::Duration;

use serde_json::json;
use singularity::config::Indexes;
use singularity::error::Coded;
use singularity::postgres::migrate::{self, IndexStep, Tuning, switch_indexes};
use singularity::postgres::{Database, PoolOptions, horizon};
use singularity::queue::{Engine, NewJob};

use crate::cli_support::run;
use crate::support::db::TestDb;
use crate::support::process::Place;
use crate::support::rows::{counting, reads};

async fn state(database: &Database) -> migrate::IndexState {
    migrate::status(database).await.unwrap().indexes
}

async fn switched(database: &Database, wanted: Indexes) -> Vec<IndexStep> {
    let mut steps = Vec::new();
    switch_indexes(database, wanted, |step| steps.push(step.clone())).await.unwrap();
    assert_eq!(state(database).await.profile(), Some(wanted));
    steps
}

#[tokio::test]
async fn profiles_are_switched_with_rows_in_the_table_and_nothing_else_is_touched() {
    let (db, database) = TestDb::migrated().await;
    db.execute("CREATE INDEX mine ON oban_jobs (worker)").await;
    let engine = Engine::new(database.clone());
    let jobs: Vec<_> = (0..50).map(|number| NewJob::new("w", json!({ "number": number }))).collect();
    engine.insert_many(jobs).await.unwrap();
    switch_indexes(&database, Indexes::Oban, |step| panic!("{step:?} was not needed")).await.unwrap_or_default();

    let steps = switched(&database, Indexes::Lean).await;
    let first_drop = steps.iter().position(|step| matches!(step, IndexStep::Drop(_))).unwrap();
    assert!(steps[..first_drop].iter().all(|step| matches!(step, IndexStep::Create(_))), "{steps:?}");
    assert!(switched(&database, Indexes::Lean).await.is_empty());
    switched(&database, Indexes::Oban).await;
    let mine: bool = sqlx::query_scalar("SELECT to_regclass('mine') IS NOT NULL").fetch_one(&database).await.unwrap();
    assert!(mine);
}

#[tokio::test]
async fn pruning_reads_no_job_that_is_not_old_in_both_profiles() {
    let db = TestDb::new().await;
    let Some(engine) = counting(&db).await else { return };
    let database = db.connect("public").await;
    db.execute(
        "INSERT INTO oban_jobs (state, worker, args, scheduled_at, completed_at, cancelled_at, discarded_at)
         SELECT s.state::oban_job_state, 'w', '{}', at, at, at, at
         FROM generate_series(1, 2000) n, (VALUES ('completed'), ('cancelled'), ('discarded')) s (state),
              LATERAL (SELECT timezone('UTC', now()) - n * interval '1 s') t (at)",
    )
    .await;
    for profile in [Indexes::Oban, Indexes::Lean] {
        switch_indexes(&database, profile, |_| {}).await.unwrap();
        db.execute("ANALYZE oban_jobs").await;
        let before = reads(&engine).await;
        let pruned = engine.prune(Duration::from_secs(86_400), 10_000).await.unwrap();
        assert_eq!((pruned.completed, reads(&engine).await - before), (0, 0), "{profile:?}");
    }
}

#[tokio::test]
async fn an_index_of_an_earlier_lean_profile_goes_with_the_next_switch() {
    let (db, database) = TestDb::migrated().await;
    switched(&database, Indexes::Lean).await;
    db.execute("CREATE INDEX oban_jobs_lean_completed_index ON oban_jobs (completed_at, id) WHERE state = 'completed'")
        .await;
    assert_eq!(state(&database).await.profile(), None);
    let steps = switched(&database, Indexes::Lean).await;
    assert_eq!(steps, [IndexStep::DropInvalid("oban_jobs_lean_completed_index")]);
}

#[tokio::test]
async fn a_switch_that_was_cut_short_goes_on_and_clears_what_it_left() {
    let (db, database) = TestDb::migrated().await;
    // As a build that was ended in the middle leaves it.
    db.execute(
        "CREATE INDEX oban_jobs_lean_available_index ON oban_jobs (queue, priority, scheduled_at, id) WHERE state = 'available';
         CREATE INDEX oban_jobs_lean_staging_index ON oban_jobs (id);
         UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'oban_jobs_lean_staging_index'::regclass",
    )
    .await;
    let before = state(&database).await;
    assert_eq!((before.profile(), before.is_settled()), (None, false));
    assert_eq!(before.invalid, ["oban_jobs_lean_staging_index"]);
    let steps = switched(&database, Indexes::Lean).await;
    assert_eq!(steps[0], IndexStep::DropInvalid("oban_jobs_lean_staging_index"));
    assert!(!steps.contains(&IndexStep::Create("oban_jobs_lean_available_index")), "{steps:?}");
}

#[tokio::test]
async fn only_one_switches_at_a_time() {
    let (_db, database) = TestDb::migrated().await;
    let mut other = database.session().await.unwrap();
    // The key that a switch holds.
    let lock = "SELECT pg_advisory_lock(1 + x'53494e47554c4152'::bigint)";
    sqlx::query(lock).execute(&mut *other).await.unwrap();
    let error = switch_indexes(&database, Indexes::Lean, |_| {}).await.unwrap_err();
    assert_eq!(error.code(), "E0310", "{error}");
    assert_eq!(state(&database).await.profile(), Some(Indexes::Oban));
}

#[tokio::test]
async fn a_table_that_migrations_make_gets_the_configured_profile_and_one_that_is_there_keeps_its_own() {
    let db = TestDb::new().await;
    let lean = PoolOptions { indexes: Indexes::Lean, ..PoolOptions::default() };
    let database = Database::connect(db.url(), &lean).await.unwrap();
    migrate::up(&database).await.unwrap();
    assert_eq!(state(&database).await.profile(), Some(Indexes::Lean));
    let oban = Database::connect(db.url(), &PoolOptions::default()).await.unwrap();
    migrate::up(&oban).await.unwrap();
    assert_eq!(state(&oban).await.profile(), Some(Indexes::Lean));
}

#[tokio::test]
async fn a_table_is_tuned_unless_somebody_tunes_it() {
    let (_db, database) = TestDb::migrated().await;
    assert_eq!(migrate::status(&database).await.unwrap().tuning, Some(Tuning::Queue));

    let db = TestDb::new().await;
    let database = db.connect("public").await;
    // The table is there before, with a setting of its owner's.
    let oban = include_str!("../../migrations/0001_oban.sql");
    db.execute(format!("{oban}; ALTER TABLE oban_jobs SET (fillfactor = 70)")).await;
    migrate::up(&database).await.unwrap();
    let tuning = migrate::status(&database).await.unwrap().tuning;
    assert_eq!(tuning, Some(Tuning::Others(vec!["fillfactor=70".into()])));
}

#[tokio::test]
async fn who_keeps_dead_rows_is_named() {
    let (_db, database) = TestDb::migrated().await;
    assert_eq!(horizon::oldest_pin(&database, Duration::from_secs(3_600)).await.unwrap(), None);
    let mut open = database.session().await.unwrap();
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ").execute(&mut *open).await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *open).await.unwrap();
    let pin = horizon::oldest_pin(&database, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!((pin.kind.as_str(), pin.name.as_str()), ("session", pid.to_string().as_str()), "{pin}");
    assert!(pin.way_out().contains(&format!("pg_terminate_backend({pid})")), "{}", pin.way_out());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_switches_and_says_what_is_lost_and_status_and_doctor_say_what_is_there() {
    let (db, _database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let lean = run(&place, &["migrate", "indexes", "lean"]).done();
    assert_eq!(lean.out, "oban_jobs in schema public has the lean indexes now\n");
    assert!(lean.err.contains("building oban_jobs_lean_available_index"), "{}", lean.err);
    assert!(lean.err.contains("unique jobs") && lean.err.contains("migrate indexes oban"), "{}", lean.err);
    let status = run(&place, &["migrate", "status"]).done();
    assert!(status.out.contains("oban_jobs: lean indexes\n"), "{}", status.out);
    assert!(status.out.contains("oban_jobs: cleared early by autovacuum"), "{}", status.out);
    let doctor = run(&place, &["doctor"]);
    assert!(doctor.out.contains("lean indexes; cleared early") && doctor.out.contains("vacuum"), "{}", doctor.out);
    let back = run(&place, &["migrate", "indexes", "oban", "--json"]).done();
    let document = back.document("singularity.migrate_indexes.v1");
    assert_eq!((document["created"].as_array().unwrap().len(), &document["indexes"]), (5, &json!("oban")));
    run(&place, &["migrate", "indexes", "fat"]).refused(2, &["write oban or lean"]);
}
