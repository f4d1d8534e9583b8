//! Fleets of real processes that are killed, and sums that are right nevertheless.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::cli_support::run;
use crate::support::db::TestDb;
use crate::support::process::{Place, Running, until};

/// Reports and ingestion at a pace that tests can wait for, answers within a millisecond, one in a hundred a failure.
const QUICK: &str = r#"
[cloud]
report_interval = "150ms"
[central]
ingest_interval = "30ms"
[instance]
heartbeat = "250ms"
stale_after = "10s"
[services.lifeline]
interval = "200ms"
[runtime]
shutdown_grace = "5s"
job_threads = 1
[queues.default]
limit = 10
[workflows.llm_request]
max_attempts = 3
[models.sim_flash.simulated]
latency = "1ms"
failure_rate = 0.01
"#;

/// What a fleet did, or what is known of it: jobs that succeeded, attempts, cost, tokens in and out, latency.
type Sums = (i64, i64, i64, i64, i64, i64);

const SOURCE: &str = "SELECT count(*) FILTER (WHERE success), count(*), coalesce(sum(cost_nanousd), 0)::bigint,
    coalesce(sum(tokens_input), 0)::bigint, coalesce(sum(tokens_output), 0)::bigint, sum(duration_ms)::bigint
    FROM job_results";
const CENTRAL: &str = "SELECT count(*) FILTER (WHERE success), count(*), coalesce(sum(cost_nanousd), 0)::bigint,
    coalesce(sum(tokens_input), 0)::bigint, coalesce(sum(tokens_output), 0)::bigint, sum(duration_ms)::bigint
    FROM central_results";
const PERFORMANCE: &str = "SELECT sum(successes)::bigint, sum(attempts)::bigint, sum(cost_nanousd)::bigint,
    sum(tokens_input)::bigint, sum(tokens_output)::bigint, sum(latency_ms)::bigint FROM model_performance";
const REPORTS: &str = "SELECT sum((s ->> 'successes')::bigint)::bigint, sum((s ->> 'attempts')::bigint)::bigint,
    sum((s ->> 'cost_nanousd')::numeric)::bigint, sum((s ->> 'tokens_input')::numeric)::bigint,
    sum((s ->> 'tokens_output')::numeric)::bigint, sum((s ->> 'latency_ms')::numeric)::bigint
    FROM central_reports, jsonb_array_elements(body -> 'sums') s";

async fn sums(pool: &PgPool, sql: &'static str) -> Sums {
    sqlx::query_as(sql).fetch_one(pool).await.unwrap()
}

async fn scalar(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn enqueue(pool: &PgPool, jobs: i64, from: i64) {
    sqlx::query(
        "INSERT INTO oban_jobs (worker, args, max_attempts)
         SELECT 'llm_request', jsonb_build_object('prompt', 'question ' || n, 'model', 'sim_flash'), 3
         FROM generate_series($2::bigint, $2 + $1 - 1) n",
    )
    .bind(jobs)
    .bind(from)
    .execute(pool)
    .await
    .unwrap();
}

/// Waits for the end of all work: attempts that failed get no other.
async fn no_more_attempts(pool: &PgPool) {
    until("no more attempts", || async {
        let given_up = "WITH given_up AS (
                          UPDATE oban_jobs SET state = 'cancelled', cancelled_at = now() WHERE state = 'retryable'
                        )
                        SELECT count(*) FROM oban_jobs
                        WHERE state IN ('available', 'scheduled', 'executing', 'retryable')";
        (scalar(pool, given_up).await == 0).then_some(())
    })
    .await;
}

/// Waits until CentralCloud has all that there is. Retries of failed attempts may be far off; they are left out.
async fn all_known(pool: &PgPool) {
    until("nothing under way", || async {
        let open = "SELECT count(*) FROM oban_jobs WHERE state IN ('available', 'executing')";
        (scalar(pool, open).await == 0).then_some(())
    })
    .await;
    until("all results at CentralCloud", || async {
        let (source, central) = (sums(pool, SOURCE).await, scalar(pool, "SELECT count(*) FROM central_results").await);
        let told = "SELECT coalesce(sum(job_count), 0)::bigint FROM central_reports";
        (source.1 == central && scalar(pool, told).await >= source.1).then_some(())
    })
    .await;
}

/// What is known is what was done, in each of the three places that keep it.
async fn assert_exact(pool: &PgPool) -> Sums {
    let source = sums(pool, SOURCE).await;
    assert_eq!(sums(pool, CENTRAL).await, source, "single results");
    assert_eq!(sums(pool, PERFORMANCE).await, source, "performance");
    assert_eq!(sums(pool, REPORTS).await, source, "aggregates");
    source
}

