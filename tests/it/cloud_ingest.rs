//! CentralCloud takes in what is good, once, and puts aside what is not, whatever it is.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use singularity::cloud::{Names, pgmq};
use singularity::config::{Config, Period, Role};
use singularity::postgres::{Database, migrate};
use sqlx::PgPool;

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, until};

/// Random messages in one test.
const MESSAGES: usize = 300;

fn quick(config: &mut Config) {
    config.cloud.role = Role::Central;
    config.central.ingest_interval = Period::from_millis(20);
}

async fn central(db: &TestDb) -> TestNode {
    TestNode::start(db.url(), "hub", &Fixture::new(), quick).await
}

/// A queue of results as a report makes it.
async fn queue_of(database: &Database, instance_id: &str) -> String {
    let queue = Names::new(database.schema()).results(instance_id);
    pgmq::create(&mut database.pool().acquire().await.unwrap(), &queue).await.unwrap();
    sqlx::query("INSERT INTO report_cursors (instance_id, queue) VALUES ($1, $2)")
        .bind(instance_id)
        .bind(&queue)
        .execute(database)
        .await
        .unwrap();
    queue
}

/// Sends anything, also what is no JSON of ours; `None` is SQL's NULL.
async fn send(database: &Database, queue: &str, body: Option<&str>) {
    sqlx::query("SELECT pgmq.send($1::text, $2::text::jsonb)").bind(queue).bind(body).execute(database).await.unwrap();
}

fn record(job_id: i64, attempt: i32, success: bool, cost_nanousd: Option<i64>) -> Value {
    json!({
        "job_id": job_id, "attempt": attempt, "success": success, "job_type": "llm_request", "route": "complex",
        "provider": "p", "model": "m", "outcome": if success { "success" } else { "failure" },
        "cost_nanousd": cost_nanousd, "tokens_input": 1, "tokens_output": 2, "duration_ms": job_id,
        "completed_at": "2026-01-02T03:04:05Z", "patterns": ["a>b"],
    })
}

fn message(instance_id: &str, records: &[Value]) -> String {
    json!({ "v": 1, "instance_id": instance_id, "records": records }).to_string()
}

