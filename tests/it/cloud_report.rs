//! UP, without processes: what is reported, by whom, and that nothing is missed or told twice.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use singularity::cloud::{Names, Reports, pgmq};
use singularity::config::Period;
use singularity::postgres::Database;
use sqlx::{PgExecutor, PgPool};

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode};
use crate::support::process::until;

/// Writes a result of instance `a` with this id, which is the job's too.
async fn result<'e>(executor: impl PgExecutor<'e>, id: i64, instance_id: &str) {
    sqlx::query(
        "INSERT INTO job_results (id, job_id, attempt, instance_id, job_type, workflow_type, success, duration_ms,
                                  cost_nanousd, model_used, tokens_input, tokens_output)
         VALUES ($1, $1, 1, $2, 'llm_request', 'LlmRequest', true, 100, 5, 'm', 1, 2)",
    )
    .bind(id)
    .bind(instance_id)
    .execute(executor)
    .await
    .unwrap();
}

async fn messages(pool: &PgPool, queue: &str) -> Vec<Value> {
    let rows: Vec<(Value,)> =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("SELECT message FROM pgmq.q_{queue} ORDER BY msg_id")))
            .fetch_all(pool)
            .await
            .unwrap();
    rows.into_iter().map(|row| row.0).collect()
}

/// Jobs in the records of all messages of a queue, in order.
async fn reported(pool: &PgPool, queue: &str) -> Vec<i64> {
    let messages = messages(pool, queue).await;
    let records = messages.iter().flat_map(|message| message["records"].as_array().unwrap());
    records.map(|record| record["job_id"].as_i64().unwrap()).collect()
}

/// Reports until so many results are told. Transactions of other tests on the same server hold up reports for a moment.
async fn send(reports: &Reports, instance_id: &str, reporter: &str, results: usize) {
    let told = AtomicUsize::new(0);
    until("reports", || async {
        let sent = reports.send(instance_id, reporter).await.unwrap().results;
        (told.fetch_add(sent, Ordering::Relaxed) + sent >= results).then_some(())
    })
    .await;
    assert_eq!(told.into_inner(), results);
}

async fn started(instance_id: &str) -> (TestDb, Database, Reports) {
    let (db, database) = TestDb::migrated().await;
    let reports = Reports::new(database.clone());
    reports.begin(instance_id).await.unwrap();
    (db, database, reports)
}

#[tokio::test]
async fn results_become_records_and_one_aggregate_and_are_not_told_again() {
    let (_db, database, reports) = started("a").await;
    assert_eq!(reports.send("a", "a").await.unwrap().results, 0);
    assert!(!pgmq::exists(&database, "a_results").await.unwrap(), "nothing to report is no message");
    // In one transaction, so that they become visible to reports together.
    let mut transaction = database.pool().begin().await.unwrap();
    for id in 1..=250 {
        result(&mut *transaction, id, "a").await;
    }
    result(&mut *transaction, 1_000, "b").await;
    transaction.commit().await.unwrap();
    send(&reports, "a", "a", 250).await;
    assert_eq!(reports.send("a", "a").await.unwrap().results, 0);

    let pool = database.pool();
    assert_eq!(reported(pool, "a_results").await, (1..=250).collect::<Vec<i64>>());
    assert_eq!(messages(pool, "a_results").await.len(), 3);
    let headers: Vec<Value> =
        sqlx::query_scalar("SELECT headers FROM pgmq.q_a_results ORDER BY msg_id").fetch_all(pool).await.unwrap();
    assert_eq!(headers[2], json!({ "instance_id": "a", "key": "a:1:2" }));
    let updates = messages(pool, "centralcloud_updates").await;
    let [update] = updates.as_slice() else { panic!("{updates:?}") };
    let expected = json!({
        "v": 1, "instance_id": "a", "report_key": "a:1", "job_count": 250, "failures": 0, "success_rate": 1.0,
        "avg_cost_cents": 0.000_000_5, "avg_latency_ms": 100.0, "models_used": [{ "model": "m", "count": 250 }],
        "total_tokens": 750, "reported_by": "a",
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&update[key], value, "{key}");
    }
    assert_eq!(update["sums"][0]["cost_nanousd"], 1_250);
}

