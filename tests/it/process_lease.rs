//! Real processes that lose their jobs: one that is killed, and one that stands still and comes back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::db::TestDb;
use crate::support::process::{Place, until};

/// The shortest that is allowed.
const STALE_AFTER: Duration = Duration::from_secs(10);
const LIFELINE: Duration = Duration::from_secs(1);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(10);

/// One slow model, and instances that are soon counted as dead.
fn config(latency: &str) -> String {
    format!(
        "[instance]\nheartbeat = \"250ms\"\nstale_after = \"{}s\"\n[services.lifeline]\ninterval = \"{}s\"\n\
         [runtime]\nshutdown_grace = \"0s\"\n[models.sim_flash.simulated]\nlatency = \"{latency}\"\njitter = 0.0\n",
        STALE_AFTER.as_secs(),
        LIFELINE.as_secs()
    )
}

async fn enqueue(place: &Place, count: usize) -> Vec<i64> {
    let args = json!({"prompt": "hello", "model": "sim_flash"}).to_string();
    let enqueue = |_| place.json(&["job", "enqueue", "llm_request", "--args", &args, "--json"])["id"].as_i64().unwrap();
    (0..count).map(enqueue).collect()
}

/// State, attempt and owner of each job.
async fn rows(pool: &PgPool) -> Vec<(String, i32, String)> {
    sqlx::query_as("SELECT state::text, attempt, COALESCE(attempted_by[1], '') FROM oban_jobs ORDER BY id")
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn all(pool: &PgPool, what: &str, wanted: impl Fn(&(String, i32, String)) -> bool) {
    until(what, || async { rows(pool).await.iter().all(&wanted).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_returns_jobs_within_stale_after_and_one_lifeline_interval() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, &config("60s"));
    let (one, _) = place.start(&["--instance-id", "one"]);
    enqueue(&place, 3).await;
    all(database.pool(), "executing", |row| row.0 == "executing").await;
    let (two, _) = place.start(&["--instance-id", "two"]);
    // As on another machine, where nobody sees that the process is gone.
    sqlx::query("UPDATE instance_registry SET host_key = 'elsewhere' WHERE instance_id = 'one'")
        .execute(database.pool())
        .await
        .unwrap();
    one.signal("KILL");
    let killed = Instant::now();
    all(database.pool(), "jobs of the other", |row| row.2 == "two" && row.1 == 2).await;
    let took = killed.elapsed();
    assert!(took <= STALE_AFTER + LIFELINE + SLACK, "it took {took:?}");
    // By the clock that decides it.
    let sql = "SELECT extract(epoch FROM min(timezone('UTC', j.attempted_at)) - max(r.last_heartbeat))::float8
               FROM oban_jobs j, instance_registry r WHERE r.instance_id = 'one'";
    let after: f64 = sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap();
    assert!(
        after >= STALE_AFTER.as_secs_f64(),
        "taken from one that may have lived, {after} s after its last heartbeat"
    );
    one.finish();
    two.signal("KILL");
    two.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stood_still_completes_no_job_that_was_given_to_another() {
    fn completer(place: &Place) -> Option<u64> {
        let document = place.json(&["tree", "/completer", "--instance", "one", "--json"]);
        fn find(value: &Value) -> Option<u64> {
            match value {
                Value::Object(map) => match map.get("superseded") {
                    Some(Value::String(count)) => count.parse().ok(),
                    _ => map.values().find_map(find),
                },
                Value::Array(items) => items.iter().find_map(find),
                _ => None,
            }
        }
        find(&document)
    }

    let (db, database) = TestDb::migrated().await;
    let pool = database.pool();
    let place = Place::new(&db, &config("4s"));
    // Before it starts, so that all begin at once, however long a command takes.
    let count = enqueue(&place, 4).await.len();
    let (one, _) = place.start(&["--instance-id", "one"]);
    all(pool, "executing", |row| row.0 == "executing").await;
    one.signal("STOP");
    let (two, _) = place.start(&["--instance-id", "two"]);
    all(pool, "jobs of the other", |row| row.2 == "two" && row.1 == 2).await;
    // It comes back while the other runs them.
    one.signal("CONT");
    all(pool, "completed", |row| row.0 == "completed").await;
    until("its results superseded", || async { (completer(&place)? == count as u64).then_some(()) }).await;
    let wanted = vec![("completed".to_owned(), 2, "two".to_owned()); count];
    assert_eq!(rows(pool).await, wanted);
    let results: Vec<(i64, String, i32)> =
        sqlx::query_as("SELECT job_id, instance_id, attempt FROM job_results WHERE success ORDER BY job_id")
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(results.len(), count, "{results:?}");
    // It is alive again and works.
    two.signal("KILL");
    two.finish();
    enqueue(&place, 1).await;
    all(pool, "one more", |row| row.0 == "completed").await;
    assert_eq!(rows(pool).await.last().unwrap().2, "one");
    one.signal("TERM");
    assert_eq!(one.finish().0.code(), Some(0));
}