async fn scalar(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn results(pool: &PgPool, count: i64) {
    until("results", || async { (scalar(pool, "SELECT count(*) FROM central_results").await >= count).then_some(()) })
        .await;
}

/// Reasons in a queue's dead letters, once there are so many.
async fn reasons(database: &Database, queue: &str, count: usize) -> Vec<String> {
    let dead = Names::dead_letters(queue);
    until("dead letters", || async {
        if !pgmq::exists(database, &dead).await.unwrap() {
            return None;
        }
        let sql = sqlx::AssertSqlSafe(format!("SELECT headers ->> 'reason' FROM pgmq.q_{dead} ORDER BY msg_id"));
        let reasons: Vec<String> = sqlx::query_scalar(sql).fetch_all(database).await.unwrap();
        (reasons.len() >= count).then_some(reasons)
    })
    .await
}

#[tokio::test]
async fn a_node_of_a_library_takes_nothing_in_not_even_at_its_end() {
    let (db, database) = TestDb::migrated().await;
    let queue = queue_of(&database, "gone").await;
    send(&database, &queue, Some(&message("gone", &[record(1, 1, true, None)]))).await;
    let node = TestNode::library(db.url(), "library", &Fixture::new(), |config| config.cloud.role = Role::Both).await;
    node.shutdown().await;
    let reads: i32 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT read_ct FROM pgmq.q_{queue}")))
        .fetch_one(&database)
        .await
        .unwrap();
    assert_eq!((reads, scalar(database.pool(), "SELECT count(*) FROM central_results").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_twice_counts_once_and_sums_are_exact() {
    let (db, database) = TestDb::migrated().await;
    let queue = queue_of(&database, "a").await;
    let first =
        message("a", &[record(1, 1, false, Some(7)), record(1, 2, true, Some(1_000)), record(2, 1, true, None)]);
    send(&database, &queue, Some(&first)).await;
    // All of it again, in other company; a success of another attempt of the same job; and the same twice in one
    // message.
    send(&database, &queue, Some(&message("a", &[record(2, 1, true, None), record(3, 1, true, Some(5))]))).await;
    send(&database, &queue, Some(&message("a", &[record(1, 3, true, Some(9)), record(4, 1, true, Some(1))]))).await;
    send(&database, &queue, Some(&message("a", &[record(5, 1, true, Some(2)), record(5, 1, true, Some(2))]))).await;
    send(&database, &queue, Some(&first)).await;
    let node = central(&db).await;
    let pool = database.pool();
    results(pool, 6).await;
    until("an empty queue", || async {
        (scalar(pool, "SELECT count(*) FROM pgmq.q_a_results").await == 0).then_some(())
    })
    .await;
    // A later one is merged with what is there.
    send(&database, &queue, Some(&message("a", &[record(600, 1, true, Some(i64::from(u32::MAX)))]))).await;
    results(pool, 7).await;
    let row: Value = sqlx::query_scalar("SELECT to_jsonb(m) FROM model_performance m").fetch_one(pool).await.unwrap();
    let costs = [7, 1_000, 5, 1, 2, i64::from(u32::MAX)];
    let expected = json!({
        "job_type": "llm_request", "route": "complex", "model": "m", "instance_id": "a", "attempts": 7, "successes": 6,
        "failures": 1, "refusals": 0, "infrastructure": 0, "priced": 6, "cost_nanousd": costs.iter().sum::<i64>(),
        "tokens_input": 7, "tokens_output": 14, "latency_ms": 1 + 1 + 2 + 3 + 4 + 5 + 600,
        "latency_counts": [2, 2, 2, 0, 0, 0, 0, 0, 0, 1],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&row[key], value, "{key}");
    }
    let squares: String =
        sqlx::query_scalar("SELECT cost_nanousd_squared::text FROM model_performance").fetch_one(pool).await.unwrap();
    assert_eq!(squares, costs.iter().map(|cost| i128::from(*cost).pow(2)).sum::<i128>().to_string());
    let pattern: (i64, i64) = sqlx::query_as("SELECT occurrences, successes FROM pattern_library WHERE name = 'a>b'")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(pattern, (7, 6));
    assert!(!pgmq::exists(&database, "a_results_dlq").await.unwrap(), "all of it was good");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_the_wrong_shape_stops_nothing_and_is_found_with_its_reason() {
    let (db, database) = TestDb::migrated().await;
    let queue = queue_of(&database, "a").await;
    let updates = Names::new(database.schema()).updates();
    pgmq::create(&mut database.pool().acquire().await.unwrap(), &updates).await.unwrap();
    let huge = format!("{{\"v\":1,\"instance_id\":\"a\",\"records\":[{{\"job_id\":1{}}}]}}", "0".repeat(400));
    let late = message("a", &[record(1, 1, true, None)]).replace("2026-01-02", "9999-99-99");
    let bad: [(Option<&str>, &str); 7] = [
        (None, "NULL"),
        (Some("[1]"), "no object"),
        (Some("{}"), "missing field `v`"),
        (Some(r#"{"v":99}"#), "version 99 is not known"),
        (Some(r#"{"v":1,"instance_id":7,"records":[]}"#), "invalid type"),
        (Some(&huge), "number out of range"),
        (Some(&late), "out of range"),
    ];
    let report = json!({
        "v": 1, "report_key": "b:1", "instance_id": "b", "reported_by": "b", "timestamp": "2026-01-02T03:04:05Z",
        "period_seconds": 30, "period_start": "2026-01-02T03:04:05Z", "period_end": "2026-01-02T03:04:35Z",
        "job_count": 1, "failures": 0, "success_rate": 1.0, "avg_cost_cents": null, "avg_latency_ms": 1.0,
        "models_used": [], "patterns_discovered": [], "total_tokens": 1, "sums": [],
    });
    for (body, _) in &bad {
        send(&database, &queue, *body).await;
        send(&database, &updates, *body).await;
    }
    send(&database, &queue, Some(&message("a", &[record(1, 1, true, None)]))).await;
    send(&database, &updates, Some(&report.to_string())).await;
    let node = central(&db).await;
    results(database.pool(), 1).await;
    until("the report", || async {
        (scalar(database.pool(), "SELECT count(*) FROM central_reports WHERE report_key = 'b:1'").await == 1)
            .then_some(())
    })
    .await;
    for queue in [&queue, &updates] {
        let reasons = reasons(&database, queue, bad.len()).await;
        for ((body, part), reason) in bad.iter().zip(&reasons) {
            // An aggregate lacks other fields, and has other numbers.
            let other = queue == &updates && reason.contains("missing field `report_key`");
            assert!(reason.contains(part) || other, "{queue}: {body:?}: {reason:?} lacks {part:?}");
        }
    }
    let headers: Value = sqlx::query_scalar("SELECT headers FROM pgmq.q_a_results_dlq ORDER BY msg_id")
        .fetch_one(&database)
        .await
        .unwrap();
    assert_eq!(
        (&headers["origin"], &headers["msg_id"], &headers["read_ct"]),
        (&json!("a_results"), &json!(1), &json!(1))
    );
    assert_eq!(scalar(database.pool(), "SELECT count(*) FROM pgmq.a_a_results").await, 7, "the originals are archived");
    assert_eq!(scalar(database.pool(), "SELECT count(*) FROM pgmq.q_a_results").await, 0);
    node.shutdown().await;
}

/// Any JSON, often with the keys of a real message.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("v".to_owned()),
        Just("instance_id".to_owned()),
        Just("records".to_owned()),
        Just("job_id".to_owned()),
        Just("report_key".to_owned()),
        "[a-z]{1,5}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_i64..3).prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        // PostgreSQL's JSON has no NUL.
        "[^\u{0}]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone(), inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

/// A good record with one field that is something else.
fn spoiled() -> impl Strategy<Value = Value> {
    let fields: Vec<String> = record(1, 1, true, Some(1)).as_object().unwrap().keys().cloned().collect();
    (proptest::sample::select(fields), any_json(), 1_000_000_i64..9_000_000).prop_map(|(field, value, id)| {
        let mut record = record(id, 1, true, Some(1));
        record[field] = value;
        json!({ "v": 1, "instance_id": "a", "records": [record] })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_is_stored_or_put_aside_and_the_good_is_all_there() {
    let (db, database) = TestDb::migrated().await;
    let queue = queue_of(&database, "a").await;
    let updates = Names::new(database.schema()).updates();
    pgmq::create(&mut database.pool().acquire().await.unwrap(), &updates).await.unwrap();
    let (mut runner, any) = (TestRunner::default(), prop_oneof![any_json(), spoiled()]);
    let mut good = 0;
    for n in 0..MESSAGES {
        let body = any.new_tree(&mut runner).unwrap().current().to_string();
        send(&database, if n % 3 == 0 { &updates } else { &queue }, Some(&body)).await;
        if n % 10 == 0 {
            good += 1;
            send(&database, &queue, Some(&message("a", &[record(good, 1, true, Some(1))]))).await;
        }
    }
    let node = central(&db).await;
    let pool = database.pool();
    let waiting = "SELECT (SELECT count(*) FROM pgmq.q_a_results) + (SELECT count(*) FROM pgmq.q_centralcloud_updates)";
    until("all dealt with", || async { (scalar(pool, waiting).await == 0).then_some(()) }).await;
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM central_results WHERE job_id <= $1")
        .bind(good)
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(stored, good);
    let nameless = "SELECT count(*) FROM (SELECT * FROM pgmq.q_a_results_dlq
                    UNION ALL SELECT * FROM pgmq.q_centralcloud_updates_dlq) d
                    WHERE coalesce(headers ->> 'reason', '') = ''";
    assert_eq!(scalar(pool, nameless).await, 0);
    let crashes = "SELECT count(*) FROM supervision_events WHERE path LIKE '/central%'";
    assert_eq!(scalar(pool, crashes).await, 0);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fleets_in_one_database_do_not_read_each_others_reports() {
    let (db, database) = TestDb::migrated().await;
    let other = db.connect("other").await;
    migrate::up(&other).await.unwrap();
    let queues = [queue_of(&database, "a").await, queue_of(&other, "a").await];
    for (database, queue, id) in [(&database, &queues[0], 1), (&other, &queues[1], 2)] {
        send(database, queue, Some(&message("a", &[record(id, 1, true, None)]))).await;
    }
    let node = central(&db).await;
    results(database.pool(), 1).await;
    let jobs: Vec<i64> = sqlx::query_scalar("SELECT job_id FROM central_results").fetch_all(&database).await.unwrap();
    assert_eq!(jobs, [1]);
    assert_eq!(scalar(other.pool(), "SELECT count(*) FROM central_results").await, 0);
    node.shutdown().await;
}