#[tokio::test]
async fn a_result_that_is_committed_late_is_reported_nevertheless_and_once() {
    let (_db, database, reports) = started("a").await;
    let pool = database.pool();
    // Its transaction begins before those of all others, and it has the lowest id.
    let mut late = pool.begin().await.unwrap();
    result(&mut *late, 1, "a").await;
    result(pool, 2, "a").await;
    // What lies after it waits for it, so that the cursor does not go past it.
    assert_eq!(reports.send("a", "a").await.unwrap().results, 0);
    late.commit().await.unwrap();
    send(&reports, "a", "a", 2).await;

    // One that has taken its id before another one was reported, and writes its row after that.
    result(pool, 11, "a").await;
    send(&reports, "a", "a", 1).await;
    result(pool, 10, "a").await;
    send(&reports, "a", "a", 1).await;

    // One that is rolled back holds up nothing for ever and is never told.
    let mut never = pool.begin().await.unwrap();
    result(&mut *never, 20, "a").await;
    result(pool, 21, "a").await;
    never.rollback().await.unwrap();
    send(&reports, "a", "a", 1).await;
    assert_eq!(reported(pool, "a_results").await, [1, 2, 11, 10, 21]);
}

/// Numbers of transactions as after a dump from a server that had counted much further than this one.
async fn moved_here(pool: &PgPool) {
    for table in ["job_results", "report_cursors"] {
        let moved =
            format!("UPDATE {table} SET recorded_xid = (recorded_xid::text::bigint + 1000000000000)::text::xid8");
        sqlx::query(sqlx::AssertSqlSafe(moved)).execute(pool).await.unwrap();
    }
}

#[tokio::test]
async fn a_database_that_was_moved_to_another_server_reports_the_rest_and_nothing_twice() {
    let (_db, database, reports) = started("a").await;
    let pool = database.pool();
    reports.begin("b").await.unwrap();
    for (id, instance_id) in [(1, "a"), (2, "b"), (3, "a")] {
        result(pool, id, instance_id).await;
    }
    send(&reports, "a", "a", 2).await;
    send(&reports, "b", "b", 1).await;
    result(pool, 4, "a").await;
    result(pool, 5, "b").await;
    // One that never reported, and one whose cursor is at the beginning.
    result(pool, 6, "c").await;
    moved_here(pool).await;
    sqlx::query("INSERT INTO report_cursors (instance_id) VALUES ('d')").execute(pool).await.unwrap();
    // Written here before anybody looked.
    result(pool, 7, "a").await;
    result(pool, 8, "d").await;
    reports.begin("a").await.unwrap();
    assert_eq!(reports.adopt().await.unwrap(), Some(4), "4, 5, 6 and 7; nothing was wrong with 8");
    assert_eq!(reports.adopt().await.unwrap(), None);
    result(pool, 9, "a").await;
    for (instance_id, results) in [("a", 3), ("b", 1), ("c", 1), ("d", 1)] {
        send(&reports, instance_id, "a", results).await;
    }
    assert_eq!(reported(pool, "a_results").await, [1, 3, 4, 7, 9]);
    for (queue, jobs) in [("b_results", vec![2, 5]), ("c_results", vec![6]), ("d_results", vec![8])] {
        assert_eq!(reported(pool, queue).await, jobs, "{queue}");
    }
    // And moved once more, with nothing left to report.
    moved_here(pool).await;
    assert_eq!(reports.adopt().await.unwrap(), Some(0));
    result(pool, 10, "a").await;
    send(&reports, "a", "a", 1).await;
    assert_eq!(reports.send("b", "a").await.unwrap().results, 0);
    assert_eq!(reported(pool, "a_results").await, [1, 3, 4, 7, 9, 10]);
}

