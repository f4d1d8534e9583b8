//! What CentralCloud forgets, and what it does not.

use std::time::Duration;

use singularity::cloud::{Keep, Names, RetentionStore, pgmq};
use singularity::postgres::Database;

use crate::support::db::TestDb;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

async fn execute(database: &Database, sql: &'static str) {
    sqlx::raw_sql(sql).execute(database).await.unwrap();
}

async fn count(database: &Database, from: &str) -> i64 {
    let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {from}"));
    sqlx::query_scalar(sql).fetch_one(database).await.unwrap()
}

async fn create(database: &Database, queue: &str) {
    pgmq::create(&mut database.pool().acquire().await.unwrap(), queue).await.unwrap();
}

#[tokio::test]
async fn single_parts_have_an_end_and_sums_have_none() {
    let (_db, database) = TestDb::migrated().await;
    create(&database, "centralcloud_updates").await;
    create(&database, "centralcloud_updates_dlq").await;
    execute(
        &database,
        "INSERT INTO central_results (job_id, attempt, success, instance_id, job_type, outcome, duration_ms, completed_at,
                                      received_at)
           SELECT n, 1, true, 'a', 'x', 'success', 1, now(), now() - n * interval '1 day' FROM generate_series(0, 9) n;
         INSERT INTO central_reports (report_key, instance_id, period_end, job_count, body, received_at)
           SELECT 'a:' || n, 'a', now(), 1, '{}', now() - n * interval '1 day' FROM generate_series(0, 9) n;
         INSERT INTO model_performance (job_type, instance_id, attempts, first_at, last_at)
           VALUES ('x', 'a', 10, now() - interval '10 years', now() - interval '9 years');
         SELECT pgmq.send('centralcloud_updates', '{}'), pgmq.send('centralcloud_updates', '{}');
         SELECT pgmq.archive('centralcloud_updates', 1::bigint), pgmq.archive('centralcloud_updates', 2::bigint);
         SELECT pgmq.send('centralcloud_updates_dlq', '{}'), pgmq.send('centralcloud_updates_dlq', '{}');
         UPDATE pgmq.a_centralcloud_updates SET archived_at = now() - interval '2 days' WHERE msg_id = 1;
         UPDATE pgmq.q_centralcloud_updates_dlq SET enqueued_at = now() - interval '2 days' WHERE msg_id = 1;",
    )
    .await;
    let store = RetentionStore::new(database.clone());
    let keep = Keep { results: 5 * DAY - HOUR, reports: 2 * DAY - HOUR, letters: DAY };
    assert_eq!(store.forget(&keep).await.unwrap(), 5 + 8 + 1 + 1);
    assert_eq!(count(&database, "central_results").await, 5);
    assert_eq!(count(&database, "central_reports").await, 2);
    assert_eq!(count(&database, "model_performance WHERE attempts = 10").await, 1);
    assert_eq!(count(&database, "pgmq.a_centralcloud_updates").await, 1);
    assert_eq!(count(&database, "pgmq.q_centralcloud_updates_dlq").await, 1);
    assert_eq!(store.forget(&keep).await.unwrap(), 0);
}

#[tokio::test]
async fn queues_of_instances_that_are_gone_are_dropped_when_all_is_taken_in() {
    let (_db, database) = TestDb::migrated().await;
    let names = Names::new(database.schema());
    for (instance_id, status) in [("gone", "offline"), ("back", "online"), ("full", "offline"), ("dead", "offline")] {
        create(&database, &names.results(instance_id)).await;
        sqlx::query(
            "WITH there AS (
               INSERT INTO instance_registry (instance_id, incarnation, hostname, pid, status, version, last_heartbeat)
               VALUES ($1, gen_random_uuid(), 'h', '1', $2, '0', now() - interval '1 hour'))
             INSERT INTO report_cursors (instance_id, queue, reported_at) VALUES ($1, $3, now() - interval '1 hour')",
        )
        .bind(instance_id)
        .bind(status)
        .bind(names.results(instance_id))
        .execute(&database)
        .await
        .unwrap();
    }
    create(&database, "dead_results_dlq").await;
    execute(&database, "SELECT pgmq.send('full_results', '{}'), pgmq.send('dead_results_dlq', '{}')").await;
    let store = RetentionStore::new(database.clone());
    assert_eq!(store.drop_idle_queues().await.unwrap(), 1);
    let there = async |instance_id: &str| pgmq::exists(&database, &names.results(instance_id)).await.unwrap();
    assert!(!there("gone").await);
    assert!(there("back").await && there("full").await && there("dead").await);
    assert_eq!(count(&database, "report_cursors WHERE queue IS NULL").await, 1);
    // When nothing is left in it, and nothing of it is with the dead letters.
    execute(&database, "SELECT pgmq.delete('full_results', 1::bigint), pgmq.delete('dead_results_dlq', 1::bigint)")
        .await;
    assert_eq!(store.drop_idle_queues().await.unwrap(), 2);
    assert_eq!(count(&database, "pgmq.meta WHERE queue_name LIKE '%\\_dlq'").await, 0);
}