fn start(place: &Place, id: &str, role: &str) -> Running {
    place.start(&["--instance-id", id, "--role", role]).0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ran_twice_through_a_crash_counts_once_everywhere() {
    let (db, database) = TestDb::migrated().await;
    let (place, pool) = (Place::new(&db, QUICK), database.pool());
    let hub = start(&place, "hub", "central");
    let one = start(&place, "one", "member");
    enqueue(pool, 1, 1).await;
    until("its result", || async { (scalar(pool, "SELECT count(*) FROM job_results").await == 1).then_some(()) }).await;
    until("its end", || async {
        (scalar(pool, "SELECT count(*) FROM oban_jobs WHERE state = 'completed'").await == 1).then_some(())
    })
    .await;
    all_known(pool).await;
    one.signal("KILL");
    one.finish();
    // As if it had died after the result was stored and before the job was.
    sqlx::query("UPDATE oban_jobs SET state = 'executing', completed_at = NULL").execute(pool).await.unwrap();
    let two = start(&place, "two", "member");
    until("a second attempt", || async {
        let sql = "SELECT count(*) FROM oban_jobs WHERE state = 'completed' AND attempt = 2";
        (scalar(pool, sql).await == 1).then_some(())
    })
    .await;
    two.signal("TERM");
    two.finish();
    all_known(pool).await;
    let known = assert_exact(pool).await;
    assert_eq!((known.0, known.1), (1, 1));
    assert_eq!(scalar(pool, "SELECT sum(job_count)::bigint FROM central_reports").await, 1);
    hub.signal("TERM");
    hub.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_in_order_leaves_nothing_unreported() {
    let (db, database) = TestDb::migrated().await;
    // The next regular report would come in an hour.
    let slow = QUICK.replace("150ms", "1h");
    let (place, pool) = (Place::new(&db, &slow), database.pool());
    let one = start(&place, "one", "both");
    enqueue(pool, 50, 1).await;
    until("the end of all", || async {
        let open = "SELECT count(*) FROM oban_jobs WHERE state IN ('available', 'executing')";
        (scalar(pool, open).await == 0).then_some(())
    })
    .await;
    assert_eq!(scalar(pool, "SELECT count(*) FROM central_results").await, 0);
    one.signal("TERM");
    one.finish();
    // Whoever comes next takes it in, and tells what a transaction of somebody else may have kept from that report.
    let two = start(&place, "two", "central");
    all_known(pool).await;
    assert_exact(pool).await;
    two.signal("TERM");
    two.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_are_exact_after_kill_9_of_instances_and_of_centralcloud_at_random_moments() {
    const JOBS: i64 = 6_000;
    const KILLS: usize = 10;
    let seed = std::env::var("CLOUD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("CLOUD_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (db, database) = TestDb::migrated().await;
    let (place, pool) = (Place::new(&db, QUICK), database.pool());
    let members = [("a", "member"), ("b", "member"), ("c", "member"), ("hub", "central")];
    let mut fleet: Vec<Running> = members.iter().map(|(id, role)| start(&place, id, role)).collect();
    enqueue(pool, JOBS, 1).await;
    for kill in 1..=KILLS {
        // Spread over the whole of the work, whatever the machine's speed.
        let share = JOBS * i64::try_from(kill).unwrap() / i64::try_from(KILLS + 1).unwrap();
        let moment = share - random.random_range(0..JOBS / 20);
        until("some results", || async {
            (scalar(pool, "SELECT count(*) FROM job_results").await >= moment).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
        // CentralCloud as often as all others together.
        let victim = if random.random() { 3 } else { random.random_range(0..3) };
        fleet[victim].signal("KILL");
        fleet[victim].wait();
        let (id, role) = members[victim];
        println!("kill {kill}: {id} after {} results", scalar(pool, "SELECT count(*) FROM job_results").await);
        fleet[victim] = start(&place, id, role);
    }
    // One stays away: what it did not report, another reports.
    let last = fleet.remove(random.random_range(0..3));
    last.signal("KILL");
    last.finish();
    no_more_attempts(pool).await;
    all_known(pool).await;
    let source = assert_exact(pool).await;
    println!("successes, attempts, cost, tokens in and out, latency: {source:?}");
    assert!(source.1 >= JOBS, "{source:?}");
    assert_eq!(scalar(pool, "SELECT count(DISTINCT job_id) FROM central_results WHERE success").await, source.0);
    assert!(source.2 > 0 && source.3 > 0 && source.4 > 0, "{source:?}");
    let shown = run(&place, &["cloud", "show", "--json"]).done().document("singularity.cloud.v1");
    assert_eq!(shown["totals"]["attempts"], source.1);
    assert!(shown["reporters"].as_array().unwrap().iter().all(|row| row["unreported"] == 0), "{shown}");
    let dead = run(&place, &["cloud", "dead", "--json"]).done().document("singularity.cloud_dead.v1");
    assert_eq!(dead["letters"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_reports_and_why_a_message_could_not_be_used() {
    let (db, database) = TestDb::migrated().await;
    let (place, pool) = (Place::new(&db, QUICK), database.pool());
    let hub = start(&place, "hub", "both");
    enqueue(pool, 3, 1).await;
    all_known(pool).await;
    sqlx::query("SELECT pgmq.send('centralcloud_updates', '{\"v\": 7}'::jsonb)").execute(pool).await.unwrap();
    until("the dead letter", || async {
        let dead = run(&place, &["cloud", "dead", "--json"]).done().document("singularity.cloud_dead.v1");
        let letter: &Value = dead["letters"].get(0)?;
        assert_eq!((&letter["queue"], &letter["message"]), (&json!("centralcloud_updates"), &json!({ "v": 7 })));
        Some(())
    })
    .await;
    let said = run(&place, &["cloud", "dead"]).done().out;
    assert!(said.contains("version 7 is not known, only 1 is"), "{said}");
    let said = run(&place, &["cloud", "show"]).done();
    for part in ["attempts", "hub", "online", "hub_results", "centralcloud_updates"] {
        assert!(said.out.contains(part), "{part:?} is not in {}", said.out);
    }
    assert!(said.err.contains("cloud dead"), "{}", said.err);
    hub.signal("TERM");
    hub.finish();
}