#[tokio::test]
async fn an_instance_goes_on_reporting_whose_database_is_moved_while_it_runs() {
    let (db, database) = TestDb::migrated().await;
    let pool = database.pool();
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |config| {
        config.cloud.report_interval = Period::from_millis(50);
    })
    .await;
    let told = |id: i64| async move {
        let newest: Option<i64> = sqlx::query_scalar("SELECT result_id FROM report_cursors WHERE instance_id = 'one'")
            .fetch_optional(pool)
            .await
            .unwrap();
        (newest == Some(id)).then_some(())
    };
    result(pool, 1, "one").await;
    until("the first report", || told(1)).await;
    moved_here(pool).await;
    result(pool, 2, "one").await;
    until("the report after it", || told(2)).await;
    node.shutdown().await;
}

#[tokio::test]
async fn while_results_are_written_all_the_time_each_is_reported_once() {
    let (_db, database, reports) = started("a").await;
    let writers = (0..4_i64).map(|writer| {
        let database = database.clone();
        async move {
            for n in 0..50 {
                let mut transaction = database.pool().begin().await.unwrap();
                result(&mut *transaction, 1 + 4 * n + writer, "a").await;
                tokio::task::yield_now().await;
                transaction.commit().await.unwrap();
            }
        }
    });
    let written = futures_util::future::join_all(writers);
    // Two at once, as when an instance is thought to be dead and is not.
    let reporters = ["a", "b"].map(|reporter| {
        let reports = reports.clone();
        async move {
            for _ in 0..60 {
                reports.send("a", reporter).await.unwrap();
            }
        }
    });
    tokio::join!(written, futures_util::future::join_all(reporters));
    until("the rest", || async {
        reports.send("a", "a").await.unwrap();
        (pgmq::exists(&database, "a_results").await.unwrap()
            && reported(database.pool(), "a_results").await.len() >= 200)
            .then_some(())
    })
    .await;
    let mut told = reported(database.pool(), "a_results").await;
    told.sort_unstable();
    assert_eq!(told, (1..=200).collect::<Vec<i64>>());
    let keys: Vec<String> = messages(database.pool(), "centralcloud_updates")
        .await
        .iter()
        .map(|message| message["report_key"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(keys, (1..=keys.len()).map(|number| format!("a:{number}")).collect::<Vec<_>>(), "numbers without gaps");
}

#[tokio::test]
async fn those_who_cannot_report_are_reported_for() {
    let (_db, database, reports) = started("alive").await;
    let pool = database.pool();
    for (instance_id, status) in [("alive", "online"), ("dead", "offline"), ("idle", "offline")] {
        sqlx::query(
            "INSERT INTO instance_registry (instance_id, incarnation, hostname, pid, status, version)
             VALUES ($1, gen_random_uuid(), 'h', '1', $2, '0')",
        )
        .bind(instance_id)
        .bind(status)
        .execute(pool)
        .await
        .unwrap();
    }
    for (id, instance_id) in [(1, "alive"), (2, "dead"), (3, "forgotten:7")] {
        result(pool, id, instance_id).await;
    }
    // Whoever begins knows also of those that never had a cursor.
    reports.begin("alive").await.unwrap();
    until("both", || async { (reports.absent().await.unwrap() == ["dead", "forgotten:7"]).then_some(()) }).await;
    for absent in ["dead", "forgotten:7"] {
        send(&reports, absent, "alive", 1).await;
    }
    assert_eq!(reports.absent().await.unwrap(), Vec::<String>::new());
    assert_eq!(reported(pool, "dead_results").await, [2]);
    assert_eq!(reported(pool, &Names::new(database.schema()).results("forgotten:7")).await, [3]);
    let by: Vec<Value> =
        messages(pool, "centralcloud_updates").await.iter().map(|m| m["reported_by"].clone()).collect();
    assert_eq!(by, ["alive", "alive"]);
}
