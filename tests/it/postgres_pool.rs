//! The pool's sessions, and what it does while the server is away.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use singularity::error::Coded;
use singularity::postgres::{Database, DbError, PoolOptions, retry_unavailable};
use singularity::queue::engine::{CronDecision, CronEntryKey};
use singularity::queue::{Engine, NewJob, Unique};
use tokio_util::sync::CancellationToken;

use crate::support::db::{DEADLINE, TestDb};
use crate::support::proxy::{Mode, Proxy};

#[tokio::test]
async fn every_session_has_the_configured_settings() {
    let db = TestDb::new().await;
    db.execute("CREATE SCHEMA jobs").await;
    let options = PoolOptions {
        schema: "jobs".parse().unwrap(),
        application_name: "node-1 a\\b".into(),
        max: 2,
        statement_timeout: Duration::from_millis(1_500),
        ..PoolOptions::default()
    };
    let database = Database::connect(db.url(), &options).await.unwrap();
    for (name, value) in [
        ("search_path", "jobs"),
        ("application_name", "node-1 a\\b"),
        ("statement_timeout", "1500ms"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "1min"),
        ("TimeZone", "UTC"),
        ("tcp_keepalives_idle", "30"),
    ] {
        let found: String =
            sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(database.pool()).await.unwrap();
        assert_eq!(found, value, "{name}");
    }
    let current: String = sqlx::query_scalar("SELECT current_schema()::text").fetch_one(database.pool()).await.unwrap();
    assert_eq!(current, "jobs");
    assert_eq!(database.channel("signal"), "jobs.oban_signal");
    let before = database.server_now().await.unwrap();
    assert!(database.server_now().await.unwrap() > before);
}

#[tokio::test]
async fn tells_refusals_from_outages() {
    let db = TestDb::new().await;
    let error = Database::connect(&db.url_as("nobody_here", "x"), &PoolOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), "E0223", "{error}");
    assert!(error.hint().is_some() && !error.is_unavailable());

    let database = db.connect("public").await;
    let error: DbError = sqlx::raw_sql("SET statement_timeout = 50; SELECT pg_sleep(10)")
        .execute(database.pool())
        .await
        .unwrap_err()
        .into();
    assert!(!error.is_unavailable());
    assert_eq!(error.sqlstate().as_deref(), Some("57014"));
    assert!(error.hint().unwrap().contains("statement_timeout"));
}

#[tokio::test]
async fn survives_the_loss_of_all_connections() {
    let db = TestDb::new().await;
    let options = PoolOptions { application_name: "loses".into(), max: 4, ..PoolOptions::default() };
    let database = Database::connect(db.url(), &options).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(database.pool().acquire().await.unwrap());
    }
    drop(held);
    db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'loses' AND datname = current_database()",
    )
    .await;
    let (cancel, mut rng) = (CancellationToken::new(), StdRng::seed_from_u64(1));
    let answer = retry_unavailable(&cancel, &mut rng, || {
        let database = database.clone();
        async move { database.server_now().await }
    });
    tokio::time::timeout(DEADLINE, answer).await.unwrap().unwrap();
}

#[tokio::test]
async fn waits_until_the_server_is_back() {
    let db = TestDb::new().await;
    let proxy = Proxy::start(db.host_and_port()).await;
    let database = Database::connect(&db.url_through(proxy.address()), &PoolOptions::default()).await.unwrap();
    proxy.set(Mode::Reset);
    let error = database.server_now().await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");

    let cancel = CancellationToken::new();
    let mut rng = StdRng::seed_from_u64(1);
    let mut failures = 0;
    let answer = retry_unavailable(&cancel, &mut rng, || {
        failures += 1;
        if failures == 3 {
            proxy.set(Mode::Pass);
        }
        let database = database.clone();
        async move { database.server_now().await }
    });
    tokio::time::timeout(DEADLINE, answer).await.unwrap().unwrap();
    assert!(failures >= 3);
}

#[tokio::test]
async fn a_transaction_ends_although_its_answer_never_comes() {
    let (db, database) = TestDb::migrated().await;
    drop(database);
    let proxy = Proxy::start(db.host_and_port()).await;
    let options = PoolOptions { statement_timeout: Duration::from_millis(200), ..PoolOptions::default() };
    let engine = Engine::new(Database::connect(&db.url_through(proxy.address()), &options).await.unwrap());
    let unique = || NewJob { unique: Some(Unique::default()), ..NewJob::new("w", json!({})) };
    engine.insert(unique()).await.unwrap();
    let key = [CronEntryKey { name: "e", expr: "* * * * *", timezone: "Etc/UTC" }];
    let now = engine.cron_stand("Oban", &key, Duration::ZERO).await.unwrap().now;
    proxy.set(Mode::Blackhole);
    let error = tokio::time::timeout(DEADLINE, engine.insert(unique())).await.unwrap().unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    let decision = CronDecision { name: "e".into(), from: now, until: now, jobs: Vec::new() };
    let error = tokio::time::timeout(DEADLINE, engine.cron_decide("Oban", vec![decision])).await.unwrap().unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
}
